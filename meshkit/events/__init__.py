"""What happened, as frozen values, for hooks: logs, metrics and tests see the same thing.

The core emits; a hook is one callable that takes an event, quickly and without waiting.
Each event knows the name and the level that its log line has.
"""

from meshkit.events.client import (
    ChannelClosed,
    ChannelOpened,
    EndpointEjected,
    EndpointFailing,
    EndpointForeign,
    EndpointReadmitted,
    EndpointReady,
)
from meshkit.events.event import (
    Emit,
    Event,
    Hook,
    emit_to,
)
from meshkit.events.mesh import (
    ConfigResolved,
    LoopStalled,
    TaskCrashed,
)
from meshkit.events.registry import (
    CacheUnusable,
    EndpointKeyDeleted,
    EndpointRegistered,
    EndpointsChanged,
    EndpointsFromCache,
    EndpointTakenOver,
    EndpointWithdrawn,
    EntrySkipped,
    LeaseLost,
    LeaseUnconfirmed,
    RegistrationPending,
    RegistryConnected,
    RegistryDisconnected,
    RegistryRefused,
    TlsReloaded,
    TlsReloadFailed,
)
from meshkit.events.server import (
    CallsRefused,
    DeadlineMissing,
    ServerDrained,
    ServerDraining,
    ServerStarted,
    StreamsCut,
)
from meshkit.events.service_config import (
    ServiceConfigChanged,
    ServiceConfigRefused,
    ServiceConfigUnreadable,
    ServiceConfigWithdrawn,
)
from meshkit.events.xds import (
    ControlPlaneStarted,
    ControlPlaneStopped,
    HostUnknown,
    XdsClientConnected,
    XdsClientLeft,
    XdsNamesRefused,
    XdsResourcesRefused,
)

__all__ = [
    "CacheUnusable",
    "CallsRefused",
    "ChannelClosed",
    "ChannelOpened",
    "ConfigResolved",
    "ControlPlaneStarted",
    "ControlPlaneStopped",
    "DeadlineMissing",
    "Emit",
    "EndpointEjected",
    "EndpointFailing",
    "EndpointForeign",
    "EndpointKeyDeleted",
    "EndpointReadmitted",
    "EndpointReady",
    "EndpointRegistered",
    "EndpointTakenOver",
    "EndpointWithdrawn",
    "EndpointsChanged",
    "EndpointsFromCache",
    "EntrySkipped",
    "Event",
    "Hook",
    "HostUnknown",
    "LeaseLost",
    "LeaseUnconfirmed",
    "LoopStalled",
    "RegistrationPending",
    "RegistryConnected",
    "RegistryDisconnected",
    "RegistryRefused",
    "ServerDrained",
    "ServerDraining",
    "ServerStarted",
    "ServiceConfigChanged",
    "ServiceConfigRefused",
    "ServiceConfigUnreadable",
    "ServiceConfigWithdrawn",
    "StreamsCut",
    "TaskCrashed",
    "TlsReloadFailed",
    "TlsReloaded",
    "XdsClientConnected",
    "XdsClientLeft",
    "XdsNamesRefused",
    "XdsResourcesRefused",
    "emit_to",
]
