"""WebSocket upgrades: what happens on a connection between accept and the first frame.

                nursery of open_broker
                         |
               serve_upgrades (one per listener)
                 |-- _upgrade   request, answer, then the descriptor goes to a shard
                 |-- _upgrade   ...    at most handshakes_limit of them

The request is read and answered by the `websockets` package; frames are walked by the shard (core/streams). Whatever
goes wrong in one upgrade closes that connection, is logged and counted, and reaches nobody else.
"""

import errno
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import trio
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from .config import ListenerSection
from .log import get_logger

REQUEST_SIZE_MAXIMUM = 16_384  # bytes of a request with all its headers: browsers with many cookies send 8 KiB
ACCEPT_PAUSE_S = 0.1  # after accept failed for want of descriptors or memory: trying on would only spin

_READ_SIZE = 4096
_SUBPROTOCOLS = (Subprotocol("mqtt"), Subprotocol("mqttv3.1"))  # in the order of preference
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

_log = get_logger(__name__)

# Takes over a connected, non-blocking descriptor and the bytes that were read behind the request.
HandOver = Callable[[int, bytes], Awaitable[None]]


class UpgradeFailed(Exception):
    """The client asked for no WebSocket of MQTT, or the connection ended before; the text is for the log."""


@dataclass(slots=True)
class UpgradeCounts:
    """What became of the connections of one listener."""

    upgraded: int = 0
    failed: int = 0  # refused with an HTTP status, ended, or too slow
    turned_away: int = 0  # closed at once because too many upgrades were under way


async def serve_upgrades(
    listener: socket.socket, name: str, section: ListenerSection, hand_over: HandOver, counts: UpgradeCounts
) -> None:
    """Accept connections and upgrade them until cancelled; the listener stays the caller's.

    Connections above section.handshakes_limit at once are closed. One upgrade has section.handshake_timeout_s.
    """
    accepting = trio.socket.from_stdlib_socket(listener)
    in_work = 0

    async def guard(connection: trio.socket.SocketType, peer: str) -> None:
        nonlocal in_work
        try:
            with trio.fail_after(section.handshake_timeout_s):
                early = await _upgrade(connection, section)
                await hand_over(connection.fileno(), early)
                connection.detach()
            counts.upgraded += 1
        except (UpgradeFailed, OSError, trio.TooSlowError) as error:
            counts.failed += 1
            reason = "too slow" if isinstance(error, trio.TooSlowError) else str(error)
            _log.info("upgrade_failed", listener=name, peer=peer, reason=reason)
        except Exception:
            counts.failed += 1
            _log.exception("upgrade_broken", listener=name, peer=peer)
        finally:
            in_work -= 1
            connection.close()

    async with trio.open_nursery() as nursery:
        while True:
            try:
                connection, address = await accepting.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    _log.warning("accept_failed", listener=name, reason=str(error))
                    await trio.sleep(ACCEPT_PAUSE_S)
                elif error.errno == errno.EBADF:
                    return
                continue  # Anything else concerns a connection that was lost before it was accepted.
            if in_work >= section.handshakes_limit:
                counts.turned_away += 1
                connection.close()
                continue
            in_work += 1
            nursery.start_soon(guard, connection, str(address[0]))


async def _upgrade(connection: trio.socket.SocketType, section: ListenerSection) -> bytes:
    """Answer the request for an upgrade; the bytes that came behind it. Raises UpgradeFailed, OSError."""
    head, early = await _read_head(connection)
    protocol = ServerProtocol(
        origins=[Origin(origin) for origin in section.origins] or None, subprotocols=_SUBPROTOCOLS, extensions=None
    )
    protocol.receive_data(head)
    request = next(iter(protocol.events_received()), None)
    if not isinstance(request, Request):
        await _answer(connection, _bare_refusal(HTTPStatus.BAD_REQUEST))
        raise UpgradeFailed("not a request of HTTP/1.1")
    if urlsplit(request.path).path != section.path:
        response = protocol.reject(HTTPStatus.NOT_FOUND, f"MQTT is at {section.path}\n")
    else:
        response = protocol.accept(request)
    await _answer(connection, response.serialize())
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        cause = protocol.handshake_exc or f"no such path: {request.path}"
        raise UpgradeFailed(f"{response.status_code}: {cause}")
    return early


async def _read_head(connection: trio.socket.SocketType) -> tuple[bytes, bytes]:
    """The request up to its empty line, and what came behind it."""
    received = b""
    while len(received) <= REQUEST_SIZE_MAXIMUM:
        chunk = await connection.recv(_READ_SIZE)
        if not chunk:
            raise UpgradeFailed("the connection ended before the request did")
        received += chunk
        if not received[:1].isalpha():
            break  # MQTT and TLS begin with other bytes: no need to wait for more of them.
        head, end, early = received.partition(b"\r\n\r\n")
        if end:
            return head + end, early
    else:
        await _answer(connection, _bare_refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        raise UpgradeFailed(f"the request has more than {REQUEST_SIZE_MAXIMUM} bytes")
    await _answer(connection, _bare_refusal(HTTPStatus.BAD_REQUEST))
    raise UpgradeFailed("not HTTP")


def _bare_refusal(status: HTTPStatus) -> bytes:
    headers = Headers({"Connection": "close", "Content-Length": "0"})
    return Response(status.value, status.phrase, headers).serialize()


async def _answer(connection: trio.socket.SocketType, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await connection.send(rest) :]
