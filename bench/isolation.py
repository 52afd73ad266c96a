"""What one tenant does to another: a calm one's latency and throughput beside each kind of nuisance (noise.py).

    python -m rookery.bench.isolation

The broker has one CPU. The calm tenant's clients trickle messages to each other on a schedule, first alone, then while
another tenant makes its noise, without limits and with the quotas of LIMITS. The calm tenant's generator has the other
CPU and goes first on it; it mostly sleeps, and the noise takes what is left. At last: how many connects a second the
broker takes.
"""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from .brokers import Broker, on_cpus, rookery
from .load import Load
from .noise import NUISANCES, make_noise
from .plan import Traffic, idle, trickle

# Of the noisy tenant, by the nuisance that they are against. A bucket is a second's worth.
LIMITS = {
    "flood": {"TotalInboundBytesPerSecond": 5_000_000},
    "storm": {"TotalConnectPerSecond": 500},
    "churn": {"TotalInboundBytesPerSecond": 1_000_000, "TotalTransientSubscribePerSecond": 5_000},
    "retained": {"TotalRetainMatchBytesPerSecond": 10_000_000},
    "slow": {"TotalInboundBytesPerSecond": 1_000_000, "TotalTransientFanOutBytesPerSeconds": 10_000_000},
}
CONNECTS_IN_FLIGHT = 200


@dataclass(frozen=True)
class Calm:
    """What the calm tenant saw."""

    rate: float  # messages per second that arrived
    p50_ms: float
    p99_ms: float
    max_ms: float


def watch(broker: Broker, clients: int, rate: int, seconds: float) -> Calm:
    """The calm tenant for so long; nothing of it may be lost."""
    traffic = Traffic(window=0, username="calm/user", client_id_prefix="calm")
    load = Load(broker.host, broker.port, trickle(clients, prefix="calm"), traffic)
    try:
        load.connect(timeout_s=120)
        load.subscribe(timeout_s=120)
        load.start(rate=rate)
        load.run(min(1.0, seconds / 2))
        before = load.mark()
        load.run(seconds)
        interval = load.counts.since(before)
        load.stop()
        load.drain(timeout_s=120)
        load.check()
        return Calm(
            interval.delivered / (interval.time_ns / 1e9),
            *(load.latency_ns(percent) / 1e6 for percent in (50, 99, 100)),
        )
    finally:
        load.close()


def connect_rate(broker: Broker, seconds: float) -> tuple[float, float]:
    """Connects per second with development authentication, and p99 from connect() to CONNACK in milliseconds."""
    load = Load(broker.host, broker.port, idle(CONNECTS_IN_FLIGHT, prefix="c"), Traffic(username="calm/user"))
    try:
        load.churn(min(1.0, seconds / 2), in_flight=CONNECTS_IN_FLIGHT)
        before = load.mark()
        load.churn(seconds, in_flight=CONNECTS_IN_FLIGHT)
        interval = load.counts.since(before)
        return interval.connects / (interval.time_ns / 1e9), load.latency_ns(99) / 1e6
    finally:
        load.close()


@contextlib.contextmanager
def noise(kind: str, broker: Broker, retained: int) -> Iterator[list[str]]:
    """Another process that makes it while the block runs; then the list has how much it was."""
    command = [sys.executable, "-m", "rookery.bench.isolation", "--noise", kind, "--retained", str(retained)]
    with subprocess.Popen(
        [*command, "--address", f"{broker.host}:{broker.port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{kind} was not ready")
        how_much: list[str] = []
        try:
            yield how_much
        finally:
            how_much.append(process.communicate()[0].strip())


@contextlib.contextmanager
def _broker(cpu: int, limits: dict[str, int]) -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="bench-isolation-") as folder:
        config = Path(folder) / "rookery.toml"
        settings = "".join(f"{name} = {value}\n" for name, value in limits.items())
        config.write_text(f"[mqtt]\nbacklog = 65535\n[tenants.noisy.settings]\n{settings}")
        with rookery([cpu], ["--config", str(config)]) as broker:
            yield broker


def _row(name: str, limit: str, calm: Calm, alone: Calm) -> str:
    return (
        f"| {name} | {limit} | {calm.rate:.0f} | {calm.p50_ms:.2f} | {calm.p99_ms:.2f} | {calm.max_ms:.1f} "
        f"| {calm.p99_ms / alone.p99_ms:.1f} |"
    )


@click.command()
@click.option("--nuisance", "kinds", multiple=True, type=click.Choice(NUISANCES), help="Only this (repeat for more).")
@click.option("--clients", default=100, show_default=True, help="Of the calm tenant.")
@click.option("--rate", default=200, show_default=True, help="Messages per second of the calm tenant.")
@click.option("--seconds", default=5.0, show_default=True, help="Measured time of each row.")
@click.option("--retained", default=1_000_000, show_default=True, help="Messages that the noisy tenant has retained.")
@click.option("--broker-cpu", default=0, show_default=True)
@click.option("--load-cpu", default=1, show_default=True)
@click.option("--noise", "noise_kind", default="", hidden=True)
@click.option("--address", default="", hidden=True)
def main(
    kinds: tuple[str, ...],
    clients: int,
    rate: int,
    seconds: float,
    retained: int,
    broker_cpu: int,
    load_cpu: int,
    noise_kind: str,
    address: str,
) -> None:
    """Measure what a noisy tenant does to a calm one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if noise_kind:
        host, _, port = address.rpartition(":")
        make_noise(noise_kind, (host, int(port)), "noisy/user", retained)
        return
    click.echo("| beside it | its limits | calm msg/s | p50 ms | p99 ms | max ms | p99 by that alone |")
    click.echo("|---|---|---:|---:|---:|---:|---:|")
    with on_cpus([load_cpu]):
        with _broker(broker_cpu, {}) as broker:
            alone = watch(broker, clients, rate, seconds)
        click.echo(_row("nobody", "", alone, alone))
        for kind in kinds or NUISANCES:
            for limits in ({}, LIMITS[kind]):
                with _broker(broker_cpu, limits) as broker, noise(kind, broker, retained) as how_much:
                    time.sleep(min(1.0, seconds / 2))  # What a second's worth allows at once has gone.
                    calm = watch(broker, clients, rate, seconds)
                names = ", ".join(f"{name} {value}" for name, value in limits.items())
                click.echo(_row(f"{kind}: {how_much[0]}", names or "none", calm, alone))
        with _broker(broker_cpu, {}) as broker:
            connects, p99_ms = connect_rate(broker, seconds)
        click.echo(f"\n{connects:.0f} connects/s, {CONNECTS_IN_FLIGHT} at a time, p99 {p99_ms:.1f} ms")


def go_first() -> None:
    """Whatever else the machine does comes second, where that is allowed.

    Not by a real-time policy: the kernel takes the CPU away from one that is busy all the time, for 50 ms of each
    second, which would be the p99.
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.nice(-10)


if __name__ == "__main__":
    if "--noise" not in sys.argv:
        go_first()
    main(prog_name="python -m rookery.bench.isolation")
