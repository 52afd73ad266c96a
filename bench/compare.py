"""Brokers side by side: alternating rounds, medians, ratios, verdicts.

A shared machine is slower in one minute than in the next. Rounds alternate between the brokers (A B A B ...), each
with a fresh process, so that a slow minute meets both; then the ratio of the medians says more than either rate.
"""

import itertools
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from . import brokers
from .brokers import BrokerError
from .measure import Figures, Times, connection_room, measure
from .outcome import InvalidRun, LoadError
from .scenarios import Figure, Goal, Method, Scenario

# A generator that waits less than this for the broker may itself be the limit; the table marks such rates.
BUSY_LOAD_PERCENT = 95.0


@dataclass
class Case:
    """One scenario and what the rounds brought, per broker."""

    scenario: Scenario
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)

    def median(self, broker: str) -> Figures | None:
        """The medians of every figure over the rounds of a broker; None if it has no valid round."""
        rounds = self.rounds.get(broker)
        return _median(rounds) if rounds else None


def _median(rounds: Sequence[Figures]) -> Figures:
    medians: dict[str, float | None] = {}
    for each in fields(Figures):
        values = [value for value in (getattr(one, each.name) for one in rounds) if value is not None]
        medians[each.name] = statistics.median(values) if values else None
    return Figures(**medians)  # type: ignore[arg-type]  # counts become floats


@dataclass(frozen=True)
class Place:
    """Where brokers and generator run."""

    broker_cpus: tuple[int, ...] | None
    load_cpu: int | None

    @classmethod
    def choose(cls) -> "Place":
        """The first CPU for the broker and the last for the generator; no pinning with a single one."""
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            return cls(None, None)
        return cls((cpus[0],), cpus[-1])


def compare(
    scenarios: Iterable[Scenario],
    names: Sequence[str],
    *,
    rounds: int,
    times: Times,
    place: Place,
    credentials: dict[str, str | None],
    tell: Callable[[str], None],
) -> list[Case]:
    """Measure every scenario with every broker in alternating rounds; a round that fails is told and noted."""
    cases = []
    with brokers.on_cpus((place.load_cpu,) if place.load_cpu is not None else None):
        for scenario in scenarios:
            case = Case(scenario)
            cases.append(case)
            for number in range(1, rounds + 1):
                for name in names:
                    if scenario.is_alone and name != names[-1]:
                        continue
                    tell(f"{scenario.name}, round {number} of {rounds}: {name} ...")
                    try:
                        with brokers.launch(name, place.broker_cpus, scenario.traffic.transport) as broker:
                            figures = measure(scenario, broker, times, **credentials)
                    except (InvalidRun, LoadError, BrokerError) as error:
                        case.failures.setdefault(name, []).append(str(error))
                        tell(f"  failed: {error}")
                    else:
                        case.rounds.setdefault(name, []).append(figures)
                        tell(f"  {_summary(figures)}")
    return cases


def _summary(figures: Figures) -> str:
    parts = [
        (f"{amount(figures.rate)}/s", figures.rate),
        (f"p50 {number(figures.p50_ms)} ms, p99 {number(figures.p99_ms)} ms", figures.p99_ms),
        (f"{number(figures.cpu_us)} µs broker CPU each", figures.cpu_us),
        (f"{number(figures.cpu_percent)} % broker CPU", figures.cpu_percent),
        (f"{number(figures.connection_bytes)} B per connection", figures.connection_bytes),
        (f"generator busy {number(figures.load_percent)} %", figures.load_percent),
        (f"broker waited {number(figures.broker_wait_percent)} % for its CPU", figures.broker_wait_percent),
    ]
    return ", ".join(text for text, value in parts if value is not None)


# ------------------------------------------------------------------------------------------------------------ verdict


@dataclass(frozen=True)
class Verdict:
    """What became of a goal."""

    # The ratio of the medians, or the figure itself where the goal is absolute; None without two medians.
    value: float | None
    text: str


def judge(goal: Goal, case: Case, names: Sequence[str]) -> Verdict:
    """Hold the last broker to a goal, against the first where the goal is a ratio."""
    candidate = case.median(names[-1])
    baseline = case.median(names[0])
    value = getattr(candidate, goal.figure) if candidate else None
    if goal.is_ratio:
        if len(names) < 2:
            return Verdict(None, "-")
        reference = getattr(baseline, goal.figure) if baseline else None
        value = value / reference if value is not None and reference else None
    failed = [name for name in names if case.failures.get(name)]
    if failed:
        return Verdict(value, f"INVALID ({', '.join(failed)})")
    if value is None:
        return Verdict(None, "no figure")
    if _holds(goal.figure, value, goal.target):
        return Verdict(value, "met")
    if goal.floor is not None and _holds(goal.figure, value, goal.floor):
        return Verdict(value, "floor met")
    return Verdict(value, "MISSED")


