"""Medians, verdicts, the table, and the command that puts them together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rookery.bench.brokers import Broker
from rookery.bench.compare import Case, Place, amount, as_json, compare, disturbance, judge, number, table
from rookery.bench.measure import Figures, Times, measure, measure_ceiling
from rookery.bench.plan import Traffic
from rookery.bench.scenarios import SCENARIOS, Figure, Goal, Method

NAMES = ("peer", "ours")
FAST = Times(seconds=0.1, warm_up_s=0.02)
# Small enough for a test, one for each method.
SMALL = ["pairs-1-q0", "replay-queued-q1", "connects-64", "trickle-20k", "fanout-1000-q1"]


def case(peer: list[Figures], ours: list[Figures]) -> Case:
    return Case(SCENARIOS["pairs-100-q0"], {"peer": peer, "ours": ours})


def rates(*values: float) -> list[Figures]:
    return [Figures(rate=value, p99_ms=1.5, cpu_us=2.0) for value in values]


def test_ratio_is_that_of_the_medians() -> None:
    verdict = judge(Goal(Figure.RATE, 60), case(rates(1, 2, 9), rates(100, 130, 1)), NAMES)
    assert verdict.value == 50
    assert verdict.text == "MISSED"


@pytest.mark.parametrize(("ours", "text"), [(60, "met"), (59, "floor met"), (30, "floor met"), (29, "MISSED")])
def test_a_rate_has_to_reach_its_bounds(ours: float, text: str) -> None:
    assert judge(Goal(Figure.RATE, 60, floor=30), case(rates(1), rates(ours)), NAMES).text == text


@pytest.mark.parametrize(("ours", "text"), [(0.75, "met"), (0.8, "floor met"), (0.9, "MISSED")])
def test_a_cost_has_to_stay_below_its_bounds(ours: float, text: str) -> None:
    both = case([Figures(cpu_us=1.0)], [Figures(cpu_us=ours)])
    assert judge(Goal(Figure.CPU, 0.75, floor=0.85), both, NAMES).text == text


def test_an_absolute_goal_needs_no_peer() -> None:
    alone = case([], [Figures(connection_bytes=1900.0)])
    verdict = judge(Goal(Figure.MEMORY, 2048, is_ratio=False), alone, NAMES)
    assert (verdict.value, verdict.text) == (1900, "met")


def test_a_round_that_failed_makes_the_verdict_invalid() -> None:
    failed = case(rates(1, 1), rates(100))
    failed.failures["ours"] = ["1 lost"]
    assert judge(Goal(Figure.RATE, 60), failed, NAMES).text == "INVALID (ours)"


def test_without_a_figure_there_is_no_verdict() -> None:
    assert judge(Goal(Figure.RATE, 60), case([], rates(1)), NAMES).text == "no figure"
    assert judge(Goal(Figure.RATE, 60), case(rates(1), rates(1)), ("ours",)).text == "-"


def test_the_table_has_a_row_per_goal() -> None:
    text = table([case(rates(200_000), rates(13_000_000))], NAMES)
    assert text.splitlines()[2] == (
        "| pairs-100-q0 | messages/s | 200 k | 13 M | 1.5 | 1.5 | 2 | 2 | 65 x | ≥ 60 x (floor 30 x) | met |"
    )
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_a_rate_that_the_generator_limits_is_marked() -> None:
    busy = [Figures(rate=1e6, load_percent=99.0)]
    assert "| 1 M * |" in table([case(rates(1), busy)], NAMES)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.1234, "0.123"), (12.34, "12.3"), (1234.5, "1234"), (0, "0")]
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (999, "999"), (210_000, "210 k"), (12_340_000, "12.3 M")])
def test_rates_have_thousands_and_millions(value: float | None, text: str) -> None:
    assert amount(value) == text


def test_disturbance_is_told_over_all_rounds() -> None:
    quiet = Figures(broker_wait_percent=0.1, load_wait_percent=0.2)
    loud = Figures(broker_wait_percent=50.0, load_wait_percent=0.2)
    told = disturbance([case([quiet, loud], [quiet])])
    assert told == "broker 0.1 %, at most 50 %; generator 0.2 %, at most 0.2 %"
    assert disturbance([]) == "unknown"


def test_json_holds_every_round() -> None:
    written = json.loads(as_json([case(rates(1, 2), rates(60))], NAMES, {"CPU": "fast"}))
    rounds = written["cases"]["pairs-100-q0"]["rounds"]
    assert [figures["rate"] for figures in rounds["peer"]] == [1, 2]
    assert written["cases"]["pairs-100-q0"]["goals"][0]["verdict"] == "floor met"
    assert written["machine"] == {"CPU": "fast"}


@pytest.mark.parametrize("name", SMALL)
def test_a_scenario_yields_its_figures(peer: Broker, name: str) -> None:
    scenario = SCENARIOS[name]
    figures = measure(scenario, peer, FAST)
    for goal in scenario.goals:
        assert getattr(figures, goal.figure) > 0
    assert figures.cpu_us is not None
    assert figures.resident_bytes is not None
    assert figures.load_percent is not None
    assert 0 <= figures.load_percent <= 100
    assert figures.broker_wait_percent is not None
    assert figures.broker_wait_percent >= 0


def test_every_method_has_a_scenario() -> None:
    assert {scenario.method for scenario in SCENARIOS.values()} == set(Method)


def test_rounds_alternate_between_the_brokers(peer: Broker) -> None:
    told: list[str] = []
    names = (f"{peer.host}:{peer.port}", f"{peer.host}:{peer.port}@{peer.pid}")
    (both,) = compare(
        [SCENARIOS["pairs-1-q0"]],
        names,
        rounds=2,
        times=FAST,
        place=Place(None, None),
        credentials={},
        tell=told.append,
    )
    assert [line.split(": ")[1] for line in told[::2]] == [f"{name} ..." for name in names * 2]
    assert not both.failures
    assert [len(rounds) for rounds in both.rounds.values()] == [2, 2]
    assert both.rounds[names[0]][0].cpu_us is None
    assert both.rounds[names[1]][0].cpu_us is not None


def test_a_broker_that_cannot_be_reached_is_a_failure_and_not_the_end() -> None:
    (one,) = compare(
        [SCENARIOS["pairs-1-q0"]],
        ("127.0.0.1:1",),
        rounds=1,
        times=FAST,
        place=Place(None, None),
        credentials={},
        tell=lambda text: None,
    )
    assert "cannot connect" in one.failures["127.0.0.1:1"][0]


@pytest.mark.parametrize(("pairs", "window"), [(1, 100), (4, 0)])
def test_the_ceiling_is_measured_against_a_peer_that_only_copies(pairs: int, window: int) -> None:
    figures = measure_ceiling(pairs, Traffic(window=window), FAST, cpu=None)
    assert figures.rate is not None
    assert figures.rate > 100_000


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rookery.bench", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_prints_facts_and_a_table(tmp_path: Path) -> None:
    file = tmp_path / "rounds.json"
    done = run_bench(
        *("--broker", "mosquitto", "--scenario", "pairs-1-q0"),
        *("--rounds", "1", "--seconds", "0.1", "--json", str(file)),
    )
    assert done.returncode == 0, done.stderr
    assert "- mosquitto: 2." in done.stdout
    assert "| pairs-1-q0 | messages/s |" in done.stdout
    assert len(json.loads(file.read_text())["cases"]["pairs-1-q0"]["rounds"]["mosquitto"]) == 1


def test_the_command_ends_with_code_1_when_a_run_fails() -> None:
    done = run_bench("--broker", "127.0.0.1:1", "--scenario", "pairs-1-q0", "--rounds", "1", "--seconds", "0.1")
    assert done.returncode == 1
    assert "cannot connect: Connection refused" in done.stderr


def test_the_command_lists_all_cases() -> None:
    done = run_bench("--list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(SCENARIOS)


@pytest.mark.parametrize(
    "wrong", [("--scenario", "nonsense"), ("--broker", "a:1", "--broker", "b:1", "--broker", "c:1")]
)
def test_the_command_refuses_nonsense(wrong: tuple[str, ...]) -> None:
    done = run_bench(*wrong)
    assert done.returncode == 2
    assert "Invalid value" in done.stderr
