"""The client side: a channel over all endpoints of a service."""

from meshkit.client.budget import RetryLimits
from meshkit.client.channel import Channel
from meshkit.client.connection import ConnectionOptions
from meshkit.client.options import ChannelOptions, ChannelStatus, EndpointStatus

__all__ = [
    "Channel",
    "ChannelOptions",
    "ChannelStatus",
    "ConnectionOptions",
    "EndpointStatus",
    "RetryLimits",
]
