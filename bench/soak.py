"""Churn for as long as you like: what a broker with a durable log takes of memory and disk must not grow.

    python -m rookery.bench.soak --seconds 600

In each round clients that nobody has seen before connect with persistent sessions, subscribe and leave; publishers send
to them, QoS 1 and 2 in turns, all of it durable before it is acknowledged. In two
rounds of three the subscribers come back, take everything and leave for good; in the third they never return. All
sessions expire. Every message of those that came back has to arrive, once where it is QoS 2, in order.

Resident memory, bytes of the data directory and open files are looked at after each round. The highest of the last
fifth of all rounds is compared with the highest of the first fifth that follows upon a warming-up: more than
`--tolerance` above it is a failure. (The highest, because a log grows and is compacted in turns.)
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from . import plan
from .brokers import Broker, on_cpus, rookery
from .inboxes import disk_bytes
from .load import Load
from .outcome import InvalidRun

# Sessions end soon; small segments let the log be compacted many times in a run.
CONFIG = """\
[data]
segment_size_bytes = 4194304
[settings]
SessionInboxSize = 65535
MinSessionExpirySeconds = 1
MaxSessionExpirySeconds = 10
"""
PATIENCE_S = 120.0
WARM_UP = 0.2  # of all the time
# Below so much a difference is noise, however many percent it is.
FLOORS = {"resident": 16 * 2**20, "disk": 4 * 4194304, "files": 8}


@dataclass(frozen=True)
class Sample:
    """What the broker takes after a round."""

    at_s: float
    resident: int  # bytes
    disk: int  # bytes
    files: int

    @classmethod
    def of(cls, broker: Broker, folder: Path, at_s: float) -> "Sample":
        """As it is now."""
        resident = broker.resident_bytes()
        assert resident is not None
        assert broker.pid is not None
        files = len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))
        return cls(at_s, resident, disk_bytes(folder), files)


def churn(broker: Broker, number: int, sessions: int, messages: int) -> int:
    """One round; how many messages were taken and, where somebody came back, delivered."""
    prefix = f"soak{number}"
    whole = plan.pairs(sessions, prefix=prefix)
    traffic = plan.Traffic(qos=1 + number % 2, window=0, payload_size=256, client_id_prefix=prefix)
    load = Load(broker.host, broker.port, whole, traffic)
    try:
        load.connect(whole.receivers, is_clean=False)
        load.subscribe(whole.receivers)
        load.disconnect(whole.receivers)
        load.connect(whole.publishers)
        load.start(messages=messages)
        load.publish_all(timeout_s=PATIENCE_S)
        load.stop()
        if number % 3 != 2:
            load.connect(whole.receivers, is_clean=False)
            load.drain(timeout_s=PATIENCE_S)
            load.check()
    finally:
        load.close()
    return sessions * messages


def excess(samples: Sequence[Sample], seconds: float) -> dict[str, tuple[int, int]]:
    """The highest of each figure at the beginning and at the end; seconds is how long all of it took."""
    begin, end = seconds * WARM_UP, seconds * (1 - WARM_UP)
    first = [sample for sample in samples if begin <= sample.at_s < 2 * begin] or list(samples[:1])
    last = [sample for sample in samples if sample.at_s >= end] or list(samples[-1:])
    highest = [{name: max(getattr(sample, name) for sample in part) for name in FLOORS} for part in (first, last)]
    return {name: (highest[0][name], highest[1][name]) for name in FLOORS}


def soak(
    broker: Broker, folder: Path, seconds: float, every_s: float, sessions: int, messages: int, tolerance: float
) -> bool:
    """Churn for so long; False if something has grown."""
    began = time.monotonic()
    samples: list[Sample] = []
    total = 0
    while (at_s := time.monotonic() - began) < seconds or not samples:
        total += churn(broker, len(samples), sessions, messages)
        # At a steady rate as much is alive at any time, however fast the machine is just now.
        time.sleep(max(0.0, began + (len(samples) + 1) * every_s - time.monotonic()))
        samples.append(Sample.of(broker, folder, time.monotonic() - began))
        if len(samples) % 20 == 1:
            now = samples[-1]
            click.echo(
                f"{at_s:6.0f} s: {now.resident / 2**20:.0f} MiB resident, {now.disk / 2**20:.0f} MiB of disk,"
                f" {now.files} files",
                err=True,
            )
    click.echo(f"{len(samples)} rounds, {len(samples) * sessions} sessions, {total} messages, none lost")
    is_constant = True
    for name, (first, last) in excess(samples, time.monotonic() - began).items():
        is_grown = last > first * (1 + tolerance) and last - first > FLOORS[name]
        is_constant = is_constant and not is_grown
        click.echo(f"{name}: at most {first} in the beginning, {last} in the end{': GROWN' if is_grown else ''}")
    return is_constant


@click.command()
@click.option("--seconds", default=600.0, show_default=True)
@click.option("--every", "every_s", default=0.5, show_default=True, help="A round begins each so many seconds.")
@click.option("--sessions", default=200, show_default=True, help="New ones in each round.")
@click.option("--messages", default=100, show_default=True, help="To each session of a round.")
@click.option("--tolerance", default=0.2, show_default=True, help="By which figures may be higher in the end.")
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the data lies.")
@click.option("--broker-cpu", type=int, multiple=True, metavar="CPU", help="Where the broker runs (repeat for more).")
@click.option("--load-cpu", type=int, multiple=True, metavar="CPU", help="Where the generator runs.")
def main(
    seconds: float,
    every_s: float,
    sessions: int,
    messages: int,
    tolerance: float,
    folder: Path | None,
    broker_cpu: tuple[int, ...],
    load_cpu: tuple[int, ...],
) -> None:
    """Find out whether memory or disk grow."""
    with tempfile.TemporaryDirectory(prefix="bench-soak-", dir=folder) as name:
        data = Path(name)
        (data / "rookery.toml").write_text(CONFIG)
        options = ("--config", str(data / "rookery.toml"), "--data", str(data))
        with rookery(broker_cpu, options) as broker, on_cpus(load_cpu):
            try:
                is_constant = soak(broker, data, seconds, every_s, sessions, messages, tolerance)
            except InvalidRun as error:
                click.echo(f"lost, doubled or out of order: {error}", err=True)
                sys.exit(1)
    sys.exit(0 if is_constant else 1)


if __name__ == "__main__":
    main(prog_name="python -m rookery.bench.soak")
