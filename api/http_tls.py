"""HTTP over TLS: the stream of a connection after its handshake, and the name in the certificate of its client.

The contexts are made like those of MQTT listeners, with the same library: server names, revocation lists and reading
files again are theirs.
"""

import trio

from rookery.server.auth.peer_certificate import InvalidCertificate, PeerCertificate
from rookery.server.tls.contexts import TlsContexts
from rookery.server.tls.stream import HandshakeFailed, TlsStream, shake_hands

_COMMON_NAME = "subject.CN"


class HttpTlsStream:
    """What hypercorn wants of a stream, over TLS. Owns the socket.

    The SSL object knows the descriptor and not the socket: once that is closed its number may be somebody else's, so
    it is looked at before each call.
    """

    def __init__(self, tls: TlsStream, socket: trio.socket.SocketType) -> None:
        self.socket = socket
        self._tls = tls
        self.certificate_name = _name_of(tls.certificate)

    async def receive_some(self, size: int) -> bytes:
        """Up to size bytes; none at the end. Raises trio's errors of streams."""
        self._check()
        try:
            return await self._tls.recv(size)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes) -> None:
        """All of data. Raises trio's errors of streams."""
        rest = memoryview(data)
        try:
            while rest:
                self._check()
                rest = rest[await self._tls.send(rest) :]
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_eof(self) -> None:
        """Nothing follows; what the client still sends can be received. Raises trio's errors of streams."""
        self._check()
        self._tls.end()
        try:
            self.socket.shutdown(trio.socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close at once."""
        self.socket.close()
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError


async def secure(stream: trio.SocketStream, contexts: TlsContexts, timeout_s: float) -> HttpTlsStream:
    """The stream after its handshake, whose socket is the new one's then. Raises HandshakeFailed."""
    with trio.move_on_after(timeout_s):
        return HttpTlsStream(await shake_hands(stream.socket, contexts.default), stream.socket)
    raise HandshakeFailed(f"the handshake took more than {timeout_s:g} s (api.request_timeout_s)")


def _name_of(certificate: bytes | None) -> str | None:
    """The common name; empty when a certificate has none, None when there is no certificate."""
    if certificate is None:
        return None
    try:
        names = PeerCertificate.from_der(certificate).values.get(_COMMON_NAME, ())
    except InvalidCertificate:
        return ""
    return names[0] if len(names) == 1 else ""
