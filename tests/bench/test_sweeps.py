"""Sweeps: points, tables and plots."""

import sys
from pathlib import Path

import pytest

from rookery.bench import plots
from rookery.bench.compare import Place
from rookery.bench.measure import Figures, Times
from rookery.bench.plots import NoPlots, write_plots
from rookery.bench.sweeps import (
    LoadPoint,
    MatchPoint,
    MemoryPoint,
    Residue,
    ShardPoint,
    Sweeps,
    connection_memory,
    match_cost,
    offered_load,
    residue,
    tables,
)

FAST = Times(seconds=0.1, warm_up_s=0.02)
ANYWHERE = Place(None, None)
SWEEPS = Sweeps(
    load=[
        LoadPoint("ours", 1e5, 1e5, 0.1, 0.2),
        LoadPoint("ours", 1e6, 1e6, 0.2, 0.9),
        LoadPoint("peer", 1e5, 9e4, 5, 50),
        LoadPoint("peer", 1e6, failure="1 lost"),
    ],
    memory=[MemoryPoint("ours", 1000, 1.5e6), MemoryPoint("ours", 2000, 3e6)],
    matching=[MatchPoint(1000, 100.0, 50.0, 30.0, 88.0), MatchPoint(10_000, 200.0, 50.0, 30.0, 87.0)],
    shards=[ShardPoint(1, "pairs", Figures(rate=2e6, cpu_us=0.5, p99_ms=1)), ShardPoint(2, "pairs", failure="gone")],
    residues=[Residue("ours", 40 * 2**20, 90 * 2**20, 42 * 2**20)],
)


def silent(text: str) -> None:
    """Nobody listens."""


def test_offered_load_has_what_was_delivered_and_when() -> None:
    (point,) = offered_load("rookery", ANYWHERE, FAST, silent, rates=(2_000,))
    assert not point.failure
    assert point.delivered
    assert point.p50_ms is not None
    assert point.p99_ms is not None
    assert point.p50_ms <= point.p99_ms


def test_a_broker_that_cannot_be_reached_is_a_point_without_figures_and_ends_the_curve() -> None:
    (point,) = offered_load("127.0.0.1:1", ANYWHERE, FAST, silent, rates=(1_000, 2_000))
    assert point.delivered is None
    assert point.failure


def test_more_connections_take_more_memory() -> None:
    few, many = connection_memory("rookery", ANYWHERE, silent, counts=(100, 1_000))
    assert few.connections == 100
    assert few.resident_bytes is not None
    assert many.resident_bytes is not None
    assert many.resident_bytes > few.resident_bytes


def test_a_match_has_its_costs() -> None:
    point = match_cost(1_000, silent)
    assert min(point.cold_ns, point.hot_ns, point.cached_ns) > 0
    assert 0 < point.bytes_each < 10_000


def test_memory_around_a_load_is_told() -> None:
    found = residue("rookery", ANYWHERE, FAST, silent)
    assert min(found.before_bytes, found.loaded_bytes, found.after_bytes) > 0


def test_tables_have_a_row_per_point() -> None:
    text = tables(SWEEPS)
    assert "| peer | 1 M | - | - | - | 1 lost |" in text
    assert "| ours | 2000 | 1500 |  |" in text
    assert "| 10000 | 200 | 50 | 30 | 87 |" in text
    assert "| pairs | 2 | - | - | - | gone |" in text
    assert "| ours | 40 | 90 | 42 |" in text
    assert tables(Sweeps()) == ""


def test_each_curve_is_a_png_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = write_plots(SWEEPS, tmp_path)
    assert [path.name for path in drawn] == ["throughput.png", "latency.png", "memory.png", "subscriptions.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_a_curve_without_points_is_not_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert [path.name for path in write_plots(Sweeps(memory=SWEEPS.memory), tmp_path)] == ["memory.png"]


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NoPlots, match=r"rookery\[bench\]"):
        plots.write_plots(SWEEPS, tmp_path)
