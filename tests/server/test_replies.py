"""Answers of shards and the tasks that wait for them."""

import pytest
import trio
import trio.testing

from rookery.core.events import PublishOutcome, Reply
from rookery.server.replies import Replies


async def test_each_answer_reaches_the_task_that_asked(nursery: trio.Nursery) -> None:
    replies = Replies()
    answers: dict[int, object] = {}

    async def ask(name: int) -> None:
        with replies.expect(1) as (pending,):
            requests[name] = pending.request
            answers[name] = await pending.wait()

    requests: dict[int, int] = {}
    for name in range(3):
        nursery.start_soon(ask, name)
    await trio.testing.wait_all_tasks_blocked()
    for name in (2, 0, 1):
        replies.resolve(Reply(requests[name], PublishOutcome(matched=name)))
    await trio.testing.wait_all_tasks_blocked()
    assert answers == {name: PublishOutcome(matched=name) for name in range(3)}


async def test_no_number_is_used_twice() -> None:
    replies = Replies()
    with replies.expect(3) as first, replies.expect(3) as second:
        requests = [pending.request for pending in (*first, *second)]
    with replies.expect(1) as (third,):
        requests.append(third.request)
    assert len(set(requests)) == 7


async def test_answer_that_comes_after_its_task_gave_up_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    replies = Replies()
    with pytest.raises(trio.TooSlowError), trio.fail_after(1), replies.expect(1) as (pending,):
        await pending.wait()
    replies.resolve(Reply(pending.request, None))
    with replies.expect(1) as (other,):
        replies.resolve(Reply(other.request, 7))
        assert await other.wait() == 7
