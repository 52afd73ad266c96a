"""Backups of a broker under load: each has all that was acknowledged before it began, in order and without gaps."""

import subprocess
from pathlib import Path

import trio

from support.mqtt_client import connect
from support.packets import Puback, Publish
from support.process import BrokerProcess, rookery_command, start_rookery

PUBLISHERS = 3
WINDOW = 50
KEPT = {"clean_start": False, "session_expiry_interval": 3600}
PADDING = b" " * 2000
CONFIG = """
[data]
segment_size_bytes = 1048576
[settings]
SessionInboxSize = 65535
"""


async def publish(broker: BrokerProcess, topic: str, acknowledged: dict[str, int]) -> None:
    """Numbered messages until it is cancelled; acknowledged has the last one of the topic."""
    async with connect((broker.mqtt.host, broker.mqtt.port), client_id=topic) as client:
        sent = 0
        while True:
            while sent < acknowledged[topic] + WINDOW:
                sent += 1
                packet_id = sent % 65535 + 1
                await client.send(Publish(topic=topic, payload=b"%d" % sent + PADDING, qos=1, packet_id=packet_id))
            await client.receive_first(Puback)
            acknowledged[topic] += 1


async def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(30):
        return await trio.run_process(
            rookery_command(*arguments), capture_stdout=True, capture_stderr=True, check=False
        )


async def check(directory: Path, options: tuple[str, ...], least: dict[str, int]) -> None:
    """The reader's inbox has 1, 2, 3 ... of every topic, up to these at least."""
    with start_rookery(*options, "--data", str(directory)) as broker:
        got = dict.fromkeys(least, 0)
        async with connect(
            (broker.mqtt.host, broker.mqtt.port), client_id="reader", receive_maximum=100, **KEPT
        ) as reader:
            while any(got[topic] < number for topic, number in least.items()):
                message = await reader.receive_message()
                assert int(message.payload) == got[message.topic] + 1
                got[message.topic] += 1
        broker.stop()


async def test_backups_under_load_are_whole(tmp_path: Path) -> None:
    (tmp_path / "rookery.toml").write_text(CONFIG, encoding="utf-8")
    options = ("--config", str(tmp_path / "rookery.toml"), "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0")
    acknowledged = {f"t/{number}": 0 for number in range(PUBLISHERS)}
    before: list[dict[str, int]] = []
    with start_rookery(*options, "--data", str(tmp_path / "data"), "--shards", "2") as broker:
        async with connect((broker.mqtt.host, broker.mqtt.port), client_id="reader", **KEPT) as reader:
            await reader.subscribe("t/+", qos=1)
        async with trio.open_nursery() as nursery:
            for topic in acknowledged:
                nursery.start_soon(publish, broker, topic, acknowledged)
            for number, link in enumerate(([], ["--link"], [])):
                while min(acknowledged.values()) < 700 * (number + 1):  # noqa: ASYNC110  # nothing sets an event
                    await trio.sleep(0.01)
                before.append(dict(acknowledged))
                made = await run("backup", str(tmp_path / "data"), str(tmp_path / f"backup{number}"), *link)
                assert made.returncode == 0, made.stderr
            nursery.cancel_scope.cancel()
        broker.stop()
    # It was worth the while: segments were finished, and some that nobody needs any more went.
    assert max(int(path.stem) for path in (tmp_path / "data" / "log").glob("*.log")) > 3
    for number, least in enumerate(before):
        verified = await run("log", "verify", str(tmp_path / f"backup{number}"))
        assert verified.returncode == 0, verified.stderr
        restored = await run("restore", str(tmp_path / f"backup{number}"), str(tmp_path / f"data{number}"))
        assert restored.returncode == 0, restored.stderr
        await check(tmp_path / f"data{number}", options, least)
