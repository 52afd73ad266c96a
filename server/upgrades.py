"""The WebSocket upgrade: from the first byte of HTTP to the first byte of a frame.

The request is read and answered by the `websockets` package; frames are walked by the shard (core/streams).
"""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

REQUEST_SIZE_MAXIMUM = 16_384  # bytes of a request with all its headers: browsers with many cookies send 8 KiB

_READ_SIZE = 4096
_SUBPROTOCOLS = (Subprotocol("mqtt"), Subprotocol("mqttv3.1"))  # in the order of preference


class ByteStream(Protocol):
    """A connected socket, or TLS on one. Both methods raise OSError."""

    def recv(self, size: int, /) -> Awaitable[bytes]:
        """Up to size bytes; none at the end of the stream."""
        ...

    def send(self, data: memoryview, /) -> Awaitable[int]:
        """The number of bytes that were taken."""
        ...


class UpgradeFailed(Exception):
    """The client asked for no WebSocket of MQTT, or the connection ended before; the text is for the log."""


async def upgrade(connection: ByteStream, is_known: Callable[[str], bool], origins: Sequence[str]) -> tuple[str, bytes]:
    """Answer the request for an upgrade at a known path: that path, and the bytes that came behind the request.

    Pages of other origins are refused; no origins = all may. Raises UpgradeFailed, after the client was told, and
    OSError.
    """
    head, early = await _read_head(connection)
    protocol = ServerProtocol(
        origins=[Origin(origin) for origin in origins] or None, subprotocols=_SUBPROTOCOLS, extensions=None
    )
    protocol.receive_data(head)
    request = next(iter(protocol.events_received()), None)
    if not isinstance(request, Request):
        await _answer(connection, _bare_refusal(HTTPStatus.BAD_REQUEST))
        raise UpgradeFailed("not a request of HTTP/1.1")
    path = urlsplit(request.path).path
    if not is_known(path):
        response = protocol.reject(HTTPStatus.NOT_FOUND, "MQTT is at another path\n")
    else:
        response = protocol.accept(request)
    await _answer(connection, response.serialize())
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        cause = protocol.handshake_exc or f"no such path: {request.path}"
        raise UpgradeFailed(f"{response.status_code}: {cause}")
    return path, early


async def _read_head(connection: ByteStream) -> tuple[bytes, bytes]:
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


async def _answer(connection: ByteStream, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await connection.send(rest) :]
