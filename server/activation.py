"""Sockets that systemd has opened for us (socket activation, sd_listen_fds(3)).

They take the place of those that the configuration would open: by the address that they are bound to. So nothing of it
stands in the configuration, and what it says of addresses stays true.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, MutableMapping

_FIRST_DESCRIPTOR = 3


class PassedSockets:
    """Listening stream sockets that nobody has taken yet; closed with the block."""

    def __init__(self, sockets: list[socket.socket] | None = None) -> None:
        self._sockets = list(sockets or ())

    def __len__(self) -> int:
        return len(self._sockets)

    def take(self, family: int, target: object) -> socket.socket | None:
        """The one that is bound to target (as socket.bind takes it), non-blocking; the caller's from now on."""
        for passed in self._sockets:
            if passed.family == family and _is_bound_to(passed, target):
                self._sockets.remove(passed)
                passed.setblocking(False)
                return passed
        return None

    def names(self) -> list[str]:
        """The addresses of those that are left, for the log."""
        return [str(passed.getsockname()) for passed in self._sockets]

    def close(self) -> None:
        """Close what nobody took."""
        while self._sockets:
            self._sockets.pop().close()


def _is_bound_to(passed: socket.socket, target: object) -> bool:
    bound = passed.getsockname()
    if passed.family == socket.AF_UNIX:
        return bool(bound == target)
    return isinstance(target, tuple) and bool(bound[:2] == target[:2])


@contextlib.contextmanager
def passed_sockets(environment: MutableMapping[str, str] = os.environ) -> Iterator[PassedSockets]:
    """Those that the environment names, if it means this process; its words are removed, so that no child sees them."""
    process = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    found = []
    if process == str(os.getpid()) and count.isdigit():
        for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count)):
            os.set_inheritable(descriptor, False)
            found.append(socket.socket(fileno=descriptor))
    passed = PassedSockets(found)
    try:
        yield passed
    finally:
        passed.close()
