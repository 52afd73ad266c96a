"""What is measured, and how good it has to be: one line per case.

A case is a plan (who sends what to whom), traffic (QoS, window, sizes), a method (how the run goes) and goals. A goal
is a bound on one figure: as a ratio to the peer of the same run where the figure moves with the machine, absolute where
it does not. `floor` is what every release keeps, `target` what the design is good for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from . import plan
from .plan import Plan, Traffic, Transport


class Method(StrEnum):
    """How a run goes; measure.py has one function for each."""

    STREAM = "stream"
    REPLAY = "replay"
    RETAINED = "retained"
    IDLE = "idle"
    CONNECTS = "connects"


class Figure(StrEnum):
    """What a goal is about; the names are those of the fields of measure.Figures."""

    RATE = "rate"
    P99 = "p99_ms"
    CPU = "cpu_us"
    CPU_SHARE = "cpu_percent"
    MEMORY = "connection_bytes"

    @property
    def is_better_high(self) -> bool:
        return self is Figure.RATE


@dataclass(frozen=True)
class Goal:
    """A bound on one figure: from below for rates, from above for costs."""

    figure: Figure
    target: float
    is_ratio: bool = True
    floor: float | None = None


@dataclass(frozen=True)
class Scenario:
    """One case."""

    name: str
    # Makes the plan of a run from the first part of all its topics.
    plan: Callable[..., Plan]
    traffic: Traffic
    goals: tuple[Goal, ...]
    method: Method = Method.STREAM
    # Messages per second in all; 0: as fast as the window allows.
    rate: float = 0
    # Replay: messages that wait in each session.
    messages: int = 0
    # The peer cannot do it at all, so that there is nothing to compare with.
    is_alone: bool = False


def _faster(target: float, floor: float | None = None) -> tuple[Goal, ...]:
    return (Goal(Figure.RATE, target, floor=floor),)


def _cheaper(target: float, floor: float | None = None) -> tuple[Goal, ...]:
    return (Goal(Figure.CPU, target, floor=floor),)


def _limit(figure: Figure, target: float) -> tuple[Goal, ...]:
    return (Goal(figure, target, is_ratio=False),)


def _p99(target: float) -> tuple[Goal, ...]:
    return (Goal(Figure.P99, target),)


_Q1 = Traffic(qos=1)
# An open loop has a schedule instead of a window.
_OPEN = Traffic(window=0)
_TLS_OPEN = Traffic(window=0, transport=Transport.TLS)
_PROPERTIES = Traffic(version=5, has_properties=True)
_IDLE = Traffic(keep_alive_s=60)

_pairs, _fan_out, _fan_in = partial(partial, plan.pairs), partial(partial, plan.fan_out), partial(partial, plan.fan_in)
_trickle, _idle = partial(partial, plan.trickle), partial(partial, plan.idle)

_KIB = 1024

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("pairs-1-q0", _pairs(1), Traffic(window=1000), _faster(80)),
        Scenario("pairs-100-q0", _pairs(100), Traffic(), _faster(60, floor=30)),
        Scenario("pairs-100-q1", _pairs(100), _Q1, _faster(50, floor=25)),
        Scenario("pairs-100-q2", _pairs(100), Traffic(qos=2), _faster(35)),
        # The same but for the properties: CPU by CPU of these two is what properties cost, at most 1.15.
        # And as many bytes of payload instead: what of that is due to the bytes.
        Scenario("pairs-100-q0-5.0", _pairs(100), Traffic(version=5), _faster(20)),
        Scenario("pairs-100-q0-bytes", _pairs(100), Traffic(version=5, payload_size=64 + 44), _faster(20)),
        Scenario(
            "pairs-100-q0-properties", _pairs(100), Traffic(version=5, has_properties=True), _faster(50, floor=25)
        ),
        Scenario("fanout-1000-q0", _fan_out(1000), Traffic(window=50), _faster(45, floor=25)),
        Scenario("fanout-1000-q1", _fan_out(1000), Traffic(qos=1, window=20), _faster(30)),
        Scenario("pairs-100-q0-unbounded", _pairs(100), Traffic(window=0), _faster(40)),
        Scenario("fanin-100", _fan_in(100), Traffic(), _faster(40)),
        Scenario("shared", partial(plan.shared, 100, 10), _Q1, _faster(40)),
        Scenario("filters-100k", partial(plan.filters, 100, 100, 1000), Traffic(), _faster(15)),
        Scenario("replay-queued-q1", _pairs(100), _Q1, _faster(12), Method.REPLAY, messages=1000),
        Scenario("trickle-20k", _trickle(1000), _OPEN, _cheaper(0.75, floor=0.85) + _p99(1), rate=20_000),
        Scenario("trickle-5000-idle", _trickle(100, bystanders=5000), _OPEN, _cheaper(1), rate=1000),
        Scenario("connects-64", _idle(64), Traffic(), _faster(1), Method.CONNECTS),
        Scenario("idle-10k", _idle(10_000), _IDLE, _limit(Figure.MEMORY, 2 * _KIB), Method.IDLE),
        Scenario(
            "idle-100k",
            _idle(100_000),
            _IDLE,
            _limit(Figure.MEMORY, 1.5 * _KIB) + _limit(Figure.CPU_SHARE, 3),
            Method.IDLE,
        ),
        Scenario(
            "retained-100k",
            partial(plan.retained, 100_000, 10),
            _OPEN,
            _faster(10) + _limit(Figure.P99, 5),
            Method.RETAINED,
            rate=1000,
        ),
        Scenario("payload-16k", _pairs(10), Traffic(payload_size=16 * _KIB, window=20), _faster(4.5)),
        # TLS 1.3 with a certificate of P-256. Rate by rate of the case over TCP is what TLS costs: at least 0.4.
        Scenario("tls-pairs-100-q0", _pairs(100), Traffic(transport=Transport.TLS), _faster(8)),
        Scenario("tls-trickle-20k", _trickle(1000), _TLS_OPEN, _cheaper(0.9), rate=20_000),
        Scenario(
            "tls-connects-64", _idle(64), Traffic(transport=Transport.TLS), _cheaper(1) + _faster(1), Method.CONNECTS
        ),
        Scenario(
            "tls-idle-2k",
            _idle(2000),
            Traffic(keep_alive_s=60, transport=Transport.TLS),
            _limit(Figure.MEMORY, 20 * _KIB),
            Method.IDLE,
        ),
        # Debian's mosquitto speaks none. Its rate by that of pairs-100-q0 is what frames cost: at least 0.8.
        Scenario(
            "websocket-pairs-100-q0",
            _pairs(100),
            Traffic(transport=Transport.WEBSOCKET),
            _limit(Figure.P99, 5),
            is_alone=True,
        ),
        Scenario("latency-1M-offered", _pairs(100), _OPEN, _limit(Figure.P99, 3), rate=1_000_000, is_alone=True),
    )
}
