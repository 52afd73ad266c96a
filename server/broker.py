"""A broker: what it consists of, and what callers ask of it.

                    nursery of open_broker
                    |                    |
              the caller's block     shards (shielded: they end by stop, so that clients are told)
                                      |-- the thread of shard 0, without the GIL for its whole life
                                      |      `-- its pump: CONNECTs to admission, replies to callers
                                      |-- the thread of shard 1 ...
                                      |-- decisions of the authenticator that wait (admission)
                                      `-- data.watch, which tells of the durable log's failures

A shard whose thread ends without being told to takes everything down: the others tell their clients, and the error
leaves open_broker. Commands never block; what a shard answers comes back through Questions, with a deadline.
"""

import socket
from collections.abc import Iterable, Mapping
from functools import partial

import trio

from rookery.core.engine import Engine
from rookery.core.events import ConnectRequested, PublishOutcome, ShardStatistics
from rookery.core.permissions.rule_set import Permissions
from rookery.core.quotas import ResourceState
from rookery.core.settings import TenantSettings

from .address import Address
from .admission import Admission
from .arrivals import Arrivals
from .auth.accounts import Accounts
from .auth.authenticator import Admitted, Authenticator, EnhancedAuthenticator
from .auth.claimed_rules import ClaimedRules
from .auth.opening import OpenedAuthenticators, Reloadable, claimed_rules_of
from .bans import PersistentBans
from .commands import for_each_shard, insist
from .config import Config
from .durable_data import DurableData
from .entrances import Entrances
from .errors import BrokerError
from .event_bus import EventBus
from .event_pump import EventPump
from .gate import ConnectionGate
from .inventory import Inventory
from .listeners import address_of
from .log import get_logger
from .messages import Messages
from .permissions import PersistentRules, RulePermissions
from .plugins.host import PluginHost
from .plugins.placing import PluginPlaces
from .questions import Questions
from .retained import RetainedMessages
from .sessions import Sessions
from .shard_threads import ShardThreads
from .store import Store
from .stored_settings import PersistentSettings
from .strangers import Strangers
from .tenancy import Tenancy
from .tenant_settings import Layer, TenantSettingsBook
from .tls.contexts import TlsContexts
from .tls.reloading import TlsFiles

READY_TIMEOUT_S = 1.0  # A shard that is silent for longer is not fit for clients: its turns take milliseconds.

_log = get_logger(__name__)


