"""Commands to shards that do not answer, or have no room."""

import contextlib
from itertools import count

import pytest
import trio
import trio.testing

from rookery.core.engine import Engine
from rookery.core.errors import EngineBusy
from rookery.server.commands import for_each_shard
from rookery.server.durable_data import DurableData
from rookery.server.errors import BrokerBusy, BrokerLate, BrokerStopping
from rookery.server.questions import Questions


@pytest.fixture
def engine() -> Engine:
    """Its shard does not run."""
    return Engine()


@pytest.fixture
def questions() -> Questions:
    return Questions(DurableData(None), timeout_s=5)


async def test_silent_shard_is_an_error_at_the_deadline(
    engine: Engine, questions: Questions, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(BrokerLate, match=r"^no answer from a shard within 5 s$"):
        await questions.ask(for_each_shard(engine.statistics, 1))


def fill_command_queue(engine: Engine) -> None:
    with contextlib.suppress(EngineBusy):
        for request in count():
            engine.statistics(request, 0)


async def test_full_command_queue_is_an_error_at_once_and_nothing_is_done(engine: Engine, questions: Questions) -> None:
    fill_command_queue(engine)
    with pytest.raises(BrokerBusy, match="the command queue of a shard is full"):
        await questions.ask(for_each_shard(engine.statistics, 1))


async def test_nothing_is_asked_of_shards_that_stop(engine: Engine, questions: Questions) -> None:
    questions.close()
    with pytest.raises(BrokerStopping, match="the broker is stopping"):
        await questions.ask(for_each_shard(engine.statistics, 1))
