"""A TLS connection while the control plane has it: the handshake, a few bytes, then it goes to a shard.

                 shake_hands                 lend
    socket ----------------> TlsStream ----------------> shard
                 |                           |
          HandshakeFailed              the SSL object is the shard's,
       (an alert was sent)              the rest is forgotten

The SSL object reads and writes the socket itself. Until it is lent it belongs to the pyOpenSSL Connection, which frees
it when nobody refers to it any more: a handshake that fails, is too slow, or is cancelled needs no cleaning up.
"""

import datetime
from collections.abc import Callable
from typing import Protocol

import trio
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from .contexts import NoCommonProtocol, explain, server_name_of
from .openssl import address_of, disown, verification_complaint, was_resumed


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class HandshakeFailed(Exception):
    """The client speaks no TLS that we accept, or left; the text is for the log."""


class TlsStream:
    """A connection after its handshake."""

    def __init__(self, connection: SSL.Connection, socket: trio.socket.SocketType) -> None:
        self._connection = connection
        self._socket = socket
        self.server_name = server_name_of(connection)
        certificate = connection.get_peer_certificate(as_cryptography=True)
        self.certificate = None if certificate is None else certificate.public_bytes(Encoding.DER)

    async def recv(self, size: int) -> bytes:
        """Up to size bytes; none at the end of the stream. Raises OSError."""
        while True:
            try:
                return self._connection.recv(size)
            except SSL.WantReadError:
                await trio.lowlevel.wait_readable(self._socket)
            except SSL.WantWriteError:
                await trio.lowlevel.wait_writable(self._socket)
            except (SSL.ZeroReturnError, SSL.SysCallError):
                return b""
            except SSL.Error as error:
                raise OSError(explain(error)) from error

    async def send(self, data: memoryview) -> int:
        """The number of bytes that were taken. Raises OSError."""
        while True:
            try:
                return self._connection.send(data)
            except SSL.WantReadError:
                await trio.lowlevel.wait_readable(self._socket)
            except SSL.WantWriteError:
                await trio.lowlevel.wait_writable(self._socket)
            except SSL.Error as error:
                raise OSError(explain(error)) from error

    def lend(self, take: Callable[[int], None]) -> None:
        """Give the SSL object away to take, by its address; unless take raises it is no longer ours."""
        take(address_of(self._connection))
        disown(self._connection)

    def end(self) -> None:
        """Say that nothing more follows, if there is room for it at once."""
        try:
            self._connection.shutdown()
        except SSL.Error:
            return  # The end of the socket has to do.


def begin_handshake(socket: HasDescriptor, context: SSL.Context) -> SSL.Connection:
    """For advance_handshake."""
    connection = SSL.Connection(context, socket)  # type: ignore[arg-type]  # It asks for the descriptor only.
    connection.set_accept_state()
    return connection


def advance_handshake(connection: SSL.Connection, socket: trio.socket.SocketType) -> TlsStream:
    """Do what can be done now: the connection when the handshake is over.

    Raises SSL.WantReadError or SSL.WantWriteError when it waits for the client, HandshakeFailed when it will not be.
    A whole handshake costs this thread some 0.2 ms of OpenSSL's work with keys of P-256, which lets go of the GIL;
    shards never wait for it.
    """
    try:
        connection.do_handshake()
    except (SSL.WantReadError, SSL.WantWriteError):
        raise
    except (SSL.ZeroReturnError, SSL.SysCallError) as error:
        raise HandshakeFailed("the client left during the handshake") from error
    except NoCommonProtocol as error:
        raise HandshakeFailed(f"the client offers {error} by ALPN, and not MQTT") from error
    except SSL.Error as error:
        complaint = verification_complaint(connection)
        raise HandshakeFailed(f"{explain(error)}: {complaint}" if complaint else explain(error)) from error
    certificate = connection.get_peer_certificate(as_cryptography=True) if was_resumed(connection) else None
    if certificate is not None and certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        # OpenSSL verifies no certificate when it resumes a session.
        raise HandshakeFailed("the certificate of the resumed session has expired")
    return TlsStream(connection, socket)


async def shake_hands(socket: trio.socket.SocketType, context: SSL.Context) -> TlsStream:
    """The connection on socket after its handshake; the socket stays the caller's. Raises HandshakeFailed."""
    connection = begin_handshake(socket, context)
    while True:
        try:
            return advance_handshake(connection, socket)
        except SSL.WantReadError:
            await trio.lowlevel.wait_readable(socket)
        except SSL.WantWriteError:
            await trio.lowlevel.wait_writable(socket)
