"""Sub-brokers: for each of them and each tenant that it is interested in, a courier that is kept connected.

_serve(plugin)          asks for its interests every refresh_s
  |-- _keep(tenant a)   a connection of the courier after the other; what is read and delivered goes on in the
  |-- _keep(tenant b)   plugin's loop, see courier.py
"""

import socket
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import trio

from rookery.core.topics.names import InvalidTopic, TopicRules
from rookery.core.wire.spec import QoS
from rookery.server.log import get_logger

from .contracts import Interest
from .courier import Courier, CourierRefused, DeliveryCounters
from .guard import PluginFailed
from .host import Plugin

TENANTS_PER_PLUGIN = 1000  # that one sub-broker may be interested in
RECONNECT_S = 1.0  # after a connection of a courier has ended, or was refused

# Makes a connection to the broker: of tenant, plugin. Waits while the broker is busy.
Connect = Callable[[str, str], "socket.socket"]

_log = get_logger(__name__)


class InterestError(ValueError):
    """What a sub-broker says that it wants cannot be had; the message names it."""


def sort_interests(interests: Iterable[Interest]) -> dict[str, dict[str, QoS]]:
    """By tenant: topic filters with their QoS; of one that is named twice the higher. Raises InterestError."""
    by_tenant: dict[str, dict[str, QoS]] = {}
    rules = TopicRules()
    for interest in interests:
        if not isinstance(interest, Interest) or not interest.tenant_id:
            raise InterestError(f"{interest!r} is no interest in a tenant")
        if interest.qos not in (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE):
            raise InterestError(f"qos of {interest.topic_filter!r} is {interest.qos}, it must be 0 or 1")
        try:
            rules.parse_topic_filter(interest.topic_filter)
        except InvalidTopic as error:
            raise InterestError(f"topic filter {interest.topic_filter!r}: {error}") from error
        filters = by_tenant.setdefault(interest.tenant_id, {})
        filters[interest.topic_filter] = QoS(max(interest.qos, filters.get(interest.topic_filter, 0)))
    if len(by_tenant) > TENANTS_PER_PLUGIN:
        raise InterestError(f"interests are in {len(by_tenant)} tenants, the limit is {TENANTS_PER_PLUGIN}")
    return by_tenant


class SubBrokers:
    """Keeps the couriers of a broker."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def serve(self, plugin: Plugin, counters: DeliveryCounters) -> None:
        """Bring a plugin what it is interested in, until cancelled."""
        couriers: dict[str, tuple[Courier, trio.CancelScope]] = {}
        async with trio.open_nursery() as nursery:
            while True:
                pause_s = plugin.section.refresh_s
                try:
                    wanted = await plugin.guard.call("SubBroker", partial(_interests, plugin))
                except PluginFailed:
                    pause_s = min(pause_s, plugin.section.breaker_s)
                else:
                    for tenant_id in couriers.keys() - wanted.keys():
                        couriers.pop(tenant_id)[1].cancel()
                    for tenant_id, interests in wanted.items():
                        if tenant_id not in couriers:
                            couriers[tenant_id] = self._make(plugin, tenant_id, counters), trio.CancelScope()
                            couriers[tenant_id][0].interests = interests
                            nursery.start_soon(self._keep, plugin, *couriers[tenant_id])
                        elif interests != couriers[tenant_id][0].interests:
                            couriers[tenant_id][0].interests = interests
                            plugin.guard.loop.do_soon(couriers[tenant_id][0].look)
                await trio.sleep(pause_s)

    def _make(self, plugin: Plugin, tenant_id: str, counters: DeliveryCounters) -> Courier:
        section = plugin.section
        return Courier(
            plugin.name,
            tenant_id,
            plugin.instance,
            counters,
            timeout_s=section.timeout_s,
            breaker_s=section.breaker_s,
        )

    async def _keep(self, plugin: Plugin, courier: Courier, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    end = self._connect(courier.tenant_id, plugin.name)
                    await plugin.guard.loop.host(partial(courier.run, end))
                    reason = "the connection has ended"
                except CourierRefused as error:
                    reason = str(error)
                except Exception as error:  # A full queue, no more descriptors, or our own mistake.
                    reason = repr(error)
                _log.info("courier_lost", plugin=plugin.name, tenant=courier.tenant_id, reason=reason)
                await trio.sleep(RECONNECT_S)


async def _interests(plugin: Plugin) -> Mapping[str, Mapping[str, QoS]]:
    # What is wrong with them is the plugin's failure.
    return sort_interests(await plugin.instance.interests())
