"""From a configuration to a broker that runs, and to its orderly end."""

import secrets
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager

import trio

from rookery.core.engine import Engine

from .activation import PassedSockets
from .address import Address
from .auth.authenticator import Authenticator, EnhancedAuthenticator
from .auth.opening import open_authenticators
from .broker import Broker
from .config import Config
from .config_listeners import ListenerSection, MqttSection
from .data_directory import lock_directory
from .durable_data import open_durable_data
from .listeners import open_listener, open_unix_listener
from .nurseries import only_error
from .permissions import open_permissions
from .plugins.host import open_plugins
from .shard_threads import ShardThreads
from .store import open_store
from .tls.contexts import TlsContexts
from .tls.openssl import lend_functions


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
            engine = Engine(
                shard_count=config.shards.count,
                server_id=config.server.id or f"{socket.gethostname()}-{secrets.token_hex(4)}",
                default_settings=config.settings,
            )
            threads = ShardThreads(engine, config.server.stop_grace_s)
            stack.callback(threads.close_engine)
            if tls_contexts:
                lend_functions(engine)
            data = await stack.enter_async_context(open_durable_data(config.data, engine))
            broker = Broker(
                config,
                engine,
                threads,
                data,
                store,
                plugins,
                authenticator or opened.authenticator,
                (*enhanced_authenticators, *plugins.enhanced_authenticators, *opened.enhanced),
                opened,
                permissions,
                listener,
                listeners,
                tls_contexts,
            )
            async with trio.open_nursery() as nursery:
                try:
                    await broker._run(nursery)
                    yield broker
                finally:
                    broker._stop()


def _open_listener(section: ListenerSection, passed: PassedSockets | None) -> AbstractContextManager[socket.socket]:
    if section.kind == "unix":
        return open_unix_listener(section.bind, section.backlog, section.mode, passed)
    return open_listener(section.bind, section.backlog, passed)
