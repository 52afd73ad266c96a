"""Persistent sessions: how fast brokers are that must not forget, and what that costs others.

    python -m rookery.bench.persistence

Each case runs against mosquitto, which writes all that it has to a file once a second (`autosave_interval 1`), and
against Rookery in each mode of `data.sync`, in alternating rounds with fresh processes and fresh data. Subscribers have
persistent sessions; every message has to arrive, once and in order.

    online-q1, online-q2    100 publishers to 100 subscribers that are connected, 100 messages on their way in each pair
    offline-q1, offline-q2  the same to subscribers that are away: messages acknowledged per second
    drain-q1                100 000 messages wait in 100 sessions, whose clients come back at once
    fan-out-q1              one publisher, 100 persistent subscribers that are connected

`--beside` measures something else: transient pairs of QoS 0 alone, then beside publishers whose messages wait in
persistent sessions, as many as the broker takes.

The disk is that of the temporary folder, or of `--folder`.
"""

import contextlib
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from . import plan
from .brokers import MOSQUITTO_CONFIG, Broker, BrokerError, mosquitto, on_cpus, rookery
from .compare import Place, amount, number
from .load import Load
from .outcome import InvalidRun, LoadError
from .plan import Plan, Traffic

PEER = "mosquitto"
MODES = ("always", "interval", "never")
BROKERS = (PEER, *MODES)
PATIENCE_S = 120.0
SESSIONS = 100
# As many as an inbox may have, so that none is dropped.
CONFIG = """\
[data]
sync = "{mode}"
[settings]
SessionInboxSize = 65535
"""
MOSQUITTO_SAVING = MOSQUITTO_CONFIG.replace(
    "persistence false\n", "persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
).replace("# Nothing goes to disk in any of the brokers: the disk would be measured instead.\n", "")


@dataclass(frozen=True)
class Figures:
    """What one round brought."""

    rate: float  # messages per second: delivered, or acknowledged where nobody receives
    p99_ms: float | None
    cpu_us: float  # of the broker per message


@contextlib.contextmanager
def launched(name: str, cpus: Sequence[int] | None, folder: Path | None) -> Iterator[tuple[Broker, Path]]:
    """A broker with an empty data directory, and where that is."""
    with tempfile.TemporaryDirectory(prefix="bench-persistence-", dir=folder) as place:
        data = Path(place)
        if name == PEER:
            with mosquitto(cpus, template=MOSQUITTO_SAVING.replace("{folder}", place)) as broker:
                yield broker, data
        else:
            config = data / "rookery.toml"
            config.write_text(CONFIG.format(mode=name))
            with rookery(cpus, ("--config", str(config), "--data", str(data / "data"))) as broker:
                yield broker, data / "data"


@contextlib.contextmanager
def _load(broker: Broker, whole: Plan, traffic: Traffic) -> Iterator[Load]:
    """Persistent sessions of the receivers, subscribed."""
    load = Load(broker.host, broker.port, whole, traffic)
    try:
        load.connect(whole.receivers, is_clean=False)
        load.subscribe(whole.receivers)
        yield load
    finally:
        load.close()


def _cpu_ns(broker: Broker) -> int:
    used = broker.cpu_ns()
    assert used is not None
    return used


def online(broker: Broker, seconds: float, *, whole: Plan, traffic: Traffic) -> Figures:
    """Publish to subscribers that are connected, in a closed loop."""
    with _load(broker, whole, traffic) as load:
        load.connect(whole.publishers)
        load.start()
        load.run(min(1.0, seconds / 2))
        cpu_ns, before = _cpu_ns(broker), load.mark()
        load.run(seconds)
        interval = load.counts.since(before)
        cpu_ns = _cpu_ns(broker) - cpu_ns
        load.stop()
        load.drain(timeout_s=PATIENCE_S)
        load.check()
        return Figures(
            interval.delivered / (interval.time_ns / 1e9), load.latency_ns(99) / 1e6, cpu_ns / 1e3 / interval.delivered
        )


