"""The plugins of a broker: started with it, asked at their extension points, stopped with it.

open_plugins -- one PluginLoop and Guard per section of the configuration
  |-- EventCollector: a task that brings it the events of its stream
  |-- SubBroker: a courier for each tenant that it is interested in, see sub_brokers.py
  |-- ResourceThrottler: asked from time to time, see throttling.py
  |-- SettingProvider, ClientBalancer, PermissionProvider, UserPropertiesCustomizer: asked by admission, in the order of
  |   the configuration
  |-- EnhancedAuthenticator: asked for clients whose CONNECT names one of its methods, see exchange.py
  `-- AuthProvider: found by its name by the chain of authenticators
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import trio

from rookery.core.engine import check_message_user_properties
from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule import Rule
from rookery.core.quotas import ResourceState
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted, Authenticator, Decision, EnhancedAuthenticator, Refused
from rookery.server.config import PluginSection
from rookery.server.event_bus import EventBus, EventStream
from rookery.server.events import Event
from rookery.server.log import get_logger

from .contracts import (
    POINTS,
    Client,
    ClientBalancer,
    EventCollector,
    PermissionProvider,
    ResourceThrottler,
    SettingProvider,
    SettingValues,
    SubBroker,
    UserPropertiesCustomizer,
)
from .courier import DeliveryCounters
from .exchange import GuardedEnhancedAuthenticator
from .guard import Guard, PluginCounters, PluginFailed
from .loading import PluginError, find_factory, make_plugin
from .loop import PluginLoop

START_TIMEOUT_S = 10.0  # for a plugin to be made and entered
STOP_TIMEOUT_S = 2.0  # for it to be left
EVENTS_PER_CALL = 64  # brought to a collector with one change of loops

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that runs."""

    name: str
    section: PluginSection
    guard: Guard
    instance: Any  # its methods are called through the guard only


@dataclass(frozen=True, slots=True)
class PluginState:
    """How a plugin is doing, for operators."""

    name: str
    points: tuple[str, ...]  # the extension points that it serves
    is_open: bool  # the breaker: it is not called at present
    counters: PluginCounters
    events_dropped: int  # that waited in vain for its collector
    deliveries: DeliveryCounters | None = None  # of a SubBroker


