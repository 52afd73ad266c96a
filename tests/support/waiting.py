"""Waiting for what happens in another thread or task and tells nobody."""

from collections.abc import Callable

import trio

DEADLINE_S = 10


async def eventually(holds: Callable[[], bool]) -> None:
    """Return as soon as it holds. Raises trio.TooSlowError after DEADLINE_S."""
    with trio.fail_after(DEADLINE_S):
        while not holds():  # noqa: ASYNC110  # nothing sets an event
            await trio.sleep(0.005)
