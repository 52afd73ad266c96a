"""Turns at something scarce go round the flows; virtual time."""

import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from rookery.server.auth.fair_turns import FLOW, FairTurns
from rookery.server.auth.passwords import PasswordVerifier

WORK_S = 0.025  # of one decision


class Door:
    """Who got his turn, in order. Each keeps it for WORK_S."""

    def __init__(self, turns: FairTurns) -> None:
        self.turns = turns
        self.served: list[str] = []
        self.served_at: dict[str, float] = {}

    async def come(self, flow: str, name: str, cancel_scope: trio.CancelScope | None = None) -> None:
        FLOW.set(flow)
        with cancel_scope or trio.CancelScope():
            async with self.turns.turn():
                self.served.append(name)
                self.served_at[name] = trio.current_time()
                await trio.sleep(WORK_S)


async def _come_in_order(nursery: trio.Nursery, *arrivals: tuple[Callable[..., Awaitable[None]], str, str]) -> None:
    for come, flow, name in arrivals:
        nursery.start_soon(come, flow, name)
        await trio.testing.wait_all_tasks_blocked()


async def test_storm_of_one_flow_delays_another_by_one_turn(autojump_clock: trio.testing.MockClock) -> None:
    door = Door(FairTurns(1))
    async with trio.open_nursery() as nursery:
        await _come_in_order(nursery, *((door.come, "storm", f"storm{number}") for number in range(100)))
        before = trio.current_time()
        await _come_in_order(nursery, (door.come, "calm", "calm"))
    assert door.served_at["calm"] - before <= 2 * WORK_S
    assert len(door.served) == 101


async def test_flows_take_turns_and_keep_their_own_order(autojump_clock: trio.testing.MockClock) -> None:
    door = Door(FairTurns(1))
    async with trio.open_nursery() as nursery:
        await _come_in_order(nursery, *((door.come, flow, f"{flow}{number}") for flow in "abc" for number in range(3)))
    assert door.served == ["a0", "a1", "b0", "c0", "a2", "b1", "c1", "b2", "c2"]


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_so_many_have_a_turn_at_once(count: int, autojump_clock: trio.testing.MockClock) -> None:
    door = Door(FairTurns(count))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(door.come, "a", str(number))
    assert trio.current_time() - began == pytest.approx(-(-10 // count) * WORK_S)
    assert (len(door.served), door.turns.waiting_count) == (10, 0)


async def test_who_is_cancelled_in_line_leaves_no_gap(autojump_clock: trio.testing.MockClock) -> None:
    door = Door(FairTurns(1))
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        await _come_in_order(nursery, (door.come, "a", "first"))
        nursery.start_soon(door.come, "b", "cancelled", scope)
        await trio.testing.wait_all_tasks_blocked()
        await _come_in_order(nursery, (door.come, "c", "last"))
        scope.cancel()
    assert door.served == ["first", "last"]
    assert door.turns.waiting_count == 0


async def test_turn_that_was_given_to_a_cancelled_one_is_passed_on(autojump_clock: trio.testing.MockClock) -> None:
    turns = FairTurns(1)
    door = Door(turns)
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        async with turns.turn():
            nursery.start_soon(door.come, "a", "cancelled", scope)
            nursery.start_soon(door.come, "b", "next")
            await trio.testing.wait_all_tasks_blocked()
        scope.cancel()  # In the same step as it was called.
    assert "next" in door.served
    async with turns.turn():
        assert turns.waiting_count == 0


class SlowVerifier(PasswordVerifier):
    """Its hashes take until the test lets them go on, and it tells in which order they were computed."""

    def __init__(self, go_on: threading.Event) -> None:
        super().__init__(threads=1, remember_s=0, remember_limit=1)
        self._go_on = go_on
        self.verified: list[bytes] = []

    def _verify(self, hash_line: str | None, password: bytes) -> bool:
        assert self._go_on.wait(10)
        self.verified.append(password)
        return False


async def test_hashes_of_a_storm_do_not_come_before_anothers() -> None:
    go_on = threading.Event()
    verifier = SlowVerifier(go_on)

    async def log_in(flow: str, password: bytes) -> None:
        FLOW.set(flow)
        assert not await verifier.verify(None, password)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(log_in, "storm", b"%d" % number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(log_in, "calm", b"calm")
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert verifier.verified.index(b"calm") <= 2
    assert len(verifier.verified) == 51
