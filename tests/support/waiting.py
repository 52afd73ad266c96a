"""Waiting for what happens in another thread or task and tells nobody."""

import time
from collections.abc import Callable

import trio

DEADLINE_S = 10


async def eventually(holds: Callable[[], bool]) -> None:
    """Return as soon as it holds. Raises trio.TooSlowError after DEADLINE_S."""
    with trio.fail_after(DEADLINE_S):
        while not holds():  # noqa: ASYNC110  # nothing sets an event
            await trio.sleep(0.005)


def wait_until(holds: Callable[[], bool]) -> None:
    """The same without trio, for what happens in another thread. Raises TimeoutError."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"does not hold after {DEADLINE_S} s")
        time.sleep(0.001)
