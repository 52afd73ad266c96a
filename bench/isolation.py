"""What one tenant does to another: a calm one's latency and throughput beside each kind of nuisance (noise.py).

    python -m rookery.bench.isolation

The broker has one CPU. The calm tenant's clients trickle messages to each other on a schedule, in turns while the other
tenant is stopped and while it makes its noise, without limits and with the quotas of LIMITS. A row has the round with
the lowest p99 of each, the one that the rest of the machine disturbed least. The calm tenant's generator has the other
CPU and goes first on it; it mostly sleeps, and the noise takes what is left. At last: how many connects a second the
broker takes.
"""

import atexit
import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from rookery.server import scheduling

from .brokers import Broker, on_cpus, rookery
from .load import Load
from .noise import NUISANCES, make_noise
from .plan import Traffic, idle, trickle

# Of the noisy tenant, by the nuisance that they are against. A bucket is a second's worth.
LIMITS = {
    "flood": {"TotalInboundBytesPerSecond": 5_000_000},
    "storm": {"TotalConnectPerSecond": 500},
    "churn": {"TotalInboundBytesPerSecond": 1_000_000, "TotalTransientSubscribePerSecond": 5_000},
    "retained": {"TotalInboundBytesPerSecond": 1_000_000, "TotalRetainMatchBytesPerSecond": 10_000_000},
    "slow": {"TotalInboundBytesPerSecond": 1_000_000, "TotalTransientFanOutBytesPerSeconds": 10_000_000},
}
CONNECTS_IN_FLIGHT = 200
SETTLE_S = 0.5  # between quiet and noise, until what the broker still has of the one is gone
_AUTOGROUP = Path("/proc/self/autogroup")  # Niceness counts within a terminal's group, and this is the group's.


@dataclass(frozen=True)
class Calm:
    """What the calm tenant saw."""

    rate: float  # messages per second that arrived
    p50_ms: float
    p99_ms: float
    max_ms: float


def least_disturbed(rounds: list[Calm]) -> Calm:
    """Of rounds of the same: whatever else the machine does makes a round slower, and never faster."""
    return min(rounds, key=lambda calm: calm.p99_ms)


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


class Noise:
    """Another process that makes it, and can be told to pause."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.how_much = ""  # once it has ended

    def pause(self) -> None:
        """It says nothing and takes nothing; its connections stay."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(SETTLE_S)

    def go_on(self) -> None:
        """After pause."""
        self._process.send_signal(signal.SIGCONT)
        time.sleep(SETTLE_S)

    def end(self) -> None:
        """How much it was is known then."""
        self._process.send_signal(signal.SIGCONT)
        self.how_much = self._process.communicate()[0].strip()


@contextlib.contextmanager
def noise(kind: str, broker: Broker, retained: int) -> Iterator[Noise]:
    """It is made while the block runs."""
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
        made = Noise(process)
        try:
            yield made
        finally:
            made.end()


@contextlib.contextmanager
def _broker(cpu: int, limits: dict[str, int], priority: int) -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="bench-isolation-") as folder:
        config = Path(folder) / "rookery.toml"
        settings = "".join(f"{name} = {value}\n" for name, value in limits.items())
        config.write_text(f"[mqtt]\nbacklog = 65535\n[tenants.noisy.settings]\n{settings}")
        with rookery([cpu], ["--config", str(config)]) as broker:
            _prefer_shards(broker, priority)
            yield broker


def _prefer_shards(broker: Broker, priority: int) -> None:
    """Real-time policy for the threads that messages meet, and for no other."""
    for task in Path(f"/proc/{broker.pid}/task").iterdir() if priority else ():
        if (task / "comm").read_text().startswith("rookery-shard"):
            os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(priority))


def in_turns(
    broker: Broker, kind: str, retained: int, clients: int, rate: int, seconds: float, rounds: int
) -> tuple[str, Calm, Calm]:
    """How much noise it was, and the calm tenant without and with it."""
    alone, beside = [], []
    with noise(kind, broker, retained) as made:
        time.sleep(min(1.0, seconds))  # What a second's worth allows at once has gone.
        for _ in range(rounds):
            made.pause()
            alone.append(watch(broker, clients, rate, seconds))
            made.go_on()
            beside.append(watch(broker, clients, rate, seconds))
    return made.how_much, least_disturbed(alone), least_disturbed(beside)


@click.command()
@click.option("--nuisance", "kinds", multiple=True, type=click.Choice(NUISANCES), help="Only this (repeat for more).")
@click.option("--clients", default=100, show_default=True, help="Of the calm tenant.")
@click.option("--rate", default=1000, show_default=True, help="Messages per second of the calm tenant.")
@click.option("--seconds", default=1.0, show_default=True, help="Measured time of each half of a round.")
@click.option("--rounds", default=5, show_default=True, help="Of each row.")
@click.option(
    "--real-time",
    default=0,
    metavar="PRIORITY",
    help="Of shards and the calm tenant, where others use the machine; for noise that has limits.",
)
@click.option("--only-limited", is_flag=True, help="Leave out the rows without limits.")
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
    rounds: int,
    real_time: int,
    only_limited: bool,
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
    click.echo("| beside it | its limits | p50 ms alone | beside | p99 ms alone | beside | ratio | max ms beside |")
    click.echo("|---|---|---:|---:|---:|---:|---:|---:|")
    if real_time:
        # Inherited by no process that is started from here.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(real_time))
    with on_cpus([load_cpu]):
        for kind in kinds or NUISANCES:
            for limits in ({}, LIMITS[kind]):
                if not limits and only_limited:
                    continue
                with _broker(broker_cpu, limits, real_time) as broker:
                    how_much, alone, beside = in_turns(broker, kind, retained, clients, rate, seconds, rounds)
                names = ", ".join(f"{name} {value}" for name, value in limits.items())
                click.echo(
                    f"| {kind}: {how_much} | {names or 'none'} | {alone.p50_ms:.2f} | {beside.p50_ms:.2f} "
                    f"| {alone.p99_ms:.2f} | {beside.p99_ms:.2f} | {beside.p99_ms / alone.p99_ms:.1f} "
                    f"| {beside.max_ms:.1f} |"
                )
        with _broker(broker_cpu, {}, 0) as broker:
            connects, p99_ms = connect_rate(broker, seconds)
        click.echo(f"\n{connects:.0f} connects/s, {CONNECTS_IN_FLIGHT} at a time, p99 {p99_ms:.1f} ms")


def go_first() -> None:
    """Whatever else the machine does comes second, where that is allowed.

    Not by a real-time policy, unless that is asked for: the kernel takes the CPU away from one that is busy all the
    time, for 50 ms of each second, which would be the p99; so it is of use only where the broker has time to spare.
    The short slice lets the calm tenant's generator interrupt the noise.
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.nice(-10)
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text("-20")
        atexit.register(_AUTOGROUP.write_text, "0")
    scheduling.go_first()


if __name__ == "__main__":
    if "--noise" not in sys.argv:
        go_first()
    main(prog_name="python -m rookery.bench.isolation")
