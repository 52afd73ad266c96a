"""Sweeps as PNG files: what grows is on the horizontal axis, and one line is one broker.

matplotlib is wanted only here (`pip install "rookery[bench]"`).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .sweeps import Sweeps

DOTS_PER_INCH = 120
SIZE_INCHES = (7.0, 4.2)

Line = tuple[str, Sequence[float], Sequence[float]]


class NoPlots(Exception):
    """matplotlib is not installed."""


def load_matplotlib() -> Any:
    """The class Figure, which draws into files without a display and without state of its own; raises NoPlots."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NoPlots('plots want matplotlib: pip install "rookery[bench]"') from error
    return Figure


def write_plots(sweeps: Sweeps, folder: Path) -> list[Path]:
    """One file for each curve of which there are points; raises NoPlots."""
    figure_class = load_matplotlib()
    drawn = []
    for file, title, x_label, y_label, lines in _curves(sweeps):
        if not any(x for _, x, _ in lines):
            continue
        figure = figure_class(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        for name, x, y in lines:
            axes.plot(x, y, marker="o", label=name)
        axes.set(title=title, xlabel=x_label, ylabel=y_label, xscale="log", yscale="log")
        axes.grid(visible=True, which="major", alpha=0.4)
        axes.legend()
        path = folder / file
        figure.savefig(path, dpi=DOTS_PER_INCH)
        drawn.append(path)
    return drawn


def _curves(sweeps: Sweeps) -> Iterable[tuple[str, str, str, str, list[Line]]]:
    offered = "messages/s offered"
    load = sweeps.load
    yield (
        "throughput.png",
        "Throughput against offered load, 100 pairs, QoS 0",
        offered,
        "messages/s delivered",
        _by_broker(load, lambda p: p.offered, lambda p: p.delivered),
    )
    yield (
        "latency.png",
        "Latency against offered load, 100 pairs, QoS 0",
        offered,
        "ms",
        [
            (f"{name}, {what}", x, y)
            for what, value in (("p50", lambda p: p.p50_ms), ("p99", lambda p: p.p99_ms))
            for name, x, y in _by_broker(load, lambda p: p.offered, value)
        ],
    )
    yield (
        "memory.png",
        "Memory against idle connections",
        "connections",
        "MiB resident, beyond the first connection",
        _by_broker(
            sweeps.memory,
            lambda p: p.connections,
            lambda p: p.resident_bytes / 2**20 if p.resident_bytes else None,
        ),
    )
    counts = [p.subscriptions for p in sweeps.matching]
    yield (
        "subscriptions.png",
        "Cost of a match against subscriptions, a tenth with wildcards",
        "subscriptions",
        "ns per match",
        [
            ("any topic", counts, [p.cold_ns for p in sweeps.matching]),
            ("one of 1000 topics", counts, [p.hot_ns for p in sweeps.matching]),
            ("one of 1000 topics, through the cache", counts, [p.cached_ns for p in sweeps.matching]),
        ],
    )


def _by_broker(points: Sequence[Any], x: Callable[[Any], float], y: Callable[[Any], float | None]) -> list[Line]:
    """One line for each broker; points without a figure are left out."""
    lines: list[Line] = []
    for name in dict.fromkeys(point.broker for point in points):
        found = [(x(point), y(point)) for point in points if point.broker == name]
        kept = [(across, up) for across, up in found if up is not None]
        lines.append((name, [across for across, _ in kept], [up for _, up in kept]))
    return lines
