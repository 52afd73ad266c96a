"""Answers of shards, brought back to the tasks that asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import trio

from rookery.core.events import PublishOutcome, Reply, SessionInfo, ShardStatistics
from rookery.core.pages import Page

Answer = PublishOutcome | SessionInfo | ShardStatistics | Page | int | None


class PendingReply:
    """One command on its way: its number, and later its answer."""

    __slots__ = ("_answer", "_answered", "request")

    def __init__(self, request: int) -> None:
        self.request = request
        self._answered = trio.Event()
        self._answer: Answer = None

    def resolve(self, answer: Answer) -> None:
        self._answer = answer
        self._answered.set()

    async def wait(self) -> Answer:
        """The answer. Cancelling is safe: an answer that comes later is dropped."""
        await self._answered.wait()
        return self._answer


class Replies:
    """Numbers commands and hands each answer to the task that waits for it.

    What waits here is bounded by the tasks that wait.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._pending: dict[int, PendingReply] = {}

    @contextmanager
    def expect(self, reply_count: int) -> Iterator[list[PendingReply]]:
        """So many numbers for commands, forgotten at the end of the block whether answered or not."""
        expected = [PendingReply(next(self._numbers)) for _ in range(reply_count)]
        for pending in expected:
            self._pending[pending.request] = pending
        try:
            yield expected
        finally:
            for pending in expected:
                self._pending.pop(pending.request, None)

    def resolve(self, reply: Reply) -> None:
        """Wake the task that waits for this answer. One that came after its task gave up is dropped."""
        pending = self._pending.pop(reply.request, None)
        if pending is not None:
            pending.resolve(reply.value)