def offline(broker: Broker, seconds: float, *, traffic: Traffic, messages: int, is_drain: bool) -> Figures:
    """Fill the sessions of clients that are away, then let all come back; the figures are those of one of the two."""
    del seconds  # As long as it takes.
    whole = plan.pairs(SESSIONS, prefix="p")
    with _load(broker, whole, replace(traffic, window=0)) as load:
        load.disconnect(whole.receivers)
        load.connect(whole.publishers)
        cpu_ns, began = _cpu_ns(broker), time.perf_counter()
        load.start(messages=messages)
        load.publish_all(timeout_s=PATIENCE_S)
        load.stop()
        if is_drain:
            cpu_ns, began = _cpu_ns(broker), time.perf_counter()
        else:
            took_s, cpu_ns = time.perf_counter() - began, _cpu_ns(broker) - cpu_ns
        load.connect(whole.receivers, is_clean=False, in_flight=SESSIONS)
        load.drain(timeout_s=PATIENCE_S)
        if is_drain:
            took_s, cpu_ns = time.perf_counter() - began, _cpu_ns(broker) - cpu_ns
        load.check()
        total = messages * SESSIONS
        return Figures(total / took_s, None, cpu_ns / 1e3 / total)


_ONE, _TWO = Traffic(qos=1), Traffic(qos=2)

CASES: dict[str, Callable[[Broker, float], Figures]] = {
    "online-q1": partial(online, whole=plan.pairs(SESSIONS, prefix="p"), traffic=_ONE),
    "online-q2": partial(online, whole=plan.pairs(SESSIONS, prefix="p"), traffic=_TWO),
    "offline-q1": partial(offline, traffic=_ONE, messages=4000, is_drain=False),
    "offline-q2": partial(offline, traffic=_TWO, messages=4000, is_drain=False),
    "drain-q1": partial(offline, traffic=_ONE, messages=1000, is_drain=True),
    "fan-out-q1": partial(online, whole=plan.fan_out(SESSIONS, prefix="p"), traffic=_ONE),
}


def compare(
    cases: Sequence[str], brokers: Sequence[str], rounds: int, seconds: float, place: Place, folder: Path | None
) -> bool:
    """Print a table of all cases; False if a round was invalid."""
    click.echo("| case | " + " | ".join(f"{name}, /s" for name in brokers) + " | " + _heads(brokers))
    click.echo("|---|" + "---:|" * (len(brokers) * 3 + len(brokers) - 1 if PEER in brokers else len(brokers) * 3))
    is_valid = True
    for case in cases:
        found: dict[str, list[Figures]] = {name: [] for name in brokers}
        for _ in range(rounds):
            for name in brokers:
                try:
                    with launched(name, place.broker_cpus, folder) as (broker, _), _on_load_cpu(place):
                        figures = CASES[case](broker, seconds)
                except (InvalidRun, LoadError, BrokerError) as error:
                    is_valid = False
                    click.echo(f"{case}, {name}: {error}", err=True)
                    continue
                found[name].append(figures)
                click.echo(f"{case}, {name}: {amount(figures.rate)}/s, p99 {number(figures.p99_ms)} ms", err=True)
        click.echo(_row(case, found))
    return is_valid


def _on_load_cpu(place: Place) -> contextlib.AbstractContextManager[None]:
    return on_cpus((place.load_cpu,) if place.load_cpu is not None else None)


def _heads(brokers: Sequence[str]) -> str:
    ratios = [f"{name} by {PEER}" for name in brokers if name != PEER] if PEER in brokers else []
    p99 = [f"p99 ms {name}" for name in brokers]
    return " | ".join([*ratios, *p99, *(f"CPU µs {name}" for name in brokers)]) + " |"


def _row(case: str, found: dict[str, list[Figures]]) -> str:
    def middle(name: str, figure: Callable[[Figures], float | None]) -> float | None:
        values = [value for value in map(figure, found[name]) if value is not None]
        return statistics.median(values) if values else None

    rates = {name: middle(name, lambda figures: figures.rate) for name in found}
    cells = [case, *map(amount, rates.values())]
    if PEER in rates:
        peer = rates[PEER]
        cells += [number(rate / peer if rate and peer else None) for name, rate in rates.items() if name != PEER]
    cells += [number(middle(name, lambda figures: figures.p99_ms)) for name in found]
    cells += [number(middle(name, lambda figures: figures.cpu_us)) for name in found]
    return f"| {' | '.join(cells)} |"


# Beside others


NEIGHBOURS = ("nobody", "transient", "persistent")
# Of the transient clients where they are not to saturate the broker.
CALM_RATE = 400


