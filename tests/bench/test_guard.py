"""What the guard of the hot paths calls a rise, and what it says where it cannot count."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rookery.bench import guard, instructions
from rookery.bench.guard import Change, compare_counts, table
from rookery.bench.instructions import CannotCount, count_instructions, per_operation


def risen(before: dict[str, float], after: dict[str, float], bound: float = 2.0) -> list[str]:
    return [change.path for change in compare_counts(before, after) if change.is_too_much(bound)]


def test_a_rise_beyond_the_bound_is_too_much() -> None:
    assert risen({"decode": 100, "match": 100}, {"decode": 102.1, "match": 101.9}) == ["decode"]


def test_the_bound_itself_is_allowed() -> None:
    assert risen({"decode": 100}, {"decode": 105}, bound=5.1) == []


def test_a_fall_is_never_too_much() -> None:
    assert risen({"decode": 100}, {"decode": 10}) == []


def test_a_path_that_was_not_counted_before_is_new() -> None:
    assert risen({}, {"decode": 100}) == []
    assert "| decode | - | 100.0 | - | new |" in table(compare_counts({}, {"decode": 100}), 2.0)


def test_a_path_that_is_no_longer_counted_is_too_much() -> None:
    assert risen({"decode": 100}, {}) == ["decode"]


def test_the_table_tells_each_path() -> None:
    rows = table([Change("decode", 200.0, 210.0), Change("match", 200.0, 190.0)], 2.0).splitlines()[2:]
    assert rows == ["| decode | 200.0 | 210.0 | +5.00 % | TOO MUCH |", "| match | 200.0 | 190.0 | -5.00 % |  |"]


def test_pieces_of_one_path_add_up_and_preparation_is_left_out() -> None:
    pieces: list[tuple[str | None, int]] = [(None, 0), ("deliver", 10), (None, 0), ("deliver", 0), ("match", 4)]
    assert per_operation(pieces, {1: 999, 2: 50, 3: 999, 4: 30, 5: 8}) == {"deliver": 8.0, "match": 2.0}


def test_without_valgrind_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CannotCount, match="apt-get install valgrind"):
        count_instructions(guard.ROOT)


def test_an_unknown_commit_is_told() -> None:
    result = CliRunner().invoke(guard.main, ["--against", "no-such-commit"])
    assert result.exit_code == 1
    assert "no-such-commit" in result.output


def command(monkeypatch: pytest.MonkeyPatch, before: dict[str, float], after: dict[str, float]) -> tuple[int, str]:
    """The command with counts that are given instead of counted."""
    counts = iter((after, before))
    monkeypatch.setattr(guard, "commit_before", lambda: "0" * 40)
    monkeypatch.setattr(guard, "count_instructions", lambda checkout: next(counts))
    monkeypatch.setattr(guard, "_git", lambda *arguments: "")
    monkeypatch.setattr(guard, "_compile", lambda checkout: None)
    result = CliRunner().invoke(guard.main)
    return result.exit_code, result.output


def test_the_command_fails_when_a_path_rose(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = command(monkeypatch, {"decode": 100}, {"decode": 110})
    assert code == 1
    assert "Too much: decode" in output


def test_the_command_passes_when_none_rose(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = command(monkeypatch, {"decode": 100}, {"decode": 100.5})
    assert code == 0
    assert "| decode | 100.0 | 100.5 | +0.50 % |  |" in output


def test_every_path_runs_and_is_counted(tmp_path: Path) -> None:
    """Without callgrind, which only counts: the paths check themselves that they do what they are named after."""
    file = tmp_path / "pieces.json"
    subprocess.run([sys.executable, str(instructions.PATHS_FILE), str(file)], check=True, timeout=120)
    pieces = json.loads(file.read_text())["pieces"]
    counts = per_operation(pieces, dict.fromkeys(range(1, len(pieces) + 1), 1))
    assert {path.split(",")[0] for path in counts} == {
        "decode", "encode", "match", "add a filter", "remove a filter", "deliver"
    }  # fmt: skip
    assert {
        "match, hot",
        "match, cold",
        "match, wildcards",
        "deliver, fan-out 1 to 100",
        "deliver, QoS 0, to another shard",
    } <= counts.keys()
    assert {f"deliver, QoS {qos}" for qos in (0, 1, 2)} <= counts.keys()