def _holds(figure: Figure, value: float, bound: float) -> bool:
    return value >= bound if figure.is_better_high else value <= bound


# -------------------------------------------------------------------------------------------------------------- table


_UNITS = {
    Figure.RATE: "messages/s",
    Figure.P99: "p99 ms",
    Figure.CPU: "CPU µs",
    Figure.CPU_SHARE: "CPU %",
    Figure.MEMORY: "B/connection",
}


def table(cases: Iterable[Case], names: Sequence[str]) -> str:
    """The comparison as a Markdown table, one row per goal."""
    columns = ["case", "figure", *names]
    columns += [f"p99 ms {name}" for name in names] + [f"CPU µs {name}" for name in names]
    columns += ["ratio" if len(names) > 1 else "value", "target", "verdict"]
    rows = [columns, ["---"] * 2 + ["---:"] * (len(columns) - 3) + ["---"]]
    for case in cases:
        for goal in case.scenario.goals:
            rows.append(_row(case, goal, names))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(case: Case, goal: Goal, names: Sequence[str]) -> list[str]:
    medians = [case.median(name) for name in names]
    verdict = judge(goal, case, names)
    is_connecting = case.scenario.method is Method.CONNECTS and goal.figure is Figure.RATE
    figure = "connects/s" if is_connecting else _UNITS[goal.figure]
    return [
        case.scenario.name,
        figure,
        *(_cell(median, goal.figure) for median in medians),
        *(number(median.p99_ms if median else None) for median in medians),
        *(number(median.cpu_us if median else None) for median in medians),
        number(verdict.value) + (" x" if goal.is_ratio and verdict.value is not None else ""),
        bounds(goal),
        verdict.text,
    ]


def bounds(goal: Goal) -> str:
    """The target of a goal, and its floor."""
    sign = "≥" if goal.figure.is_better_high else "≤"
    suffix = " x" if goal.is_ratio else ""
    floor = f" (floor {goal.floor:g}{suffix})" if goal.floor is not None else ""
    return f"{sign} {goal.target:g}{suffix}{floor}"


def describe(goal: Goal) -> str:
    """A goal in words."""
    return f"{_UNITS[goal.figure]} {bounds(goal)}"


def _cell(median: Figures | None, figure: Figure) -> str:
    if median is None:
        return "-"
    value = getattr(median, figure)
    if figure is not Figure.RATE:
        return number(value)
    is_limited = median.load_percent is not None and median.load_percent > BUSY_LOAD_PERCENT
    return amount(value) + (" *" if is_limited else "")


def number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def amount(value: float | None) -> str:
    """A rate: 1.23 M, 210 k."""
    if value is None:
        return "-"
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{number(value / size)}{letter}"
    return number(value)


# -------------------------------------------------------------------------------------------------------------- facts


def facts(names: Sequence[str], place: Place) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "CPU": _cpu_model(),
        "CPUs": f"{os.cpu_count()}; broker on {_cpus(place.broker_cpus)}, "
        f"generator on {_cpus((place.load_cpu,) if place.load_cpu is not None else None)}",
        "kernel": f"{platform.system()} {platform.release()}",
        "TCP congestion control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "Python": platform.python_version(),
        "connections per process": str(connection_room()),
        **{name: brokers.version(name) for name in names},
    }


def disturbance(cases: Iterable[Case]) -> str:
    """How much others took of the CPUs, over all rounds; ratios survive it, rates and latency do not."""
    rounds = [figures for case in cases for figures in itertools.chain(*case.rounds.values())]
    parts = []
    for who, name in (("broker", "broker_wait_percent"), ("generator", "load_wait_percent")):
        values = [value for value in (getattr(figures, name) for figures in rounds) if value is not None]
        if values:
            parts.append(f"{who} {number(statistics.median(values))} %, at most {number(max(values))} %")
    return "; ".join(parts) or "unknown"


def _cpus(cpus: Sequence[int] | None) -> str:
    return ", ".join(map(str, cpus)) if cpus else "any"


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def as_json(cases: Iterable[Case], names: Sequence[str], machine: dict[str, str]) -> str:
    """Everything that was measured, round by round."""
    return json.dumps(
        {
            "machine": machine,
            "brokers": list(names),
            "cases": {
                case.scenario.name: {
                    "rounds": {name: [asdict(figures) for figures in rounds] for name, rounds in case.rounds.items()},
                    "failures": case.failures,
                    "goals": [
                        {
                            "figure": goal.figure.name,
                            "target": goal.target,
                            "floor": goal.floor,
                            "is_ratio": goal.is_ratio,
                            "value": verdict.value,
                            "verdict": verdict.text,
                        }
                        for goal in case.scenario.goals
                        for verdict in [judge(goal, case, names)]
                    ],
                }
                for case in cases
            },
        },
        indent=2,
    )
