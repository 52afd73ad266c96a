"""Commands on their way to the shards, and their answers on the way back."""

from functools import partial

import trio

from rookery.core.errors import EngineBusy

from .commands import Command, insist
from .durable_data import DurableData
from .errors import BrokerBusy, BrokerLate, BrokerStopping
from .replies import Answer, Replies


class Questions:
    """Asks the shards of one broker."""

    def __init__(self, data: DurableData, timeout_s: float) -> None:
        self.replies = Replies()
        self._data = data
        self._timeout_s = timeout_s
        self._is_closed = False

    async def ask(self, commands: list[Command]) -> list[Answer]:
        """The answers to commands, each for a shard, in order. All are sent, or none when the first finds no room.

        Raises BrokerBusy with nothing done, BrokerLate, BrokerNotDurable when it is the disk that they wait for, and
        BrokerStopping.
        """
        if self._is_closed:
            raise BrokerStopping("the broker is stopping")
        with self.replies.expect(len(commands)) as expected, trio.move_on_after(self._timeout_s):
            (first, *others), (first_reply, *other_replies) = commands, expected
            try:
                first(first_reply.request)
            except EngineBusy as error:
                raise BrokerBusy("the command queue of a shard is full") from error
            for command, pending in zip(others, other_replies, strict=True):
                await insist(partial(command, pending.request))
            return [await pending.wait() for pending in expected]
        self._data.check_works()
        raise BrokerLate(f"no answer from a shard within {self._timeout_s:g} s")

    def close(self) -> None:
        """Ask nothing more: the shards will not answer."""
        self._is_closed = True
