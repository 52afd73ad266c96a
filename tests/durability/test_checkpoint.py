"""The log does not grow beyond what is alive: checkpoints write that anew, and the old end goes."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.memory_broker import Broker, Client
from support.packets import Publish, Pubrec, Pubrel, Subscription, Will

SEGMENT_SIZE = 4096
LEAST = 4 * SEGMENT_SIZE  # below it there is no checkpoint
KEPT: dict[str, Any] = {"clean_start": False, "session_expiry_interval": 10_000}


class Restarts:
    def __init__(self, folder: Path, shards: int) -> None:
        self.folder = folder
        self.shards = shards
        self.broker = self._start(1_000_000)

    def _start(self, now_ms: int) -> Broker:
        return Broker(
            shard_count=self.shards,
            data=self.folder,
            segment_size=SEGMENT_SIZE,
            now_ms=now_ms,
            min_session_expiry_seconds=1,
        )

    def kill(self) -> Broker:
        self.broker.crash()
        self.broker = self._start(self.broker.now_ms)
        return self.broker

    @property
    def log_bytes(self) -> int:
        assert self.broker.log is not None
        return self.broker.log.state().total_bytes


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def restarts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restarts]:
    restarts = Restarts(tmp_path, request.param)
    yield restarts
    restarts.broker.close()


def reconnect(broker: Broker, name: str) -> Client:
    client = broker.open()
    assert client.connect(client_id=name, **KEPT).session_present, name
    return client


def churn(broker: Broker, rounds: int) -> None:
    """Traffic that leaves nothing behind."""
    reader = broker.connect("churn reader", **KEPT)
    reader.subscribe("churn", qos=1)
    writer = broker.connect("churn writer")
    for number in range(rounds):
        writer.publish("churn", b"%d" % number + bytes(200), qos=1)
        assert len(reader.take_messages()) == 1
    reader.disconnect(session_expiry_interval=0)
    writer.disconnect()


def test_log_stays_small_when_nothing_stays_alive(restarts: Restarts) -> None:
    for _ in range(5):
        churn(restarts.broker, 200)
        assert restarts.log_bytes < LEAST + 4 * SEGMENT_SIZE
    restarts.kill()
    assert restarts.broker.count("sessions") == 0


def test_everything_alive_is_written_anew(restarts: Restarts) -> None:
    """All that a session may have, then so much traffic that nothing of the first records can be left."""
    broker = restarts.broker
    writer = broker.connect("writer", **KEPT)
    waiting = broker.connect("waiting", **KEPT)
    waiting.subscribe(Subscription("a/#", 2), Subscription("$share/g/a/b", 1), subscription_id=7)
    waiting.drop()
    sent = broker.connect("sent", receive_maximum=5, **KEPT)
    sent.subscribe("a/b", qos=2)
    for number in range(10):
        writer.publish("a/b", b"%d" % number, qos=1 + number % 2, user_properties=(("n", str(number)),))
    messages = sent.take_messages(acknowledge=False)
    assert len(messages) == 5
    sent.send(Pubrec(packet_id=messages[1].packet_id))
    sent.take(Pubrel)
    sent.drop()
    writer.send(Publish(topic="a/c", payload=b"taken", qos=2, packet_id=77))
    writer.take(Pubrec)
    for number in range(300):
        broker.connect("r").publish(f"retained/{number}", b"%d" % number, retain=True)
    will = Will(topic="will", payload=b"gone", will_delay_interval=5000)
    broker.connect("willed", will=will, **KEPT).drop()
    first = min(restarts.folder.glob("*.log"))
    while first.exists():
        churn(broker, 50)
    broker = restarts.kill()
    again = reconnect(broker, "waiting").take_messages()
    own = [message for message in again if len(message.subscription_ids) == 1]
    assert sorted({message.payload for message in own}) == [*(b"%d" % n for n in range(10)), b"taken"]
    sent = reconnect(broker, "sent")
    resumed = [(message.payload, message.packet_id) for message in messages]
    assert sent.take(Publish).packet_id == messages[0].packet_id
    assert sent.take(Pubrel).packet_id == messages[1].packet_id
    assert [(m.payload, m.packet_id) for m in sent.take_messages(acknowledge=False)][:3] == resumed[2:]
    writer = reconnect(broker, "writer")
    writer.send(Publish(topic="a/c", payload=b"taken", qos=2, packet_id=77, dup=True))
    writer.take(Pubrec)
    assert broker.count("retained_messages") == 300
    reader = broker.connect("reader")
    reader.subscribe("retained/#", "will")
    assert len(reader.take_messages()) == 300
    broker.advance(5001)
    assert reader.take_message().payload == b"gone"
    session = broker.session("waiting")
    assert session is not None
    assert session.subscription_count == 2


def test_message_that_many_wait_for_is_written_once(restarts: Restarts) -> None:
    broker = restarts.broker
    for number in range(50):
        client = broker.connect(f"reader{number}", **KEPT)
        client.subscribe("a", qos=1)
        client.drop()
    broker.connect("writer").publish("a", bytes(3000), qos=1)
    first = min(restarts.folder.glob("*.log"))
    while first.exists():
        churn(broker, 50)
    # One copy per shard in a checkpoint, and one per shard of the publication.
    assert restarts.log_bytes < 2 * 3 * 3500 + LEAST + 50 * 300 + 4 * SEGMENT_SIZE
    broker = restarts.kill()
    for number in range(50):
        assert [len(message.payload) for message in reconnect(broker, f"reader{number}").take_messages()] == [3000]


@pytest.mark.parametrize("seed", range(3))
def test_random_life_with_kills_in_between_keeps_everything(restarts: Restarts, seed: int) -> None:
    """Sessions come, go, subscribe and get messages, while checkpoints run and the process is killed."""
    chance = random.Random(seed)
    expected: dict[str, list[bytes]] = {}  # what waits, by session that subscribes to its own name
    number = 0
    for _ in range(40):
        broker = restarts.broker
        for _ in range(30):
            name = f"c{chance.randrange(12)}"
            act = chance.random()
            if act < 0.15:
                if name not in expected:
                    client = broker.connect(name, **KEPT)
                    client.subscribe(f"to/{name}", "to/all", qos=1)
                    client.drop()
                    expected[name] = []
            elif act < 0.25:
                if name in expected:
                    client = reconnect(broker, name)
                    assert [m.payload for m in client.take_messages()] == expected.pop(name)
                    client.disconnect(session_expiry_interval=0)
            elif act < 0.4:
                if name in expected:
                    client = reconnect(broker, name)
                    assert [m.payload for m in client.take_messages()] == expected[name]
                    expected[name] = []
                    client.drop()
            else:
                number += 1
                payload = b"%d" % number + bytes(chance.randrange(400))
                topic = "to/all" if act > 0.9 else f"to/{name}"
                broker.connect("writer").publish(topic, payload, qos=1)
                for receiver, messages in expected.items():
                    if topic in ("to/all", f"to/{receiver}"):
                        messages.append(payload)
        if chance.random() < 0.3:
            restarts.kill()
    broker = restarts.kill()
    assert broker.count("sessions") == len(expected)
    for name, messages in expected.items():
        assert [m.payload for m in reconnect(broker, name).take_messages()] == messages
