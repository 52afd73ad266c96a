"""Threads made between go_first and yield_to_shards have the short slice; the others do not."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from rookery.server.scheduling import (
    NICENESS,
    SHARD_SLICE_NS,
    go_first,
    set_slice,
    slice_of_this_thread,
    yield_to_shards,
)

Result = TypeVar("Result")

NICEST = 19  # what the kernel has


def in_a_thread(work: Callable[[], Result]) -> Result:
    """What work gives in a thread whose priority is nobody else's."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_shards_have_a_short_slice_and_their_maker_gives_way_afterwards() -> None:
    def live() -> tuple[bool, int | None, int | None, int, int]:
        before = niceness()
        is_taken = go_first()
        shard = in_a_thread(slice_of_this_thread)
        yield_to_shards()
        return is_taken, shard, slice_of_this_thread(), before, niceness()

    is_taken, shard, own, before, after = in_a_thread(live)
    assert after == min(before + NICENESS, NICEST)
    if not is_taken:
        pytest.skip("the kernel or the policy has no slices of threads")
    if shard == 0:
        pytest.skip("the kernel has one slice for all")
    assert shard == SHARD_SLICE_NS
    assert own != SHARD_SLICE_NS


def test_machine_without_known_system_calls_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    assert set_slice(SHARD_SLICE_NS) is False
    assert slice_of_this_thread() is None
