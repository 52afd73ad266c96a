"""The resources of a tenant that can be limited: BifroMQ's tenant resource types by their names, and what one has.

Each has a limit (a tenant setting of the same name) and a shadow (`Shadow` before the name): a second limit that
refuses nothing and only counts what it would have refused, to try a limit out before it is set.
"""

from typing import NamedTuple

# In the order of enum Resource in core/sessions/state.pxd: totals, then rates.
TOTALS = (
    "TotalConnections",
    "TotalSessionMemoryBytes",
    "TotalPersistentSessions",
    "TotalPersistentSessionSpaceBytes",
    "TotalTransientSubscriptions",
    "TotalPersistentSubscriptions",
    "TotalSharedSubscriptions",
    "TotalRetainTopics",
    "TotalRetainMessageSpaceBytes",
)
RATES = (
    "TotalConnectPerSecond",
    "TotalInboundBytesPerSecond",
    "TotalTransientSubscribePerSecond",
    "TotalPersistentSubscribePerSecond",
    "TotalTransientUnsubscribePerSecond",
    "TotalPersistentUnsubscribePerSecond",
    "TotalRetainedMessagesPerSeconds",
    "TotalRetainedBytesPerSecond",
    "TotalRetainMatchPerSeconds",
    "TotalRetainMatchBytesPerSecond",
    "TotalTransientFanOutBytesPerSeconds",
    "TotalPersistentFanOutBytesPerSeconds",
)
RESOURCES = TOTALS + RATES


class ResourceState(NamedTuple):
    """One resource of a tenant at one moment, over all shards."""

    name: str  # one of RESOURCES
    usage: int | None  # None of a rate
    limit: int  # 0 = none
    throttled: int  # times that there was not enough
    shadow_limit: int  # 0 = none
    shadow_throttled: int  # times that there would not have been enough
