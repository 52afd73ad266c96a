"""Logins by password: how long a storm of reconnects takes, and what it does to everybody else.

    python -m rookery.bench.logins

The broker has one CPU, and users in its admin database. Devices, whose hashes are cheap, log in once and then again,
all at once: the second time they are remembered, and what a hash costs plays no part. Strangers have hashes of 19 MiB
and 2 passes, as `rookery passwd` makes them, and log in at once, too. Another process, on the CPU of the devices, sends
a message to itself all the time: its round trips say what others notice.
"""

import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
import trio
from argon2 import PasswordHasher, Type

from rookery.server.auth.passwords import hash_password
from rookery.server.store import User, open_store

from .brokers import Broker, on_cpus, rookery

CONFIG = """\
[authentication]
chain = ["users"]
in_work_limit = 100000
[mqtt]
backlog = 65535
"""
PASSWORD = b"a password"
PROBE_INTERVAL_S = 0.002
WINDOW = 1000  # logins under way at once, as many as the broker's queue of connections bears

_cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=Type.ID)


def connect_packet(username: str, client_id: str) -> bytes:
    """CONNECT of 3.1.1 with a clean session."""
    fields = (client_id.encode(), username.encode(), PASSWORD)
    body = b"\0\4MQTT\4\xc2\0\0" + b"".join(struct.pack(">H", len(field)) + field for field in fields)
    return b"\x10" + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


async def make_users(directory: Path, devices: int, strangers: int) -> None:
    """A user for each, every one with a hash of his own."""
    async with open_store(directory) as store:
        await store.users.put(
            *(User("acme", f"device{number}", _cheap.hash(PASSWORD)) for number in range(devices)),
            *(User("acme", f"stranger{number}", hash_password(PASSWORD)) for number in range(strangers)),
            User("acme", "probe", _cheap.hash(PASSWORD)),
        )


async def log_in_all(broker: Broker, kind: str, count: int) -> float:
    """Seconds until all have their CONNACK; they stay connected until then. Raises when one is refused."""
    limiter = trio.CapacityLimiter(WINDOW)
    streams: list[trio.SocketStream] = []

    async def log_in(number: int) -> None:
        async with limiter:
            stream = await trio.open_tcp_stream(broker.host, broker.port)
            streams.append(stream)
            await stream.send_all(connect_packet(f"acme/{kind}{number}", f"{kind}{number}"))
            answer = await stream.receive_some(16)
            if answer != b"\x20\2\0\0":
                raise RuntimeError(f"{kind}{number} was answered {answer.hex()}")

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(log_in, number)
    took_s = time.perf_counter() - began
    for stream in streams:
        await stream.aclose()
    return took_s


def probe(host: str, port: int) -> None:
    """Send a message to oneself until standard input ends; p50 and p99 of the round trips in milliseconds."""
    times: list[float] = []
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(connect_packet("acme/probe", "probe") + b"\x82\6\0\1\0\1p\0")
        received = b""
        while len(received) < 9:  # CONNACK and SUBACK
            received += connection.recv(64)
        print("ready", flush=True)
        message = b"\x30\4\0\1px"
        end = _end_of_input()
        while not times or not end.is_set():
            began = time.perf_counter()
            connection.sendall(message)
            got = 0
            while got < len(message):
                got += len(connection.recv(64))
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(PROBE_INTERVAL_S)
    times.sort()
    print(f"{times[len(times) // 2]:.3f} {times[len(times) * 99 // 100]:.3f} {len(times)}", flush=True)


def _end_of_input() -> threading.Event:
    end = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        end.set()

    threading.Thread(target=wait, daemon=True).start()
    return end


class Probe:
    """The other process, from here."""

    def __init__(self, broker: Broker) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rookery.bench.logins", "--probe", f"{broker.host}:{broker.port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> str:
        """What it saw."""
        said, _ = self._process.communicate()
        p50, p99, count = said.split()
        return f"p50 {p50} ms, p99 {p99} ms of {count} round trips"


async def _measure(devices: int, strangers: int, quiet_s: float, broker: Broker) -> None:
    quiet = Probe(broker)
    await trio.sleep(quiet_s)
    click.echo(f"quiet: another client {quiet.end()}")
    first_s = await log_in_all(broker, "device", devices)
    click.echo(f"{devices} devices, cheap hashes, first time: {first_s:.2f} s, {devices / first_s:.0f}/s")
    for _ in range(3):
        during = Probe(broker)
        again_s = await log_in_all(broker, "device", devices)
        click.echo(f"{devices} devices, remembered: {again_s:.2f} s, {devices / again_s:.0f}/s; {during.end()}")
    during = Probe(broker)
    took_s = await log_in_all(broker, "stranger", strangers)
    click.echo(f"{strangers} strangers, Argon2: {took_s:.2f} s, {strangers / took_s:.0f}/s; {during.end()}")


@click.command()
@click.option("--devices", default=10_000, show_default=True)
@click.option("--strangers", default=200, show_default=True)
@click.option("--quiet-s", default=3.0, show_default=True, help="How long others are watched before.")
@click.option("--broker-cpu", default=0, show_default=True)
@click.option("--load-cpu", default=1, show_default=True)
@click.option("--probe", "probed", default="", hidden=True)
def main(devices: int, strangers: int, quiet_s: float, broker_cpu: int, load_cpu: int, probed: str) -> None:
    """Measure logins by password."""
    if probed:
        host, _, port = probed.rpartition(":")
        probe(host, int(port))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < devices + 100:
        raise click.UsageError(f"{hard} open files are allowed, {devices + 100} are needed (it was {soft})")
    with tempfile.TemporaryDirectory(prefix="bench-logins-") as folder:
        config = Path(folder) / "rookery.toml"
        config.write_text(CONFIG)
        trio.run(make_users, Path(folder), devices, strangers)
        with rookery([broker_cpu], options=["--config", str(config), "--data", folder]) as broker, on_cpus([load_cpu]):
            trio.run(_measure, devices, strangers, quiet_s, broker)


if __name__ == "__main__":
    main()
