"""The broker: the engine, the threads of its shards and the pumps of their events, started, watched and stopped.

                    nursery of open_broker
                    |                    |
              the caller's block     _serve (shielded: it ends by stop, so that clients are told)
                                      |-- _run_shard(0)    its thread, without the GIL for its whole life
                                      |      `-- _pump(0)  its events: CONNECTs to admission, replies to callers
                                      |-- _run_shard(1) ...
                                      |-- decisions of the authenticator that wait (admission)
                                      `-- data.watch       tells of the durable log's failures

A shard whose thread ends without being told to takes everything down: the others tell their clients, and the error
leaves open_broker. Commands never block; what a shard answers comes back through Replies, with a deadline.
"""

import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import lru_cache, partial
from typing import NamedTuple

import trio

from rookery.core.engine import Engine, EngineBusy
from rookery.core.events import (
    AuthenticationAbandoned,
    AuthReceived,
    ConnectionClosed,
    ConnectRequested,
    PublishOutcome,
    ReauthenticationRequested,
    Reply,
    ShardStatistics,
    ShardStopped,
)
from rookery.core.permissions.rule_set import Permissions
from rookery.core.quotas import ResourceState
from rookery.core.settings import TenantSettings
from rookery.core.topics.names import TopicRules

from .activation import PassedSockets
from .address import Address
from .admission import OWN_USERS, RETRY_S, Admission, Doorkeeper
from .arrivals import Arrival, Arrivals
from .auth.accounts import Accounts
from .auth.authenticator import Admitted, Authenticator, EnhancedAuthenticator
from .auth.claimed_rules import ClaimedRules
from .auth.opening import OpenedAuthenticators, Reloadable, claimed_rules_of, open_authenticators
from .auth.passwords import PasswordVerifier
from .bans import PersistentBans
from .commands import Command, for_each_shard
from .config import Config
from .config_listeners import ListenerSection, MqttSection
from .data_directory import lock_directory
from .durable_data import DurableData, open_durable_data
from .entrance import Arrived, Entrance
from .event_bus import EventBus
from .events import event_of
from .gate import ConnectionGate
from .inventory import Inventory
from .listeners import address_of, open_listener, open_unix_listener
from .log import get_logger
from .nurseries import only_error
from .permissions import PersistentRules, RulePermissions, open_permissions
from .permissions.providers import ProvidedPermissions
from .plugins.host import PluginHost, open_plugins
from .plugins.sub_brokers import SubBrokers
from .plugins.tenant_settings import ProvidedSettings
from .plugins.throttling import Throttling
from .replies import Answer, Replies
from .retained import RetainedMessages
from .sessions import Sessions
from .store import Store, open_store
from .stored_settings import PersistentSettings
from .strangers import Strangers
from .tenancy import Tenancy
from .tenant_settings import Layer, TenantSettingsBook
from .tls.contexts import TlsContexts
from .tls.openssl import lend_functions
from .tls.reloading import TlsFiles

EVENTS_PER_CHECKPOINT = 256  # Other tasks get the thread after this many events, about a millisecond of work.
STOP_SLACK_S = 0.5  # A shard that has not returned so long after its grace is given up.
COLLECT_LAST_S = 1.0  # For collectors to take what the shards told last; then it is lost.
BATCH_AT_ONCE = 500  # messages of a batch that a shard hands out in one turn: a millisecond where few subscribe
READY_TIMEOUT_S = 1.0  # A shard that is silent for longer is not fit for clients: its turns take milliseconds.

_log = get_logger(__name__)


class BrokerError(Exception):
    """A call of the broker failed."""


class BrokerBusy(BrokerError):
    """The command queue of a shard is full; nothing was done, and trying again later may help."""


class BrokerLate(BrokerError):
    """A shard did not answer in time; what became of the command is not known."""


class BrokerNotDurable(BrokerError):
    """The disk fails: what was asked for is not durable now. Whether it will be is not known."""


class BrokerDiskFull(BrokerNotDurable):
    """The same, for want of space."""


class BrokerStopping(BrokerError):
    """The broker takes no more commands."""


