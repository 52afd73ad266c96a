"""Full inboxes: how much memory a broker takes for them, and how long it takes to start with them and to empty them.

    python -m rookery.bench.inboxes --messages 10000000

Publishers fill the inboxes of persistent sessions whose clients are away, at QoS 1; each message is durable before it
is acknowledged. Then the broker is killed and started again, and all clients come back. Every message has to arrive,
once and in order. What is called memory is resident memory without pages of files that are merely mapped (RssAnon),
and with them (VmRSS).
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from . import plan
from .brokers import Broker, on_cpus, rookery
from .load import Load

CONFIG = """\
[settings]
SessionInboxSize = 65535
"""
PATIENCE_S = 600.0


def memory(broker: Broker) -> str:
    """Of the broker, in words."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{broker.pid}/status").read_text().splitlines() if ":" in line
    )
    resident, anonymous, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM"))
    return f"{resident:.0f} MiB resident (highest {peak:.0f}), {anonymous:.0f} MiB of it not of files"


def disk_bytes(folder: Path) -> int:
    """Of the data directory, files without a name left out."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@contextmanager
def started(folder: Path, cpu: int, port: int = 0, options: tuple[str, ...] = ()) -> Iterator[Broker]:
    """A broker on this data, and how long it took to be ready."""
    began = time.perf_counter()
    settings = ("--config", str(folder / "rookery.toml"), "--data", str(folder), "--mqtt", f"127.0.0.1:{port}")
    with rookery([cpu], options=(*settings, *options), timeout_s=PATIENCE_S) as broker:
        click.echo(f"ready after {time.perf_counter() - began:.2f} s, {memory(broker)}")
        yield broker


def measure(folder: Path, sessions: int, messages: int, payload: int, broker_cpu: int, load_cpu: int) -> None:
    """Fill, kill, start, empty."""
    whole = plan.pairs(sessions, prefix="inbox")
    with started(folder, broker_cpu) as broker, on_cpus([load_cpu]):
        load = Load(broker.host, broker.port, whole, plan.Traffic(qos=1, window=0, payload_size=payload))
        load.connect(whole.receivers, is_clean=False)
        load.subscribe(whole.receivers)
        load.disconnect(whole.receivers)
        load.connect(whole.publishers)
        began = time.perf_counter()
        load.start(messages=messages // sessions)
        load.publish_all(timeout_s=PATIENCE_S)
        load.stop()
        took_s = time.perf_counter() - began
        total = messages // sessions * sessions
        click.echo(f"{total} messages of {payload} bytes taken in {took_s:.1f} s, {total / took_s:.0f}/s")
        click.echo(f"{memory(broker)}; {disk_bytes(folder) / 2**20:.0f} MiB of disk")
        load.disconnect(whole.publishers)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        port = broker.port
    with started(folder, broker_cpu, port) as broker, on_cpus([load_cpu]):
        began = time.perf_counter()
        load.connect(whole.receivers, is_clean=False, in_flight=len(whole.receivers))
        load.drain(silence_s=10, timeout_s=PATIENCE_S)
        took_s = time.perf_counter() - began
        load.check()
        click.echo(f"all back, once and in order, in {took_s:.1f} s, {total / took_s:.0f}/s")
        click.echo(memory(broker))
        time.sleep(3)
        click.echo(f"3 s later {memory(broker)}")
        load.close()


@click.command()
@click.option("--messages", default=1_000_000, show_default=True)
@click.option("--sessions", default=160, show_default=True, help="At most 65535 messages for each.")
@click.option("--payload", default=256, show_default=True, help="Bytes.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the data lies; a temporary folder by default.")
@click.option("--broker-cpu", default=0, show_default=True)
@click.option("--load-cpu", default=1, show_default=True)
def main(messages: int, sessions: int, payload: int, folder: Path | None, broker_cpu: int, load_cpu: int) -> None:
    """Measure full inboxes."""
    if messages > sessions * 65535:
        raise click.UsageError(f"{sessions} sessions hold {sessions * 65535} messages, not {messages}")
    place = Path(tempfile.mkdtemp(prefix="bench-inboxes-", dir=folder))
    try:
        (place / "rookery.toml").write_text(CONFIG)
        measure(place, sessions, messages, payload, broker_cpu, load_cpu)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
