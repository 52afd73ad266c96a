"""Listening sockets: bound here, used by the shards (MQTT) and by the HTTP server."""

import errno
import socket

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


def open_listener(address: Address, backlog: int) -> socket.socket:
    """A non-blocking TCP socket that listens on address; the caller owns and closes it.

    Port 0 lets the kernel choose (see address_of). The host `::` serves IPv4 as well. A name is resolved here, which
    may block: listeners are opened at start, before anything is served. Raises ListenError.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(address, f"the host name does not resolve ({error})") from error
    family, kind, protocol, _, target = found[0]
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


def address_of(listener: socket.socket) -> Address:
    """Where listener is bound, with the port that the kernel chose."""
    host, port, *_ = listener.getsockname()
    return Address(host, port)


def _explain(address: Address, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(address, "the port is in use")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ListenDenied(address, "permission denied")
    return ListenError(address, error.strerror or str(error))
