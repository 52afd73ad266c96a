"""A trickle is gathered where that takes less CPU, and only there."""

from typing import Any

import pytest

from rookery.core.structures.gathering import GatheringPolicy

NOT, SLEEP, MEASURE = 0, 1, 2
PACE_US = 50


class Machine:
    """A shard under load; a wake-up and a sleep cost it so much, a socket 2 µs."""

    def __init__(self, *, wake_us: float, sleep_us: float) -> None:
        self.wake_us = wake_us
        self.sleep_us = sleep_us
        self.policy = GatheringPolicy()
        self.now_us = 0
        self.cpu_us = 0.0
        self.turn_number = 0

    def serve(self, sockets: int, *, pace_us: int = PACE_US, single: bool = False, size: int = 64) -> tuple[int, int]:
        """So many sockets, one every pace_us, now and then two at once; turns with and without a sleep before them."""
        turns = [0, 0]
        is_slept = False
        while sockets > 0:
            self.turn_number += 1
            ready = 1 if single else (2 if is_slept or self.turn_number % 8 == 0 else 1)
            self.now_us += pace_us * ready
            self.cpu_us += 2 * ready + self.wake_us + (self.sleep_us if is_slept else 0)
            sockets -= ready
            step = self.policy.turn(self.now_us, ready, size)
            if step == MEASURE:
                step = self.policy.measure(round(self.cpu_us * 1000))
            is_slept = step == SLEEP
            turns[is_slept] += 1
        return turns[0], turns[1]


def test_trickle_is_gathered_where_waking_is_expensive() -> None:
    machine = Machine(wake_us=20, sleep_us=2)
    machine.serve(4096)
    without, gathered = machine.serve(65536)
    assert gathered > 6 * without


def test_trickle_is_not_gathered_where_sleeping_costs_more_than_it_saves() -> None:
    machine = Machine(wake_us=3, sleep_us=4)
    machine.serve(4096)
    without, gathered = machine.serve(65536)
    assert without > 10 * gathered


def test_small_gain_is_not_worth_the_delay() -> None:
    # With gathering 11.4 µs per socket, without 12: not an eighth.
    machine = Machine(wake_us=11, sleep_us=7.5)
    machine.serve(4096)
    without, gathered = machine.serve(65536)
    assert without > 10 * gathered


def test_other_way_is_tried_again_when_the_machine_changes() -> None:
    machine = Machine(wake_us=3, sleep_us=4)
    machine.serve(65536)
    machine.wake_us, machine.sleep_us = 20, 2
    machine.serve(65536 * 4)
    without, gathered = machine.serve(65536)
    assert gathered > 6 * without
    machine.wake_us, machine.sleep_us = 3, 4
    machine.serve(65536 * 8)
    without, gathered = machine.serve(65536)
    assert without > 10 * gathered


@pytest.mark.parametrize(
    "load", [{"pace_us": 500}, {"size": 8192}, {"single": True}], ids=["idle", "saturated", "one client"]
)
def test_what_is_no_trickle_is_never_gathered(load: dict[str, Any]) -> None:
    machine = Machine(wake_us=20, sleep_us=2)
    assert machine.serve(65536, **load)[1] == 0


def test_single_client_is_soon_left_alone_when_a_trickle_ends() -> None:
    machine = Machine(wake_us=20, sleep_us=2)
    machine.serve(65536)
    assert machine.serve(65536, single=True)[1] < 500
