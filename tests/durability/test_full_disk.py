"""A disk that is really full under a broker that really runs: a small file system, or a limit on the size of files.

A file system of its own is mounted in a user and mount namespace, which the broker enters; nothing is mounted where
others see it. Where the system forbids such namespaces that case is skipped; the one with the limit runs everywhere.
"""

import os
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from support.mqtt_client import Client, connect, open_connection
from support.packets import Puback, Publish
from support.process import BrokerProcess, Process, run_process, start_rookery
from support.waiting import DEADLINE_S

KEPT = {"clean_start": False, "session_expiry_interval": 3600}
QUOTA_EXCEEDED = 0x97
PAYLOAD_SIZE = 4096
FILE_SYSTEM_SIZE = 12 * 2**20
SEGMENT_SIZE = 2**20
CONFIG = f"""\
[data]
segment_size_bytes = {SEGMENT_SIZE}
refuse_after_ms = 0
"""
IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
MOUNT = 'mount -t tmpfs -o size="$1",mode=700 rookery-test "$0" && echo mounted && exec sleep infinity'


class SmallFileSystem:
    """A tmpfs that only the broker and its keeper see. It is gone with the keeper."""

    def __init__(self, folder: Path, keeper: Process) -> None:
        self.prefix = ("nsenter", "--target", str(keeper.pid), "--user", "--preserve-credentials", "--mount")
        self.data = folder / "data"
        self._seen_from_here = Path(f"/proc/{keeper.pid}/root{folder}")

    def fill(self, broker: BrokerProcess) -> None:
        """Not one block is left."""
        del broker
        with (self._seen_from_here / "ballast").open("wb", buffering=0) as ballast:
            for size in (2**20, 4096):
                try:
                    while True:
                        os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, size)
                except OSError as error:
                    assert "No space left" in str(error)  # noqa: PT017  # the loop has no other end

    def free(self, broker: BrokerProcess) -> None:
        del broker
        (self._seen_from_here / "ballast").unlink()


class FileSizeLimit:
    """No file of the process may grow beyond one byte; writes into what a file has already fail as well."""

    prefix = ()

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"

    def fill(self, broker: BrokerProcess) -> None:
        pid = broker.process.pid
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, most))

    def free(self, broker: BrokerProcess) -> None:
        pid = broker.process.pid
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


Disk = SmallFileSystem | FileSizeLimit


def why_no_namespace(folder: Path) -> str:
    """What the system says when it is asked for a file system of our own; "" if it is given."""
    mount = f'mount -t tmpfs rookery-test "{folder}"'
    try:
        asked = subprocess.run([*IN_NAMESPACE, "sh", "-c", mount], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return asked.stderr.strip() or f"exit code {asked.returncode}" if asked.returncode else ""


@contextmanager
def small_file_system(folder: Path) -> Iterator[Disk]:
    refusal = why_no_namespace(folder)
    if refusal:
        pytest.skip(f"no mount namespace of our own: {refusal}")
    with run_process(*IN_NAMESPACE, "sh", "-c", MOUNT, str(folder), str(FILE_SYSTEM_SIZE)) as keeper:
        keeper.stdout.expect("mounted")
        yield SmallFileSystem(folder, keeper)


@contextmanager
def file_size_limit(folder: Path) -> Iterator[Disk]:
    yield FileSizeLimit(folder)


@pytest.fixture(params=[small_file_system, file_size_limit], ids=["small file system", "file size limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made: AbstractContextManager[Disk] = request.param(folder)
    with made as disk:
        yield disk


@contextmanager
def serving(disk: Disk, config: Path) -> Iterator[BrokerProcess]:
    """A broker whose data lie on that disk."""
    with start_rookery(
        *("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--shards", "1"),
        *("--config", str(config), "--data", str(disk.data)),
        prefix=disk.prefix,
    ) as broker:
        yield broker


class Writer:
    """Publishes numbered messages to the persistent session, one at a time, and remembers what it was told."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[int] = []
        self._number = 0

    async def publish(self, client: Client) -> int:
        """One message; the reason code."""
        self._number += 1
        number = self._number
        payload = b"%d:" % number + bytes(PAYLOAD_SIZE)
        await client.send(Publish(topic="durable/a", payload=payload, qos=1, packet_id=client.next_packet_id()))
        reason_code = (await client.receive_first(Puback)).reason_code
        (self.acknowledged if reason_code < 0x80 else self.refused).append(number)
        return reason_code

    async def publish_until(self, client: Client, seen: trio.Event) -> None:
        while not seen.is_set():
            await self.publish(client)


async def await_readiness(http: httpx.AsyncClient, status: int) -> str:
    """What /readyz says as soon as it has this status."""
    with trio.fail_after(DEADLINE_S):
        while True:
            response = await http.get("/readyz")
            if response.status_code == status:
                return response.text
            await trio.sleep(0.01)


async def read_metric(http: httpx.AsyncClient, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", (await http.get("/metrics")).text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def test_full_disk_is_told_and_costs_no_message_that_was_acknowledged(disk: Disk, tmp_path: Path) -> None:
    config = tmp_path / "rookery.toml"
    config.write_text(CONFIG)
    writer = Writer()
    with serving(disk, config) as broker:
        address = (broker.mqtt.host, broker.mqtt.port)
        async with httpx.AsyncClient(base_url=f"http://{broker.api}", timeout=DEADLINE_S) as http:
            async with connect(address, client_id="reader", **KEPT) as reader:
                await reader.subscribe("durable/#", qos=1)
            async with (
                connect(address, client_id="writer") as publisher,
                connect(address, client_id="other writer") as other,
                connect(address, client_id="transient") as transient,
            ):
                await transient.subscribe("transient/#", qos=1)
                assert await writer.publish(publisher) == 0
                await await_readiness(http, 200)

                disk.fill(broker)
                publisher.deadline_s = 60
                refused = trio.Event()
                async with trio.open_nursery() as nursery:
                    # It goes on until the room that the log has already is used up; then it is told so, or nothing.
                    nursery.start_soon(writer.publish_until, publisher, refused)
                    reason = await await_readiness(http, 503)
                    assert "File too large" in reason or "No space left" in reason
                    broker.process.stderr.expect("log_failing")
                    assert await read_metric(http, "rookery_log_failing") == 1
                    assert await read_metric(http, "rookery_log_failures_total") > 0
                    assert await writer.publish(other) == QUOTA_EXCEEDED
                    for qos in (0, 1):
                        await transient.publish("transient/a", b"%d" % qos, qos=qos)
                        assert (await transient.receive_message()).payload == b"%d" % qos
                    assert await await_readiness(http, 503) == reason

                    disk.free(broker)
                    await await_readiness(http, 200)
                    refused.set()
                broker.process.stderr.expect("log_recovered")
                assert await read_metric(http, "rookery_log_failing") == 0
                assert await writer.publish(other) == 0
                assert await writer.publish(publisher) == 0
        broker.kill()
    assert writer.refused
    with serving(disk, config) as broker:
        async with open_connection((broker.mqtt.host, broker.mqtt.port)) as reader:
            connack = await reader.connect(client_id="reader", **KEPT)
            assert connack.session_present
            received = [int((await reader.receive_message()).payload.partition(b":")[0]) for _ in writer.acknowledged]
            await reader.expect_nothing()
        broker.stop()
    # In the order of each publisher, of which there were two.
    assert sorted(received) == sorted(writer.acknowledged)
