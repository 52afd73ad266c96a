"""What a storm of TLS handshakes does to clients that are connected already.

    python -m rookery.bench.handshakes

Each broker has one CPU for all its threads. A client over TCP sends messages to itself on a schedule, first alone, then
while another process connects and disconnects over TLS 1.3 all the time, so many at once that the broker always has
handshakes to make (a certificate of P-256, keys agreed on by X25519). Latency is that from when a message was due. The
watcher shares its CPU with the storm: it sleeps between its messages and goes first when it wakes.
"""

import contextlib
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click

from .brokers import Broker, launch, on_cpus
from .isolation import go_first
from .load import Load
from .noise import connect, publish, subscribe
from .plan import Traffic, Transport, idle

IN_FLIGHT = 64  # handshakes under way at once
TURN_S = 0.2  # between two looks whether the storm shall go on


SILENCE_S = 30.0  # of the broker, after which the watcher gives up


@dataclass(frozen=True)
class Watched:
    """What the connected client saw, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float


def watch(broker: Broker, rate: int, seconds: float) -> Watched:
    """Messages to oneself for so long, rate per second. Raises TimeoutError when one does not come back."""
    messages = max(round(rate * seconds), 1)
    due_s: list[float] = []
    latencies_ms: list[float] = []
    with socket.create_connection((broker.host, broker.port), timeout=SILENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(connect("calm/user", "watcher") + subscribe("watched"))
        received = b""
        while len(received) < 9:  # CONNACK and SUBACK
            received += connection.recv(64)
        message = publish("watched", bytes(64))
        received = b""
        start_s = time.perf_counter()
        while len(latencies_ms) < messages:
            next_s = start_s + len(due_s) / rate
            now_s = time.perf_counter()
            if len(due_s) < messages and now_s >= next_s:
                due_s.append(next_s)
                connection.sendall(message)
                continue
            patience_s = next_s - now_s if len(due_s) < messages else SILENCE_S
            if not select.select([connection], [], [], patience_s)[0]:
                if len(due_s) == messages:
                    raise TimeoutError(f"{len(latencies_ms)} of {messages} messages came back")
                continue
            received += connection.recv(65536)
            now_s = time.perf_counter()
            while len(received) >= len(message):
                received = received[len(message) :]
                latencies_ms.append((now_s - due_s[len(latencies_ms)]) * 1000)
    latencies_ms.sort()
    return Watched(latencies_ms[messages // 2], latencies_ms[messages * 99 // 100], latencies_ms[-1])


@dataclass(frozen=True)
class Round:
    """One broker, once."""

    alone: Watched
    beside: Watched  # the storm
    handshakes_per_s: float  # and logins, meanwhile


def make_storm(host: str, port: int) -> None:
    """Connect and disconnect until standard input ends; then print handshakes per second."""
    load = Load(host, port, idle(IN_FLIGHT, prefix="storm"), Traffic(transport=Transport.TLS, username="storm/user"))
    try:
        load.churn(TURN_S, in_flight=IN_FLIGHT)
        print("ready", flush=True)
        before = load.mark()
        interval = load.counts.since(before)
        while interval.connects == 0 or not _has_ended():
            load.churn(TURN_S, in_flight=IN_FLIGHT)
            interval = load.counts.since(before)
        print(interval.connects / (interval.time_ns / 1e9), flush=True)
    finally:
        load.close()


def yield_to_others() -> None:
    """Whoever else wakes on this CPU goes first; a storm is content with what is left, which is most of it."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.nice(5)


def _has_ended() -> bool:
    os.set_blocking(sys.stdin.fileno(), False)
    try:
        return os.read(sys.stdin.fileno(), 1) == b""
    except BlockingIOError:
        return False


@contextlib.contextmanager
def storm(broker: Broker) -> Iterator[list[float]]:
    """Another process that makes it while the block runs; then the list has the handshakes per second."""
    target = f"{broker.host}:{broker.port_of(Transport.TLS)}"
    command = [sys.executable, "-m", "rookery.bench.handshakes", "--storm", target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the storm did not begin")
        rates: list[float] = []
        try:
            yield rates
        finally:
            rates.append(float(process.communicate()[0]))


def measure_once(name: str, cpu: int, rate: int, seconds: float) -> Round:
    """Start the broker anew, and watch it without and with the storm."""
    with launch(name, [cpu], Transport.TLS) as broker:
        alone = watch(broker, rate, seconds)
        with storm(broker) as rates:
            beside = watch(broker, rate, seconds)
    return Round(alone, beside, rates[0])


def _row(name: str, rounds: list[Round]) -> str:
    figures = [
        statistics.median(values)
        for values in zip(
            *(
                (each.handshakes_per_s, each.beside.p50_ms, each.beside.p99_ms, each.beside.max_ms, each.alone.p99_ms)
                for each in rounds
            ),
            strict=True,
        )
    ]
    handshakes, p50_ms, p99_ms, max_ms, alone_ms = figures
    return f"| {name} | {handshakes:.0f} | {p50_ms:.2f} | {p99_ms:.2f} | {max_ms:.1f} | {alone_ms:.2f} |"


@click.command()
@click.option("--broker", "names", multiple=True, default=("mosquitto", "rookery"), show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Alternating; the table has their medians.")
@click.option("--rate", default=1000, show_default=True, help="Messages per second of the client that is watched.")
@click.option("--seconds", default=3.0, show_default=True, help="Measured time with, and without the storm.")
@click.option("--broker-cpu", default=0, show_default=True)
@click.option("--load-cpu", default=1, show_default=True)
@click.option("--storm", "target", default="", hidden=True)
def main(
    names: tuple[str, ...],
    rounds: int,
    rate: int,
    seconds: float,
    broker_cpu: int,
    load_cpu: int,
    target: str,
) -> None:
    """Measure what TLS handshakes do to clients that are connected."""
    if target:
        yield_to_others()
        host, _, port = target.rpartition(":")
        make_storm(host, int(port))
        return
    measured: dict[str, list[Round]] = {name: [] for name in names}
    with on_cpus([load_cpu]):
        for number in range(rounds):
            for name in names:
                if number:
                    time.sleep(0.1)  # What the last broker leaves behind is over.
                measured[name].append(measure_once(name, broker_cpu, rate, seconds))
    click.echo("| broker | handshakes/s | others' p50 ms | p99 ms | max ms | p99 ms without |")
    click.echo("|---|---:|---:|---:|---:|---:|")
    for name, each in measured.items():
        click.echo(_row(name, each))


if __name__ == "__main__":
    if "--storm" not in sys.argv:
        go_first()
    main(prog_name="python -m rookery.bench.handshakes")
