"""Listening sockets: bound here, used by the shards (MQTT) and by the HTTP server."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from .activation import PassedSockets
from .address import Address


class ListenError(Exception):
    """An address cannot be listened on; the text is one line for the operator."""

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address


class AddressInUse(ListenError):
    """Another socket listens there."""


class ListenDenied(ListenError):
    """The operating system does not let us: a port below 1024, most likely."""


def open_listener(address: Address, backlog: int, passed: PassedSockets | None = None) -> socket.socket:
    """A non-blocking TCP socket that listens on address; the caller owns and closes it.

    Port 0 lets the kernel choose (see address_of). The host `::` serves IPv4 as well. A name is resolved here, which
    may block: listeners are opened at start, before anything is served. One of passed that is bound there is used
    instead of a new one. Raises ListenError.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(address, f"the host name does not resolve ({error})") from error
    family, kind, protocol, _, target = found[0]
    ready = passed.take(family, target) if passed is not None else None
    if ready is not None:
        return ready
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for connections of the last run to leave TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        listener.bind(target)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _explain(address, error) from error
    return listener


@contextlib.contextmanager
def open_unix_listener(
    address: Address, backlog: int, mode: int, passed: PassedSockets | None = None
) -> Iterator[socket.socket]:
    """A non-blocking Unix socket that listens on the path of address, with these permissions.

    A socket that a dead process has left there is replaced; one that somebody listens on is not, nor is anything else.
    Its file is removed behind the block, unless it was one of passed: those are systemd's. Raises ListenError.
    """
    ready = passed.take(socket.AF_UNIX, address.host) if passed is not None else None
    if ready is not None:
        with ready:
            yield ready
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _remove_stale(address)
            listener.bind(address.host)
            os.chmod(address.host, mode)  # Before listen: nobody can connect yet.
            listener.listen(backlog)
            listener.setblocking(False)
        except OSError as error:
            raise _explain(address, error) from error
        inode = os.stat(address.host).st_ino
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if os.stat(address.host).st_ino == inode:
                    os.unlink(address.host)


def _remove_stale(address: Address) -> None:
    if not Path(address.host).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.host)
        except ConnectionRefusedError:
            os.unlink(address.host)


def address_of(listener: socket.socket) -> Address:
    """Where listener is bound, with the port that the kernel chose."""
    if listener.family == socket.AF_UNIX:
        return Address(str(listener.getsockname()), 0)
    host, port, *_ = listener.getsockname()
    return Address(host, port)


def _explain(address: Address, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(address, "the path is in use" if address.is_path else "the port is in use")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ListenDenied(address, "permission denied")
    return ListenError(address, error.strerror or str(error))