@contextlib.contextmanager
def _noise(broker: Broker, neighbour: str) -> Iterator[list[float]]:
    """Pairs of QoS 1 on a thread of their own while the block runs; then the list has their rate."""
    rate: list[float] = []
    if neighbour == "nobody":
        yield rate
        return
    whole = plan.pairs(SESSIONS, prefix="n")
    load = Load(broker.host, broker.port, whole, Traffic(qos=1, client_id_prefix="noise"))
    failures: list[Exception] = []
    stop = threading.Event()
    ready = threading.Event()

    def make() -> None:
        try:
            load.connect(whole.receivers, is_clean=neighbour == "transient")
            load.subscribe(whole.receivers)
            load.connect(whole.publishers)
            load.start()
            ready.set()
            before = load.mark()
            while not stop.is_set():
                load.run(0.05)
            interval = load.counts.since(before)
            rate.append(interval.delivered / (interval.time_ns / 1e9))
            load.stop()
            load.drain(timeout_s=PATIENCE_S)
            load.check()
        except (LoadError, InvalidRun) as error:
            failures.append(error)
        finally:
            ready.set()
            load.close()

    thread = threading.Thread(target=make)
    thread.start()
    ready.wait()
    try:
        yield rate
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def _transient(broker: Broker, seconds: float, rate: float) -> Figures:
    """Transient pairs of QoS 0, closed loop, or so many messages per second in all."""
    whole = plan.pairs(SESSIONS, prefix="t")
    load = Load(broker.host, broker.port, whole, Traffic(window=0 if rate else 100))
    try:
        load.connect()
        load.subscribe()
        load.start(rate=rate)
        load.run(min(1.0, seconds / 2))
        cpu_ns, before = _cpu_ns(broker), load.mark()
        load.run(seconds)
        interval = load.counts.since(before)
        cpu_ns = _cpu_ns(broker) - cpu_ns
        load.stop()
        load.drain(timeout_s=PATIENCE_S)
        load.check()
        return Figures(
            interval.delivered / (interval.time_ns / 1e9), load.latency_ns(99) / 1e6, cpu_ns / 1e3 / interval.delivered
        )
    finally:
        load.close()


def beside(modes: Sequence[str], rounds: int, seconds: float, place: Place, folder: Path | None) -> None:
    """Transient pairs alone, beside pairs of QoS 1 that are transient too, and beside persistent ones."""
    click.echo(
        f"| data.sync | beside | their msg/s | msg/s | p99 ms | their msg/s beside {CALM_RATE}/s | p99 ms of these |"
    )
    click.echo("|---|---|---:|---:|---:|---:|---:|")
    for mode in modes:
        rows: dict[str, list[tuple[float | None, ...]]] = {neighbour: [] for neighbour in NEIGHBOURS}
        for _ in range(rounds):
            for neighbour in NEIGHBOURS:
                row: list[float | None] = []
                for rate in (0, CALM_RATE):
                    with (
                        launched(mode, place.broker_cpus, folder) as (broker, _),
                        _on_load_cpu(place),
                        _noise(broker, neighbour) as noise,
                    ):
                        figures = _transient(broker, seconds, rate)
                    row += [noise[0] if noise else None, figures.rate, figures.p99_ms]
                click.echo(f"{mode}, {neighbour}: {' '.join(map(number, row))}", err=True)
                rows[neighbour].append(tuple(row))
        for neighbour, found in rows.items():
            theirs, ours, p99_ms, calm_theirs, _, calm_p99_ms = (
                statistics.median(values) if (values := [value for value in column if value is not None]) else None
                for column in zip(*found, strict=True)
            )
            click.echo(
                f"| {mode} | {neighbour} | {amount(theirs)} | {amount(ours)} | {number(p99_ms)} "
                f"| {amount(calm_theirs)} | {number(calm_p99_ms)} |"
            )


# Command


@click.command()
@click.option("--case", "cases", multiple=True, type=click.Choice(list(CASES)), help="Only this (repeat for more).")
@click.option("--broker", "brokers", multiple=True, type=click.Choice(BROKERS), default=BROKERS, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Alternating rounds.")
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="Measured time of a round.")
@click.option("--beside", "is_beside", is_flag=True, help="Transient pairs beside persistent ones instead.")
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the data lies.")
@click.option("--broker-cpu", type=int, multiple=True, metavar="CPU", help="Where brokers run (repeat for more).")
@click.option("--load-cpu", type=int, metavar="CPU", help="Where the generator runs.")
def main(
    cases: tuple[str, ...],
    brokers: tuple[str, ...],
    rounds: int,
    seconds: float,
    is_beside: bool,
    folder: Path | None,
    broker_cpu: tuple[int, ...],
    load_cpu: int | None,
) -> None:
    """Measure what it costs a broker not to forget."""
    chosen = Place.choose()
    place = Place(broker_cpu or chosen.broker_cpus, chosen.load_cpu if load_cpu is None else load_cpu)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if is_beside:
        beside([name for name in brokers if name != PEER], rounds, seconds, place, folder)
    elif not compare(cases or list(CASES), brokers, rounds, seconds, place, folder):
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m rookery.bench.persistence")