class PluginHost:
    """The plugins of one broker. Made by open_plugins only."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._setting_providers = self._serving(SettingProvider)
        self._balancers = self._serving(ClientBalancer)
        self._permission_providers = self._serving(PermissionProvider)
        self._customizers = self._serving(UserPropertiesCustomizer)
        self._throttlers = self._serving(ResourceThrottler)
        self.collectors = self._serving(EventCollector)
        self.sub_brokers = self._serving(SubBroker)
        self.deliveries = {plugin.name: DeliveryCounters() for plugin in self.sub_brokers}
        self._streams: dict[str, EventStream] = {}

    def _serving(self, point: type) -> tuple[Plugin, ...]:
        return tuple(plugin for plugin in self.plugins if isinstance(plugin.instance, point))

    @property
    def states(self) -> tuple[PluginState, ...]:
        """How all of them are doing, in the order of the configuration."""
        return tuple(
            PluginState(
                plugin.name,
                tuple(point.__name__ for point in POINTS if isinstance(plugin.instance, point)),
                plugin.guard.is_open,
                plugin.guard.counters,
                self._streams[plugin.name].dropped if plugin.name in self._streams else 0,
                self.deliveries.get(plugin.name),
            )
            for plugin in self.plugins
        )

    def authenticator(self, name: str) -> Authenticator:
        """The plugin of this name as an authenticator. Raises PluginError when there is none."""
        for plugin in self.plugins:
            if plugin.name == name and isinstance(plugin.instance, Authenticator):
                return GuardedAuthenticator(plugin)
        raise PluginError(f"no plugin {name!r} is an authenticator")

    @property
    def enhanced_authenticators(self) -> tuple[EnhancedAuthenticator, ...]:
        """Those of the plugins, in the order of the configuration: the first that offers a method has it."""
        return tuple(
            GuardedEnhancedAuthenticator(plugin.guard, plugin.instance)
            for plugin in self._serving(EnhancedAuthenticator)
        )

    @property
    def has_setting_providers(self) -> bool:
        return bool(self._setting_providers)

    async def provide_settings(self, tenant_id: str) -> dict[str, bool | int | str] | None:
        """What the setting providers say about a tenant, later ones on top; None when one of them failed.

        A tenant keeps what it had when a provider fails: an error changes nobody's limits.
        """
        values: dict[str, bool | int | str] = {}
        for plugin in self._setting_providers:
            ask = partial(plugin.instance.provide_settings, tenant_id)
            try:
                answer: SettingValues | None = await plugin.guard.call("SettingProvider", ask)
            except PluginFailed:
                return None
            if answer is not None:
                values.update(answer)
        return values

    @property
    def has_throttlers(self) -> bool:
        return bool(self._throttlers)

    @property
    def throttle_refresh_s(self) -> float:
        """How often throttlers are asked again: as often as the most eager one wants."""
        return min(plugin.section.refresh_s for plugin in self._throttlers)

    async def throttled_resources(self, tenant_id: str, resources: Sequence[ResourceState]) -> set[str] | None:
        """What any of the throttlers says that a tenant has no more of; None when one of them failed."""
        names: set[str] = set()
        for plugin in self._throttlers:
            ask = partial(plugin.instance.throttled_resources, tenant_id, resources)
            try:
                names.update(await plugin.guard.call("ResourceThrottler", ask))
            except PluginFailed:
                return None
        return names

    @property
    def refresh_s(self) -> float:
        """How often settings are asked for again: as often as the most eager provider wants."""
        return min(plugin.section.refresh_s for plugin in self._setting_providers)

    @property
    def has_balancers(self) -> bool:
        return bool(self._balancers)

    async def balance(self, request: ConnectRequested, admitted: Admitted) -> Decision:
        """Whether an admitted client may stay: the first redirect of a balancer refuses it, a failure lets it stay."""
        client = _client_of(request, admitted)
        for plugin in self._balancers:
            try:
                redirect = await plugin.guard.call("ClientBalancer", partial(plugin.instance.balance, client))
            except PluginFailed:
                continue
            if redirect is not None:
                reason_code = ReasonCode.SERVER_MOVED if redirect.is_permanent else ReasonCode.USE_ANOTHER_SERVER
                return Refused(reason_code, server_reference=redirect.server_reference)
        return admitted

    @property
    def has_customizers(self) -> bool:
        return bool(self._customizers)

    async def customize(self, request: ConnectRequested, admitted: Admitted) -> Decision:
        """Add the user properties that customizers have for the messages of an admitted client."""
        client = _client_of(request, admitted)
        pairs = list(admitted.message_user_properties)
        for plugin in self._customizers:
            ask = partial(_customize, plugin.instance, client)
            with suppress(PluginFailed):
                pairs += await plugin.guard.call("UserPropertiesCustomizer", ask)
        try:
            check_message_user_properties(pairs)
        except ValueError as error:
            _log.warning("user_properties_unusable", tenant=client.tenant_id, user=client.user_id, reason=str(error))
            return admitted
        return replace(admitted, message_user_properties=tuple(pairs))

    @property
    def has_permission_providers(self) -> bool:
        return bool(self._permission_providers)

    async def provide_rules(self, request: ConnectRequested, admitted: Admitted) -> Sequence[Rule] | None:
        """The rules that the first provider has for a client; None when none has. Raises PluginFailed."""
        client = _client_of(request, admitted)
        for plugin in self._permission_providers:
            ask = partial(plugin.instance.provide_rules, client)
            rules: Sequence[Rule] | None = await plugin.guard.call("PermissionProvider", ask)
            if rules is not None:
                return rules
        return None

    async def collect(
        self, plugin: Plugin, bus: EventBus, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Bring a collector its events until the bus ends. What it fails at is lost and counted by its guard."""
        types = tuple(plugin.instance.event_types)
        with bus.subscribe(*types, limit=plugin.section.events_limit) as stream:
            self._streams[plugin.name] = stream
            task_status.started()
            async for event in stream:
                batch = [event, *stream.take_waiting(EVENTS_PER_CALL - 1)]
                try:
                    await plugin.guard.call("EventCollector", partial(_collect_all, plugin.instance, batch))
                except PluginFailed:
                    stream.dropped += len(batch)


def _client_of(request: ConnectRequested, admitted: Admitted) -> Client:
    return Client(
        admitted.tenant_id,
        admitted.user_id,
        request.client_id,
        request.protocol_version,
        request.peer,
        admitted.attributes,
    )


class GuardedAuthenticator:
    """A plugin's authenticator for the chain: what goes wrong with it is an error there, which refuses the client."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin

    async def authenticate(self, request: ConnectRequested) -> Decision:
        """The plugin's decision. Raises PluginFailed."""
        ask = partial(self._plugin.instance.authenticate, request)
        decision: Decision = await self._plugin.guard.call("AuthProvider", ask)
        return decision


async def _customize(customizer: UserPropertiesCustomizer, client: Client) -> list[tuple[str, str]]:
    # Whatever it gives is looked at here, where a mistake is the plugin's.
    return [(str(name), str(value)) for name, value in await customizer.customize_user_properties(client)]


async def _collect_all(collector: EventCollector, events: Sequence[Event]) -> None:
    for event in events:
        await collector.collect(event)


@asynccontextmanager
async def open_plugins(sections: Mapping[str, PluginSection]) -> AsyncIterator[PluginHost]:
    """The plugins of the configuration, started in its order and stopped in the opposite one.

    Raises PluginError when one cannot be imported, made or entered: a broker does not start without what it was told
    to ask.
    """
    plugins: list[Plugin] = []
    try:
        for name, section in sections.items():
            factory = find_factory(section.use)
            loop = PluginLoop(name, partial(make_plugin, name, factory, section.options))
            await loop.start(START_TIMEOUT_S)
            plugins.append(Plugin(name, section, Guard(loop, section.timeout_s, section.breaker_s), loop.plugin))
            _log.info("plugin_started", plugin=name, use=section.use)
        yield PluginHost(plugins)
    finally:
        with trio.CancelScope(shield=True):
            for plugin in reversed(plugins):
                if not await plugin.guard.loop.stop(STOP_TIMEOUT_S):
                    _log.warning("plugin_abandoned", plugin=plugin.name)