class Broker:
    """A running broker. Made by open_broker only; its calls may come from any task of the same trio program."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        threads: ShardThreads,
        data: DurableData,
        store: Store,
        plugins: PluginHost,
        authenticator: Authenticator,
        enhanced_authenticators: Iterable[EnhancedAuthenticator],
        opened: OpenedAuthenticators,
        permissions: RulePermissions | None,
        listener: socket.socket,
        listeners: Mapping[str, socket.socket],
        tls_contexts: Mapping[str, TlsContexts],
    ) -> None:
        self.config = config
        self.server_id = engine.server_id
        self.mqtt_address: Address = address_of(listener)
        self.addresses = {name: address_of(each) for name, each in listeners.items()}  # of the listeners beside it
        self.data = data
        self.store = store  # what administrators keep: users, rules, settings, API keys, bans, the audit log
        self.plugins = plugins
        self._engine = engine
        self._threads = threads
        self._listener = listener
        self._listeners = listeners

        questions = Questions(data, config.server.reply_timeout_s)
        self._questions = questions
        self.settings = TenantSettingsBook(config.settings, engine.configure_tenant)
        self.messages = Messages(engine, questions.ask, data, self.settings_of)
        self.sessions = Sessions(engine, questions.ask)
        self.retained = RetainedMessages(engine, questions.ask, data.check_takes_more)
        self.inventory = Inventory(engine, questions.ask)
        self.events = EventBus(engine.observe)
        self.strangers = Strangers()

        self.stored_settings = PersistentSettings(self.settings, store.settings, insist)
        self.rules = PersistentRules(store.rules, permissions if config.permissions.database else None)
        # Whoever is let in the same way as another before him meets nobody here, until something changes.
        self.bans = PersistentBans(store.bans, engine.forget_verdicts)
        store.users.watchers.append(lambda tenant_id, user_id: engine.forget_verdicts())
        self.users = Accounts(store.users, opened.verifier)
        self.permissions = permissions  # the rules of everybody whose authenticator gave none; None = there are none
        if permissions is not None:
            permissions.attach(engine)

        self.admission = Admission(
            engine,
            authenticator,
            config.authentication,
            enhanced_authenticators,
            permission_source=permissions,
            grants_on_error=self._grants_on_error,
            bans=self.bans,
            by_listener=opened.by_listener,
        )
        rule_providers = list(opened.rule_providers)
        if plugins.has_permission_providers:
            rule_providers.insert(0, partial(_provide_rules, plugins, claimed_rules_of(config)))
        tenancy = Tenancy(config)
        self.arrivals = Arrivals(tenancy.tenant_of_listener)
        self._plugin_places = PluginPlaces(
            plugins,
            engine,
            self.settings,
            self.arrivals,
            self.admission,
            self.events,
            rule_providers,
            self._grants_on_error,
        )
        self._pump = EventPump(engine, questions.replies, self.arrivals, self.admission, self.events)

        self.gate = ConnectionGate(engine, config)
        self.tls_contexts = dict(tls_contexts)  # of the listeners that speak TLS
        tls_files = TlsFiles(self.tls_contexts)
        self.entrances = Entrances(
            config, engine, self.arrivals, tenancy, self.gate, tls_files, listeners, self.tls_contexts
        )

        self._reloadables: dict[str, Reloadable] = {"bans": self.bans, **opened.reloadables}
        if permissions is not None:
            self._reloadables["permissions"] = permissions
        if self.rules.are_in_force:
            self._reloadables["stored_rules"] = self.rules
        if tls_files:
            self._reloadables["certificates"] = tls_files

        self._shards_ended = trio.Event()
        self._is_serving = False
        self._is_stopping = False
        self._shards_are_told = False

    # What callers ask.

    async def publish(
        self,
        tenant_id: str,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        message_expiry_interval: int | None = None,
    ) -> PublishOutcome:
        """Publish a message to the subscribers of a tenant; see Messages.publish."""
        return await self.messages.publish(
            tenant_id, topic, payload, qos=qos, retain=retain, message_expiry_interval=message_expiry_interval
        )

    async def statistics(self) -> tuple[ShardStatistics, ...]:
        """The counters and gauges of every shard, in order. Raises BrokerBusy, BrokerLate, BrokerStopping."""
        answers = await self._questions.ask(for_each_shard(self._engine.statistics, self._engine.shard_count))
        return tuple(answer for answer in answers if isinstance(answer, ShardStatistics))

    def settings_of(self, tenant_id: str) -> TenantSettings:
        """What is in force for a tenant."""
        return self.settings.of(tenant_id)

    def resources_of(self, tenant_id: str) -> tuple[ResourceState, ...]:
        """What a tenant has of each resource now, its limits and shadows, and how often they were hit.

        The counts are those since the tenant was last without clients, sessions and retained messages.
        """
        return self._engine.resources(tenant_id)

    async def reload(self) -> None:
        """Read again what is kept in files beside the configuration: rules, passwords, keys.

        What is wrong is logged, and what was read before stays in force.
        """
        for name, reloadable in self._reloadables.items():
            try:
                facts = await reloadable.reload()
            except Exception as error:
                _log.error(f"{name}_not_reloaded", reason=str(error))
            else:
                _log.info(f"{name}_reloaded", **facts)
        self._engine.forget_verdicts()

    async def unready_reasons(self) -> tuple[str, ...]:
        """Why clients should not be sent here now; empty when they should. Asks every shard for a sign of life."""
        if self._is_stopping:
            return ("stopping",)
        if not self._is_serving:
            return ("starting",)
        complaint = self.data.complaint()
        with trio.move_on_after(READY_TIMEOUT_S):
            try:
                await self.statistics()
            except BrokerError as error:
                return (str(error),)
            return () if complaint is None else (complaint,)
        return (f"a shard has not answered for {READY_TIMEOUT_S:g} s",)

    def begin_stop(self) -> None:
        """Accept no more connections and be unready; those that are connected go on until open_broker is left."""
        if not self._is_stopping:
            self._is_stopping = True
            self._engine.stop_listening()
            self.entrances.stop()

    def _grants_on_error(self, tenant_id: str) -> bool:
        """Does a check of permissions that fails let in?"""
        return self.settings_of(tenant_id).by_pass_perm_check_error

    # Its life, in the hands of open_broker.

    async def _run(self, nursery: trio.Nursery) -> None:
        """Start the shards and give them their tenants and listeners; clients are served when it returns."""
        nursery.start_soon(self._serve_shards)
        await nursery.start(self._plugin_places.serve, self._shards_ended)
        await self.statistics()
        for tenant_id, section in self.config.tenants.items():
            await insist(partial(self.settings.put, tenant_id, Layer.CONFIGURATION, section.settings))
        await self.stored_settings.load()
        await self.bans.reload()
        await nursery.start(self.strangers.watch, self.events)
        await insist(partial(self._engine.listen, self._listener.fileno()))
        for listener_id, (name, listener) in enumerate(self._listeners.items(), start=1):
            if self.config.listeners[name].is_accepted_by_shards:
                await insist(partial(self._engine.listen, listener.fileno(), listener_id))
        nursery.start_soon(self.entrances.serve)
        self._is_serving = True
        _log.info("shards_started", count=self._engine.shard_count, server_id=self.server_id)

    async def _serve_shards(self) -> None:
        try:
            await self._threads.serve(self._pump.run, partial(self.data.watch, self.events.publish), self._stop)
        finally:
            self.events.close()
            self._shards_ended.set()

    def _stop(self) -> None:
        """Tell the shards to say good-bye and return; their threads end within the grace and a little more."""
        if not self._shards_are_told:
            self._shards_are_told = True
            self.begin_stop()
            self._questions.close()
            self._threads.stop()


async def _provide_rules(
    plugins: PluginHost, compiler: ClaimedRules, request: ConnectRequested, admitted: Admitted
) -> Permissions | None:
    rules = await plugins.provide_rules(request, admitted)
    return None if rules is None else compiler.compile_rules(rules)
