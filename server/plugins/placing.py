"""Each plugin put where it is asked: at the door, beside the settings, behind the event bus, or as a client."""

import socket
from collections.abc import Callable, Sequence

import trio

from rookery.core.engine import Engine
from rookery.server.admission import OWN_USERS, Admission, Doorkeeper
from rookery.server.arrivals import Arrival, Arrivals
from rookery.server.auth.authenticator import Admitted
from rookery.server.event_bus import EventBus
from rookery.server.permissions.providers import ProvidedPermissions, Provider
from rookery.server.tenant_settings import TenantSettingsBook

from .host import PluginHost
from .sub_brokers import SubBrokers
from .tenant_settings import ProvidedSettings
from .throttling import Throttling

COLLECT_LAST_S = 1.0  # For collectors to take what the shards told last; then it is lost.


class PluginPlaces:
    """The plugins of a host at work in one broker."""

    def __init__(
        self,
        host: PluginHost,
        engine: Engine,
        settings: TenantSettingsBook,
        arrivals: Arrivals,
        admission: Admission,
        bus: EventBus,
        rule_providers: Sequence[Provider],
        grants_on_error: Callable[[str], bool],
    ) -> None:
        self._host = host
        self._engine = engine
        self._settings = settings
        self._arrivals = arrivals
        self._admission = admission
        self._bus = bus
        self._rule_providers = rule_providers
        self._grants_on_error = grants_on_error

    async def serve(
        self, shards_ended: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Have them asked, and bring collectors their events, also those of the shards' end."""
        host = self._host
        doorkeepers: list[Doorkeeper] = []
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as background:
                if host.has_setting_providers:
                    provided = ProvidedSettings(host, self._settings)
                    doorkeepers.append(provided.admit)
                    background.start_soon(provided.refresh, host.refresh_s)
                if host.has_throttlers:
                    throttling = Throttling(host, self._engine.resources, self._engine.throttle)
                    doorkeepers.append(throttling.admit)
                    background.start_soon(throttling.refresh, host.throttle_refresh_s)
                if host.has_balancers:
                    doorkeepers.append(host.balance)
                if host.has_customizers:
                    doorkeepers.append(host.customize)
                if self._rule_providers:
                    rules = ProvidedPermissions(self._rule_providers, self._grants_on_error, self._bus.publish)
                    doorkeepers.append(rules.admit)
                self._admission.doorkeepers = tuple(doorkeepers)
                sub_brokers = SubBrokers(self._connect_inside)
                for plugin in host.sub_brokers:
                    background.start_soon(sub_brokers.serve, plugin, host.deliveries[plugin.name])
                async with trio.open_nursery() as collecting:
                    for collector in host.collectors:
                        await collecting.start(host.collect, collector, self._bus)
                    task_status.started()
                    await shards_ended.wait()
                    scope.deadline = trio.current_time() + COLLECT_LAST_S
                background.cancel_scope.cancel()

    def _connect_inside(self, tenant_id: str, plugin_name: str) -> socket.socket:
        """One end of a connection whose other end a shard serves as the plugin's. Raises EngineBusy, OSError."""
        end, other_end = socket.socketpair()
        other_end.setblocking(False)
        ticket = self._arrivals.add(Arrival(admitted=Admitted(tenant_id, f"{OWN_USERS}{plugin_name}")))
        try:
            self._engine.adopt(other_end.fileno(), peer=f"plugin:{plugin_name}", ticket=ticket)
        except BaseException:
            self._arrivals.close(ticket)
            end.close()
            other_end.close()
            raise
        other_end.detach()
        return end