class BatchInterrupted(BrokerError):
    """A part of a batch was published; what of the next one was is not known, and the rest was not."""

    def __init__(self, published: int) -> None:
        super().__init__(f"{published} messages were published, those behind them may not have been")
        self.published = published


class BatchMessage(NamedTuple):
    """A message of a batch."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    message_expiry_interval: int | None = None  # seconds


class ShardFailed(BrokerError):
    """The thread of a shard ended without being told to, or did not end when it was."""


class Broker:
    """A running broker. Made by open_broker only; its calls may come from any task of the same trio program."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        authenticator: Authenticator,
        listener: socket.socket,
        store: Store,
        plugins: PluginHost | None = None,
        enhanced_authenticators: Iterable[EnhancedAuthenticator] = (),
        permissions: RulePermissions | None = None,
        listeners: Mapping[str, socket.socket] | None = None,
        opened: OpenedAuthenticators | None = None,
        tls_contexts: Mapping[str, TlsContexts] | None = None,
    ) -> None:
        self.config = config
        self.mqtt_address: Address = address_of(listener)
        self.server_id = engine.server_id
        self.data = DurableData(None)  # the log, from when it has been read back
        self.store = store  # what administrators keep: users, rules, settings, API keys, bans, the audit log
        self._engine = engine
        settings = TenantSettingsBook(config.settings, engine.configure_tenant)
        self.settings = settings
        self.stored_settings = PersistentSettings(settings, store.settings, _insist)
        self.rules = PersistentRules(store.rules, permissions if config.permissions.database else None)
        opened = opened or OpenedAuthenticators(PasswordVerifier(threads=1, remember_s=0, remember_limit=1))
        self.bans = PersistentBans(store.bans)
        self.users = Accounts(store.users, opened.verifier)
        self._reloadables: dict[str, Reloadable] = {"bans": self.bans, **opened.reloadables}
        self.permissions = permissions  # the rules of everybody whose authenticator gave none; None = there are none
        if permissions is not None:
            permissions.attach(engine)
            self._reloadables["permissions"] = permissions
        if self.rules.are_in_force:
            self._reloadables["stored_rules"] = self.rules
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
        self._rule_providers = list(opened.rule_providers)
        if plugins is not None and plugins.has_permission_providers:
            self._rule_providers.insert(0, partial(_provide_rules, plugins, claimed_rules_of(config)))
        self._listener = listener
        self._listeners = dict(listeners or {})  # beside it, by the names that the configuration gives them
        self.addresses = {name: address_of(each) for name, each in self._listeners.items()}
        self.entrances = {  # of the listeners whose connections the shards do not accept themselves
            name: Entrance(self._listeners[name], name, section, (tls_contexts or {}).get(name), engine, listener_id)
            for listener_id, (name, section) in enumerate(config.listeners.items(), start=1)
            if not section.is_accepted_by_shards
        }
        self.gate = ConnectionGate(engine, config)
        self.strangers = Strangers()
        self._tenancy = Tenancy(config)
        self.arrivals = Arrivals(self._tenancy.tenant_of_listener)
        self.tls_contexts = dict(tls_contexts or {})  # of the listeners that speak TLS
        self._tls_files = TlsFiles(self.tls_contexts)
        if self._tls_files:
            self._reloadables["certificates"] = self._tls_files
        self._entering = trio.CancelScope()
        self._replies = Replies()
        self.sessions = Sessions(engine, self._ask)
        self.retained = RetainedMessages(engine, self._ask, self._check_log_takes_more)
        self.inventory = Inventory(engine, self._ask)
        self.events = EventBus(engine.observe)
        self.plugins = plugins or PluginHost(())
        self._scope = trio.CancelScope(shield=True)  # of the shards: a cancelled caller still has its clients told
        self._shards_ended = trio.Event()
        self._is_serving = False
        self._is_stopping = False
        self._shards_are_told = False
        self._failure: ShardFailed | None = None

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
        """Publish a message to the subscribers of a tenant, on all shards; what became of it, added up.

        What of it must be durable is so when this returns. Raises InvalidTopic before anything is done; BrokerBusy when
        the first shard has no room or too much waits for the disk, nothing done; BrokerNotDurable; BrokerLate when a
        shard did not answer in time; BrokerStopping.
        """
        self.check_topic(tenant_id, topic)
        if qos > 0 or retain:
            self._check_log_takes_more()
        publish = partial(
            self._engine.publish,
            tenant_id=tenant_id,
            topic=topic,
            payload=payload,
            qos=qos,
            retain=retain,
            message_expiry_interval=message_expiry_interval,
        )

        answers = await self._ask(for_each_shard(publish, self._engine.shard_count))
        return sum((answer for answer in answers if isinstance(answer, PublishOutcome)), start=PublishOutcome())

    async def publish_batch(self, tenant_id: str, messages: Sequence[BatchMessage]) -> PublishOutcome:
        """Publish many messages of checked topics, in order; what became of them, added up.

        They go BATCH_AT_ONCE at a time, so that others are served in between. Raises as publish; when that is for
        other messages than the first BATCH_AT_ONCE, BatchInterrupted says how many were published before.
        """
        if any(message.qos > 0 or message.retain for message in messages):
            self._check_log_takes_more()
        outcome = PublishOutcome()
        for first in range(0, len(messages), BATCH_AT_ONCE):
            part = messages[first : first + BATCH_AT_ONCE]
            publish = partial(self._engine.publish_batch, tenant_id=tenant_id, messages=part)
            try:
                answers = await self._ask(for_each_shard(publish, self._engine.shard_count))
            except BrokerError as error:
                if first == 0:
                    raise
                raise BatchInterrupted(first) from error
            outcome = sum((answer for answer in answers if isinstance(answer, PublishOutcome)), start=outcome)
        return outcome

    def _check_log_takes_more(self) -> None:
        """Raise BrokerNotDurable or BrokerBusy when nothing more is to be added to what waits for the disk."""
        if not self.data.takes_more:
            raise self._not_durable() or BrokerBusy("too much waits for the durable log")

    def _not_durable(self) -> BrokerNotDurable | None:
        """What to tell whoever waits for the disk; None while nothing is wrong with it."""
        complaint = self.data.complaint()
        if complaint is None:
            return None
        return BrokerDiskFull(complaint) if self.data.is_full else BrokerNotDurable(complaint)

    def check_topic(self, tenant_id: str, topic: str) -> None:
        """Raise InvalidTopic unless this is a topic name that the settings of the tenant allow."""
        _topic_rules(self.settings_of(tenant_id)).check_topic(topic)

    async def statistics(self) -> tuple[ShardStatistics, ...]:
        """The counters and gauges of every shard, in order. Errors as publish."""

        answers = await self._ask(for_each_shard(self._engine.statistics, self._engine.shard_count))
        return tuple(answer for answer in answers if isinstance(answer, ShardStatistics))

    def _grants_on_error(self, tenant_id: str) -> bool:
        """Does a check of permissions that fails let in?"""
        return self.settings_of(tenant_id).by_pass_perm_check_error

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
            self._entering.cancel()

    # How commands travel.

    async def _ask(self, commands: list[Command]) -> list[Answer]:
        """The answers to commands, each for a shard. All are sent, or none when the first finds no room."""
        if self._shards_are_told:
            raise BrokerStopping("the broker is stopping")
        with self._replies.expect(len(commands)) as expected, trio.move_on_after(self.config.server.reply_timeout_s):
            (first, *others), (first_reply, *other_replies) = commands, expected
            try:
                first(first_reply.request)
            except EngineBusy as error:
                raise BrokerBusy("the command queue of a shard is full") from error
            for command, pending in zip(others, other_replies, strict=True):
                await _insist(partial(command, pending.request))
            return [await pending.wait() for pending in expected]
        raise self._not_durable() or BrokerLate(
            f"no answer from a shard within {self.config.server.reply_timeout_s:g} s"
        )

    # Plugins.

    async def _run_plugins(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Put each plugin where it is asked, and bring collectors their events, also those of the shards' end."""
        host = self.plugins
        doorkeepers: list[Doorkeeper] = []
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as background:
                if host.has_setting_providers:
                    provided = ProvidedSettings(host, self.settings)
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
                    provided_rules = ProvidedPermissions(
                        self._rule_providers, self._grants_on_error, self.events.publish
                    )
                    doorkeepers.append(provided_rules.admit)
                self.admission.doorkeepers = tuple(doorkeepers)
                sub_brokers = SubBrokers(self._connect_inside)
                for plugin in host.sub_brokers:
                    background.start_soon(sub_brokers.serve, plugin, host.deliveries[plugin.name])
                async with trio.open_nursery() as collecting:
                    for collector in host.collectors:
                        await collecting.start(host.collect, collector, self.events)
                    task_status.started()
                    await self._shards_ended.wait()
                    scope.deadline = trio.current_time() + COLLECT_LAST_S
                background.cancel_scope.cancel()

    def _connect_inside(self, tenant_id: str, plugin_name: str) -> socket.socket:
        """One end of a connection whose other end a shard serves as the plugin's. Raises EngineBusy, OSError."""
        end, other_end = socket.socketpair()
        other_end.setblocking(False)
        ticket = self.arrivals.add(Arrival(admitted=Admitted(tenant_id, f"{OWN_USERS}{plugin_name}")))
        try:
            self._engine.adopt(other_end.fileno(), peer=f"plugin:{plugin_name}", ticket=ticket)
        except BaseException:
            self.arrivals.close(ticket)
            end.close()
            other_end.close()
            raise
        other_end.detach()
        return end

    # The life of the shards.

    async def _serve(self) -> None:
        """Run the shards until _stop; owns their threads and pumps. Raises ShardFailed when one dies or does not end.

        Shards that miss the deadline of _stop are abandoned with their threads: a thread cannot be ended from outside.
        """
        with self._scope:
            async with trio.open_nursery() as decisions:
                decisions.start_soon(self.data.watch, self.events.publish)
                async with trio.open_nursery() as shards:
                    limiter = trio.CapacityLimiter(self._engine.shard_count)
                    for shard in range(self._engine.shard_count):
                        shards.start_soon(self._run_shard, shard, limiter, decisions)
                decisions.cancel_scope.cancel()  # Their clients are gone, and nothing is written any more.
        self.events.close()
        self._shards_ended.set()
        if self._failure is not None:
            raise self._failure
        if self.has_abandoned_shards:
            raise ShardFailed(f"a shard did not stop within {self.config.server.stop_grace_s + STOP_SLACK_S:g} s")

    @property
    def has_abandoned_shards(self) -> bool:
        """Whether threads may still run in the engine, which then must not be closed."""
        return self._scope.cancelled_caught

    async def _run_shard(self, shard: int, limiter: trio.CapacityLimiter, decisions: trio.Nursery) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, shard, decisions)
            try:
                await trio.to_thread.run_sync(
                    self._engine.run_shard,
                    shard,
                    thread_name=f"rookery-shard-{shard}",
                    abandon_on_cancel=True,
                    limiter=limiter,
                )
            except Exception as error:
                self._fail(shard, f"died: {error!r}", error)
            if not self._shards_are_told:
                self._fail(shard, "ended without being told to", None)
            if self._failure is not None:
                nursery.cancel_scope.cancel()  # No ShardStopped may ever come.

    def _fail(self, shard: int, reason: str, cause: Exception | None) -> None:
        _log.critical("shard_died", shard=shard, reason=reason)
        if self._failure is None:
            self._failure = ShardFailed(f"shard {shard} {reason}")
            self._failure.__cause__ = cause
        self._stop()

    async def _pump(self, shard: int, decisions: trio.Nursery) -> None:
        try:
            await self._hand_on_events(shard, decisions)
        except Exception as error:  # Our mistake; the threads must still be stopped in order.
            self._fail(shard, f"lost its event pump: {error!r}", error)

    async def _hand_on_events(self, shard: int, decisions: trio.Nursery) -> None:
        """Hand on what the shard tells, until it tells that it stops."""
        descriptor = self._engine.event_descriptor(shard)
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for index, event in enumerate(self._engine.take_events(shard), start=1):
                if isinstance(event, Reply):
                    self._replies.resolve(event)
                elif isinstance(event, ConnectRequested):
                    admitted = self.arrivals.insider(event)
                    if admitted is not None:
                        await self.admission.welcome(event, admitted)
                    else:
                        await self.admission.handle(self.arrivals.complete(event), decisions)
                elif isinstance(event, ConnectionClosed):
                    self.arrivals.close(event.ticket)
                elif isinstance(event, AuthReceived):
                    self.admission.exchanges.go_on(event)
                elif isinstance(event, ReauthenticationRequested):
                    self.admission.exchanges.begin_again(event, decisions)
                elif isinstance(event, AuthenticationAbandoned):
                    self.admission.exchanges.abandon(event.connection)
                elif isinstance(event, ShardStopped):
                    self._hand_on_notices(shard)
                    _log.info("shard_stopped", shard=shard, aborted_connections=event.aborted)
                    return
                if index % EVENTS_PER_CHECKPOINT == 0:
                    await trio.lowlevel.checkpoint()
            self._hand_on_notices(shard)

    def _hand_on_notices(self, shard: int) -> None:
        notices, lost = self._engine.take_notices(shard, EVENTS_PER_CHECKPOINT)
        self.events.lost_count += lost
        for notice in notices:
            self.events.publish(event_of(notice))

    async def _serve_entrances(self) -> None:
        """Let in connections until the broker stops; look after limits and certificates."""
        with self._entering:
            async with trio.open_nursery() as nursery:
                if self.gate.is_on:
                    nursery.start_soon(self.gate.watch)
                if self._tls_files:
                    nursery.start_soon(self._tls_files.watch)
                for listener_id, name in enumerate(self._listeners, start=1):
                    if name in self.entrances:
                        nursery.start_soon(self._let_in, name, listener_id)

    async def _let_in(self, name: str, listener_id: int) -> None:
        """Let in connections to a listener, and hand them to the shards."""

        def hand_over(arrived: Arrived) -> None:
            tls, approach = arrived.tls, arrived.approach
            tenant_id = self._tenancy.tenant_of(self.config.listeners[name], approach)
            ticket = self.arrivals.add(Arrival(tenant_id, approach.certificate, approach.certificate_name))

            def adopt(ssl: int = 0) -> None:
                self._engine.adopt(
                    arrived.descriptor,
                    listener_id,
                    is_websocket=arrived.is_websocket,
                    early=arrived.early,
                    ssl=ssl,
                    peer=arrived.peer,
                    is_counted=arrived.is_counted and self.gate.is_on,
                    network=arrived.network,
                    ticket=ticket,
                )

            try:
                if tls is None:
                    adopt()
                else:
                    tls.lend(adopt)
            except BaseException:
                self.arrivals.close(ticket)
                raise

        await self.entrances[name].serve(hand_over)

    async def _start(self, nursery: trio.Nursery) -> None:
        """Give the shards their tenants and the listeners; they have answered when it returns."""
        await self.statistics()
        for tenant_id, section in self.config.tenants.items():
            await _insist(partial(self.settings.put, tenant_id, Layer.CONFIGURATION, section.settings))
        await self.stored_settings.load()
        await self.bans.reload()
        await nursery.start(self.strangers.watch, self.events)
        await _insist(partial(self._engine.listen, self._listener.fileno()))
        for listener_id, (name, listener) in enumerate(self._listeners.items(), start=1):
            if name not in self.entrances:
                await _insist(partial(self._engine.listen, listener.fileno(), listener_id))
        nursery.start_soon(self._serve_entrances)
        self._is_serving = True
        _log.info("shards_started", count=self._engine.shard_count, server_id=self.server_id)

    def _close(self) -> None:
        if not self.has_abandoned_shards:
            self._engine.close()

    def _stop(self) -> None:
        """Tell the shards to say good-bye and return; _serve ends within the grace and a little more."""
        if self._shards_are_told:
            return
        self.begin_stop()
        grace_s = self.config.server.stop_grace_s
        self._shards_are_told = True
        self._engine.stop(round(grace_s * 1000))
        self._scope.deadline = trio.current_time() + grace_s + STOP_SLACK_S


