"""Turns at something scarce that decides about CONNECTs: the threads that hash, the connections to a service.

        flow "acme"          c9 c8 c7 c6 ... (a storm)   --.
        flow "beta"          c1                          ---+--> round robin --> as many at once as there are places
        flow "192.0.2.7"     c2                          --'

Those who wait stand in one line per flow, and the lines take turns: a tenant whose thousand clients come at once delays
another one's login by one decision per line and not by a thousand. Whoever waits says nothing himself about his flow:
admission does, for all that a decision takes.
"""

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import trio

FLOW: ContextVar[str] = ContextVar("flow", default="")  # of this task; see LoginFlows


class FairTurns:
    """So many at once, and the others one flow after the other."""

    def __init__(self, count: int) -> None:
        self._free_count = count
        # The line that has its turn next is the first. None of them is empty.
        self._lines: OrderedDict[str, deque[trio.Event]] = OrderedDict()

    @property
    def waiting_count(self) -> int:
        """Of all flows."""
        return sum(len(line) for line in self._lines.values())

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The block runs when it is the turn of this task's flow. Cancelling gives the turn to the next."""
        if self._free_count > 0:
            self._free_count -= 1
        else:
            await self._wait(FLOW.get())
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, flow: str) -> None:
        called = trio.Event()
        self._lines.setdefault(flow, deque()).append(called)
        try:
            await called.wait()
        except trio.Cancelled:
            if called.is_set():
                self._pass_on()
            else:
                self._lines[flow].remove(called)
                if not self._lines[flow]:
                    del self._lines[flow]
            raise

    def _pass_on(self) -> None:
        if not self._lines:
            self._free_count += 1
            return
        flow, line = self._lines.popitem(last=False)
        line.popleft().set()
        if line:
            self._lines[flow] = line  # behind all others
