"""What happens to a connection between accept and the shard that serves it: PROXY header, TLS handshake, upgrade.

                nursery of open_broker
                         |
               serve (one per listener that needs it)
                 |-- Handshakes.run   all handshakes of TLS, unless a header comes first
                 |-- _guard   header, handshake, request and answer, then the descriptor goes to a shard
                 |-- _guard   ...    at most handshakes_limit of them

Connections of plain MQTT are accepted by the shards themselves. Whatever goes wrong on the way in closes that
connection, is logged and counted, and reaches nobody else.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

import trio

from rookery.core.errors import EngineBusy

from .address import Address
from .auth.penalties import host_of
from .config_listeners import ListenerSection
from .log import get_logger
from .proxy_protocol import SIZE_MAXIMUM, BadProxyHeader, Proxied, header_size, parse_header
from .tenancy import Approach, tenant_of_path
from .tls.contexts import TlsContexts
from .tls.handshakes import Handshakes
from .tls.stream import HandshakeFailed, TlsStream, shake_hands
from .upgrades import UpgradeFailed, upgrade

BUSY_S = 0.001  # a full command queue is drained by the next turn of its shard, within a millisecond
ACCEPT_PAUSE_S = 0.1  # after accept failed for want of descriptors or memory: trying on would only spin
LINGER_S = 1.0  # for a client that was turned away to read why: closing at once could take the alert from it

_LINGER_BYTES = 65_536  # that it may still send meanwhile
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

_log = get_logger(__name__)


_NOT_PROXIED = Proxied()
_DIRECT = Approach()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A connection that a shard may serve."""

    descriptor: int  # non-blocking
    tls: TlsStream | None = None
    is_websocket: bool = False
    early: bytes = b""  # bytes of frames that came with the request for the upgrade
    approach: Approach = _DIRECT
    peer: str = ""  # that a proxy told of; empty = that of the socket
    is_counted: bool = False  # by the gate; the shard tells it when the connection closes
    network: int = 0


# Gives a connection to a shard, which owns its descriptor and its SSL object from then on; else raises. EngineBusy: it
# may be tried again.
HandOver = Callable[[Arrived], None]

# What a connection brings that has its handshake behind it.
Greeted = TlsStream | Exception


class Gate(Protocol):
    """Who counts connections; the Engine does."""

    def enter(self, listener_id: int, host: str) -> tuple[int, int]:
        """Why a connection may not come in (0 = it may, and counts), and the network that it counts by."""
        ...

    def leave(self, listener_id: int, network: int) -> None:
        """It ended before a shard had it."""
        ...


@dataclass(slots=True)
class _Visitor:
    """A connection on its way in."""

    connection: trio.socket.SocketType
    peer: str  # for the log
    is_counted: bool = False  # by the gate; false again when a shard has it, or while a proxy speaks
    network: int = 0


class _GateClosed(Exception):
    """There are too many connections; the gate has counted it."""


@dataclass(slots=True)
class EntranceCounts:
    """What became of the connections of one listener."""

    admitted: int = 0  # given to a shard
    failed: int = 0  # by a wrong header, handshake or request, because they ended, or were too slow
    turned_away: int = 0  # closed at once because too many handshakes were under way