def _open_listener(section: ListenerSection, passed: PassedSockets | None) -> AbstractContextManager[socket.socket]:
    if section.kind == "unix":
        return open_unix_listener(section.bind, section.backlog, section.mode, passed)
    return open_listener(section.bind, section.backlog, passed)


@asynccontextmanager
async def open_broker(
    config: Config | None = None,
    *,
    authenticator: Authenticator | None = None,
    enhanced_authenticators: Iterable[EnhancedAuthenticator] = (),
    passed: PassedSockets | None = None,
) -> AsyncIterator[Broker]:
    """A broker that serves MQTT while the block runs, in any trio program; several may run in one process.

    Without config it has the defaults and a free port of the loopback address (broker.mqtt_address). At the end of the
    block, and when it is cancelled or raises, clients are told, what was accepted is flushed, and everything is
    closed. authenticator stands in for that of the configuration; enhanced_authenticators come before its own, and an
    authenticator that is an enhanced one, too, before them. Of passed those are used that are bound where config says;
    the others stay the caller's. It installs no signal handler, configures no log, and
    reads neither environment nor file, except the rules and passwords that config names.

    Raises ListenError, TlsFileError, DataDirectoryError, LogError, StoreError, PluginError, RulesFileError,
    PasswordFileError, KeySetError, FetchError, and ShardFailed when a shard dies, which cancels the block. An error of
    the block leaves as itself, not in a group.
    """
    if config is None:
        config = Config(mqtt=MqttSection(bind=Address("127.0.0.1", 0)))
    with only_error():
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(open_listener(config.mqtt.bind, config.mqtt.backlog, passed))
            listeners = {
                name: stack.enter_context(_open_listener(section, passed)) for name, section in config.listeners.items()
            }
            tls_contexts = {
                name: TlsContexts(f"listeners.{name}", section.tls_terms)
                for name, section in config.listeners.items()
                if section.is_tls
            }
            if config.api.is_tls:
                tls_contexts["api"] = TlsContexts("api", config.api.tls_terms)
            stack.enter_context(lock_directory(config.data.directory))
            store = await stack.enter_async_context(open_store(config.data.directory))
            plugins = await stack.enter_async_context(open_plugins(config.plugins))
            permissions = await open_permissions(config.permissions, store.rules)
            opened = await stack.enter_async_context(
                # Whoever brings an authenticator of his own needs none of the files that the chain would read.
                open_authenticators(config, store, plugins.authenticator, with_chain=authenticator is None)
            )
            authenticator = authenticator or opened.authenticator
            engine = Engine(
                shard_count=config.shards.count,
                server_id=config.server.id or f"{socket.gethostname()}-{secrets.token_hex(4)}",
                default_settings=config.settings,
            )
            enhanced = (
                *enhanced_authenticators,
                *plugins.enhanced_authenticators,
                *opened.enhanced,
            )
            broker = Broker(
                config,
                engine,
                authenticator,
                listener,
                store,
                plugins,
                enhanced,
                permissions,
                listeners,
                opened=opened,
                tls_contexts=tls_contexts,
            )
            stack.callback(broker._close)
            if tls_contexts:
                lend_functions(engine)
            broker.data = await stack.enter_async_context(open_durable_data(config.data, engine))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(broker._serve)
                try:
                    await nursery.start(broker._run_plugins)
                    await broker._start(nursery)
                    yield broker
                finally:
                    broker._stop()


async def _provide_rules(
    plugins: PluginHost, compiler: ClaimedRules, request: ConnectRequested, admitted: Admitted
) -> Permissions | None:
    rules = await plugins.provide_rules(request, admitted)
    return None if rules is None else compiler.compile_rules(rules)


async def _insist(command: Callable[[], object]) -> None:
    """Give a command to the engine as soon as its queue has room."""
    while True:
        try:
            command()
            return
        except EngineBusy:
            await trio.sleep(RETRY_S)


@lru_cache(maxsize=256)
def _topic_rules(settings: TenantSettings) -> TopicRules:
    return TopicRules(
        topic_size_maximum=settings.max_topic_length,
        level_count_maximum=min(settings.max_topic_levels, 65535),
        level_size_maximum=min(settings.max_topic_level_length, 65535),
    )
