"""How a call of the broker becomes commands for shards and their answers a result."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import trio

from rookery.core.errors import EngineBusy

from .replies import Answer

RETRY_S = 0.001  # A full command queue is drained by the next turn of its shard, within a millisecond.

Command = Callable[[int], None]  # puts a command with this request number into the queue of a shard

# The answers to commands, each for a shard, in order. Raises BrokerBusy, BrokerLate and BrokerStopping.
Ask = Callable[[list[Command]], Awaitable[list[Answer]]]


class ShardCommand(Protocol):
    """A command of the engine that goes to one shard."""

    def __call__(self, request: int, shard: int) -> None: ...


def for_each_shard(command: ShardCommand, shard_count: int) -> list[Command]:
    """The same command for every shard."""
    return [partial(_at, command, shard) for shard in range(shard_count)]


def _at(command: ShardCommand, shard: int, request: int) -> None:
    command(request, shard)


def total(answers: list[Answer]) -> int:
    """The sum of answers that are numbers."""
    return sum(answer for answer in answers if isinstance(answer, int))


async def insist(command: Callable[[], object]) -> None:
    """Give a command to the engine as soon as its queue has room."""
    while True:
        try:
            command()
            return
        except EngineBusy:
            await trio.sleep(RETRY_S)