class Entrance:
    """The way in through one listener, which stays the caller's."""

    def __init__(
        self,
        listener: socket.socket,
        name: str,
        section: ListenerSection,
        contexts: TlsContexts | None,
        gate: Gate,
        listener_id: int,
    ) -> None:
        self.counts = EntranceCounts()
        self._listener = listener
        self._name = name
        self._section = section
        self._contexts = contexts  # None = no TLS
        self._gate = gate
        self._listener_id = listener_id
        self.in_work_count = 0  # handshakes and upgrades
        self._handshakes: Handshakes | None = None
        if contexts is not None and not section.proxy_protocol:
            self._handshakes = Handshakes(section.handshake_timeout_s)

    async def serve(self, hand_over: HandOver) -> None:
        """Accept connections and let them in until cancelled.

        Connections above section.handshakes_limit at once are closed. Each has section.handshake_timeout_s for all.
        """
        accepting = trio.socket.from_stdlib_socket(self._listener)
        async with trio.open_nursery() as nursery:
            if self._handshakes is not None:
                nursery.start_soon(self._handshakes.run)
            while True:
                try:
                    connection, address = await accepting.accept()
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        _log.warning("accept_failed", listener=self._name, reason=str(error))
                        await trio.sleep(ACCEPT_PAUSE_S)
                    elif error.errno == errno.EBADF:
                        return
                    continue  # Anything else concerns a connection that was lost before it was accepted.
                if self.in_work_count >= self._section.handshakes_limit:
                    self.counts.turned_away += 1
                    connection.close()
                    continue
                visitor = _Visitor(connection, _name_of(address))
                if not self._section.proxy_protocol:  # Else it is not known yet who it is.
                    try:
                        self._enter(visitor)
                    except _GateClosed:
                        connection.close()
                        continue
                self.in_work_count += 1
                if self._handshakes is None or self._contexts is None:
                    nursery.start_soon(self._guard, visitor, hand_over)
                else:
                    is_over = partial(self._go_on, visitor, hand_over, nursery)
                    try:
                        self._handshakes.begin(connection, self._contexts.default, is_over)
                    except Exception as error:
                        is_over(error)

    def _enter(self, visitor: _Visitor) -> None:
        reason, visitor.network = self._gate.enter(self._listener_id, host_of(visitor.peer).partition("%")[0])
        if reason:
            raise _GateClosed
        visitor.is_counted = True

    def _go_on(self, visitor: _Visitor, hand_over: HandOver, nursery: trio.Nursery, greeted: Greeted) -> None:
        """Its handshake is over: most connections are a shard's at once, and the others get a task."""
        if isinstance(greeted, TlsStream) and not self._section.is_websocket:
            try:
                hand_over(_arrived(visitor, greeted))
            except EngineBusy:
                pass
            except Exception:
                self._break(visitor)
                self._let_go(visitor)
                return
            else:
                visitor.is_counted = False
                visitor.connection.detach()
                self.counts.admitted += 1
                self._let_go(visitor)
                return
        nursery.start_soon(self._guard, visitor, hand_over, greeted)

    async def _guard(self, visitor: _Visitor, hand_over: HandOver, greeted: Greeted | None = None) -> None:
        """The one place where what goes wrong in one connection ends."""
        try:
            with trio.fail_after(self._section.handshake_timeout_s):
                await self._let_in(visitor, hand_over, greeted)
            self.counts.admitted += 1
        except _GateClosed:
            pass  # The gate has counted it, and tells the log of all of them together.
        except (HandshakeFailed, UpgradeFailed) as error:
            event = "handshake_failed" if isinstance(error, HandshakeFailed) else "upgrade_failed"
            self._fail(visitor, event, str(error))
            await _linger(visitor.connection)
        except BadProxyHeader as error:
            # Nobody is told anything: who sends such headers is no client.
            self._fail(visitor, "proxy_refused", str(error))
        except (OSError, trio.TooSlowError) as error:
            reason = "too slow" if isinstance(error, trio.TooSlowError) else str(error)
            self._fail(visitor, _event_of(self._section), reason)
        except Exception:
            self._break(visitor)
        finally:
            self._let_go(visitor)

    def _break(self, visitor: _Visitor) -> None:
        self.counts.failed += 1
        _log.exception("entrance_broken", listener=self._name, peer=visitor.peer)

    def _let_go(self, visitor: _Visitor) -> None:
        self.in_work_count -= 1
        visitor.connection.close()
        if visitor.is_counted:
            self._gate.leave(self._listener_id, visitor.network)

    def _fail(self, visitor: _Visitor, event: str, reason: str) -> None:
        self.counts.failed += 1
        _log.info(event, listener=self._name, peer=visitor.peer, reason=reason)

    async def _let_in(self, visitor: _Visitor, hand_over: HandOver, greeted: Greeted | None) -> None:
        if isinstance(greeted, Exception):
            raise greeted
        section, connection = self._section, visitor.connection
        proxied = _NOT_PROXIED
        if section.proxy_protocol:
            self._check_proxy(connection)
            proxied = await _read_proxy_header(connection)
            visitor.peer = proxied.peer or visitor.peer
            self._enter(visitor)
        tls = greeted
        if tls is None and self._contexts is not None:
            tls = await shake_hands(connection, self._contexts.default)
        path, early = "", b""
        if section.is_websocket:
            try:
                path, early = await upgrade(tls or connection, self._is_known_path, section.origins)
            except UpgradeFailed:
                if tls is not None:
                    tls.end()
                raise
        arrived = _arrived(visitor, tls, proxied, is_websocket=section.is_websocket, path=path, early=early)
        while True:
            try:
                hand_over(arrived)
                break
            except EngineBusy:
                await trio.sleep(BUSY_S)
        visitor.is_counted = False
        connection.detach()

    def _is_known_path(self, path: str) -> bool:
        if self._section.tenant_from == "path":
            return tenant_of_path(path, self._section.path) is not None
        return path == self._section.path

    def _check_proxy(self, connection: trio.socket.SocketType) -> None:
        if connection.family == socket.AF_UNIX:
            return  # The permissions of the socket say who may.
        host = str(connection.getpeername()[0])
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        if not any((mapped or address) in network for network in self._section.proxy_trusted):
            raise BadProxyHeader(f"{host} is no trusted proxy")


def _arrived(
    visitor: _Visitor,
    tls: TlsStream | None,
    proxied: Proxied = _NOT_PROXIED,
    *,
    is_websocket: bool = False,
    path: str = "",
    early: bytes = b"",
) -> Arrived:
    approach = Approach(
        server_name=proxied.server_name if tls is None else tls.server_name,
        path=path,
        certificate=proxied.certificate if tls is None else tls.certificate,
        certificate_name=proxied.certificate_name if tls is None else None,
    )
    descriptor = visitor.connection.fileno()
    return Arrived(descriptor, tls, is_websocket, early, approach, proxied.peer, visitor.is_counted, visitor.network)


def _event_of(section: ListenerSection) -> str:
    """What the log says when the connection did not finish what comes first."""
    if section.is_tls:
        return "handshake_failed"
    return "upgrade_failed" if section.is_websocket else "proxy_refused"


def _name_of(address: object) -> str:
    """A peer for the log, as accept gives it."""
    return str(Address(str(address[0]), int(address[1]))) if isinstance(address, tuple) else "local"


async def _read_proxy_header(connection: trio.socket.SocketType) -> Proxied:
    """Take the header off, and not a byte more: what follows belongs to TLS, or to a shard."""
    received = b""
    while True:
        peeked = await connection.recv(SIZE_MAXIMUM, socket.MSG_PEEK)
        if not peeked:
            raise BadProxyHeader("the connection ended within the header")
        size = header_size(received + peeked)
        received += await connection.recv(len(peeked) if size is None else min(len(peeked), size - len(received)))
        if len(received) == size:
            return parse_header(received)


async def _linger(connection: trio.socket.SocketType) -> None:
    """Let the client read its last bytes: where some of its own are unread, closing takes them away from it."""
    left = _LINGER_BYTES
    with trio.move_on_after(LINGER_S):
        try:
            connection.shutdown(socket.SHUT_WR)
            while left > 0 and (chunk := await connection.recv(4096)):
                left -= len(chunk)
        except OSError:
            return
