"""The client side: a channel over all endpoints of a service."""

from meshkit.client.channel import Channel
from meshkit.client.options import ChannelOptions, ChannelStatus, EndpointStatus
from meshkit.client.subchannel import ConnectionOptions

__all__ = ["Channel", "ChannelOptions", "ChannelStatus", "ConnectionOptions", "EndpointStatus"]
