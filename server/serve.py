"""The process: limits, signals, the ready line, exit codes.

What it does at SIGTERM and SIGINT, within 5 s: stop accepting, let HTTP requests in work finish (at most a second),
tell the clients and flush (server.stop_grace_s), return 0. A second one ends the process at once. At SIGHUP files that
are kept beside the configuration are read again.
"""

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

import trio

from rookery.core.log.errors import LogError

from .activation import passed_sockets
from .address import Address
from .auth.fetching import FetchError
from .auth.key_set import KeySetError
from .auth.password_file import PasswordFileError
from .broker import Broker
from .config import Config
from .data_directory import DataDirectoryError, DataDirectoryInUse
from .errors import ShardFailed
from .exit_code import ExitCode
from .listeners import AddressInUse, ListenDenied, ListenError, open_listener
from .log import get_logger
from .opening import open_broker
from .permissions import RulesFileError
from .scheduling import go_first, yield_to_shards
from .store import StoreError, StoreLocked, StoreUnavailable
from .tls.contexts import TlsFileError

API_BACKLOG = 128

_log = get_logger(__name__)

# Serves HTTP on a listening socket for as long as the context is open; gives the address that it serves.
Front = Callable[[Broker, socket.socket], AbstractAsyncContextManager[Address]]


class FrontError(Exception):
    """The HTTP side cannot be served as it is configured; one line for the operator."""


def run(config: Config, front: Front, about: Mapping[str, str]) -> ExitCode:
    """Serve until SIGTERM or SIGINT; the whole life of the process after its configuration is known.

    about goes into the first line of the log: version and the like.
    """
    _raise_descriptor_limit()
    go_first()
    try:
        trio.run(_serve, config, front, about)
    except AddressInUse as error:
        return _exit(error, ExitCode.UNAVAILABLE)
    except ListenDenied as error:
        return _exit(error, ExitCode.PERMISSION)
    except ListenError as error:
        return _exit(error, ExitCode.UNAVAILABLE)
    except (RulesFileError, PasswordFileError, KeySetError, FetchError, TlsFileError) as error:
        return _exit(error, ExitCode.PERMISSION if isinstance(error.__cause__, PermissionError) else ExitCode.CONFIG)
    except (DataDirectoryInUse, StoreLocked) as error:
        return _exit(error, ExitCode.UNAVAILABLE)
    except LogError as error:
        return _exit(error, ExitCode.DATA)
    except (DataDirectoryError, StoreUnavailable) as error:
        return _exit(error, ExitCode.PERMISSION)
    except (StoreError, FrontError) as error:
        return _exit(error, ExitCode.CONFIG)
    except ShardFailed as error:
        return _exit(error, ExitCode.FAILURE)
    return ExitCode.OK


def _exit(error: Exception, code: ExitCode) -> ExitCode:
    """Say what is wrong in one line for a person: in whatever form the log is, who started us reads this."""
    print(f"rookery: {error}", file=sys.stderr)
    return code


async def _serve(config: Config, front: Front, about: Mapping[str, str]) -> None:
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        passed_sockets() as passed,
        open_listener(config.api.bind, API_BACKLOG, passed) as api_listener,
    ):
        async with open_broker(config, passed=passed) as broker, front(broker, api_listener) as api_address:
            if passed:
                _log.warning("passed_sockets_unused", addresses=passed.names())
            yield_to_shards()
            _spare_collector()
            _log.info("server_started", mqtt=str(broker.mqtt_address), api=str(api_address), **about)
            for name, address in broker.addresses.items():
                _log.info("listening", listener=name, kind=config.listeners[name].kind, address=str(address))
            _warn(config)
            listeners = "".join(f" {name}={address}" for name, address in broker.addresses.items())
            print(f"ready mqtt={broker.mqtt_address} api={api_address}{listeners}", flush=True)
            while (received := await anext(signals)) == signal.SIGHUP:
                await broker.reload()
            _log.info("stop_requested", signal=signal.Signals(received).name)
            broker.begin_stop()
            signal.signal(signal.SIGTERM, _exit_at_once)
            signal.signal(signal.SIGINT, _exit_at_once)
        _log.info("server_stopped")


def _warn(config: Config) -> None:
    """Say at each start what an operator may not have meant."""
    if config.data.is_memory:
        _log.warning(
            "data_kept_in_memory", message="sessions, retained messages and administrators' data end with the process"
        )
    if not all(bind.is_loopback for bind, _ in config.binds_that_ask_nobody.values()):
        _log.warning(
            "open_to_everybody",
            authentication=list(config.authentication.chain),
            message="whoever reaches an address that asks nobody who he is may act as any user of any tenant",
        )


def _exit_at_once(signal_number: int, frame: object) -> None:
    os._exit(128 + signal_number)


def _spare_collector() -> None:
    """Take what lives as long as the process out of garbage collection.

    Modules, routes and models are most of the heap of Python; walking through them in each full collection stopped
    this thread, and with it logins and HTTP requests, for 50 ms.
    """
    gc.collect()
    gc.freeze()


def _raise_descriptor_limit() -> None:
    """Allow as many open sockets as the operator allows: one connection is one descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _log.debug("descriptor_limit_raised", before=soft, now=hard)
