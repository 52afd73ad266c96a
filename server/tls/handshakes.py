"""The handshakes of one listener, all in one task.

    begin -> [epoll] -> a step of OpenSSL's when the client has said something -> is_over(stream or what went wrong)

A task, a deadline and two waits of trio's for each handshake cost as much as the signature. So the sockets are in an
epoll of our own, and trio waits for that. All have the same time, so that the oldest is the first to be too slow.
"""

import math
import select
from collections.abc import Callable
from dataclasses import dataclass

import trio
from OpenSSL import SSL

from .stream import TlsStream, advance_handshake, begin_handshake

STEPS = 8  # of handshakes, between which nothing else of this thread has its turn: some 1 ms

# Is told what became of it: most often HandshakeFailed or trio.TooSlowError where it is no stream. Must not raise.
IsOver = Callable[[TlsStream | Exception], None]


@dataclass(slots=True, frozen=True)
class _Handshake:
    connection: SSL.Connection
    socket: trio.socket.SocketType
    deadline_s: float  # by trio's clock
    is_over: IsOver


class Handshakes:
    """Those that are under way. Sockets stay the caller's, who must not close them before is_over was called."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._epoll = select.epoll()
        self._under_way: dict[int, _Handshake] = {}  # by descriptor; the oldest first
        self._waiting = trio.CancelScope()  # its deadline is that of the oldest

    async def run(self) -> None:
        """Until cancelled; then the sockets of the rest are closed without a word."""
        try:
            while True:
                with trio.CancelScope(deadline=self._deadline_s()) as self._waiting:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, _ in self._epoll.poll(0, STEPS):
                    self._advance(descriptor)
                self._end_late_ones()
        finally:
            for handshake in self._under_way.values():
                handshake.socket.close()
            self._under_way.clear()
            self._epoll.close()

    def begin(self, socket: trio.socket.SocketType, context: SSL.Context, is_over: IsOver) -> None:
        """A new one; is_over is not called before run goes on. Raises OSError when the kernel has no room for it."""
        descriptor = socket.fileno()
        connection = begin_handshake(socket, context)
        self._epoll.register(descriptor, select.EPOLLIN)
        self._under_way[descriptor] = _Handshake(connection, socket, trio.current_time() + self._timeout_s, is_over)
        if len(self._under_way) == 1:
            self._waiting.deadline = self._deadline_s()

    def _deadline_s(self) -> float:
        for oldest in self._under_way.values():
            return oldest.deadline_s
        return math.inf

    def _advance(self, descriptor: int) -> None:
        handshake = self._under_way[descriptor]
        try:
            outcome: TlsStream | Exception = advance_handshake(handshake.connection, handshake.socket)
        except SSL.WantReadError:
            self._epoll.modify(descriptor, select.EPOLLIN)
            return
        except SSL.WantWriteError:
            self._epoll.modify(descriptor, select.EPOLLOUT)
            return
        except Exception as error:  # One connection's, whatever it is.
            outcome = error
        self._end(descriptor, outcome)

    def _end_late_ones(self) -> None:
        now_s = trio.current_time()
        while self._deadline_s() <= now_s:
            self._end(next(iter(self._under_way)), trio.TooSlowError())

    def _end(self, descriptor: int, outcome: TlsStream | Exception) -> None:
        handshake = self._under_way.pop(descriptor)
        self._epoll.unregister(descriptor)
        handshake.is_over(outcome)
