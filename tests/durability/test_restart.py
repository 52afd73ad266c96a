"""What a broker knows after its process was killed: sessions, subscriptions, messages, handshakes, wills, expiry."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.memory_broker import Broker, Client
from support.packets import (
    MQTT_3_1_1,
    MQTT_5_0,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscription,
    Will,
)

KEPT = {"clean_start": False, "session_expiry_interval": 1000}


class Restarts:
    """A broker that can be killed and started again on the same data, with a number of shards of its own each time."""

    def __init__(self, folder: Path, shards: list[int]) -> None:
        self._folder = folder
        self._shards = shards
        self._starts = 0
        self.broker = self._start(1_000_000)

    def _start(self, now_ms: int, **settings: Any) -> Broker:
        shard_count = self._shards[self._starts % len(self._shards)]
        self._starts += 1
        return Broker(
            shard_count=shard_count, data=self._folder, now_ms=now_ms, min_session_expiry_seconds=1, **settings
        )

    def kill(self, away_s: float = 0) -> Broker:
        """Kill it, and start it again so much later."""
        self.broker.crash()
        self.broker = self._start(self.broker.now_ms + round(away_s * 1000))
        return self.broker


@pytest.fixture(params=[[1], [3], [2, 3, 1]], ids=["one shard", "three shards", "a changing number"])
def restarts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restarts]:
    restarts = Restarts(tmp_path, request.param)
    yield restarts
    restarts.broker.close()


def connect(broker: Broker, name: str, *, version: int = MQTT_5_0, **fields: Any) -> Client:
    """A client with a persistent session."""
    kept = {"clean_start": False} if version == MQTT_3_1_1 else KEPT
    return broker.connect(name, version=version, **{**kept, **fields})


def reconnect(broker: Broker, name: str, *, version: int = MQTT_5_0, **fields: Any) -> Client:
    """The same, whose session must be there."""
    client = broker.open(version)
    kept = {"clean_start": False} if version == MQTT_3_1_1 else KEPT
    connack = client.connect(client_id=name, **{**kept, **fields})
    assert connack.reason_code == 0
    assert connack.session_present, "the session is lost"
    return client


def payloads(messages: list[Publish]) -> list[bytes]:
    return [message.payload for message in messages]


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
def test_session_and_subscriptions_survive(restarts: Restarts, version: int) -> None:
    reader = connect(restarts.broker, "reader", version=version)
    reader.subscribe("a/+", "b/#", qos=1)
    reader.subscribe("gone")
    reader.unsubscribe("gone")
    broker = restarts.kill()
    reader = reconnect(broker, "reader", version=version)
    writer = broker.connect("writer")
    for topic in ("a/1", "b", "gone", "c"):
        writer.publish(topic, topic.encode(), qos=2)
    assert payloads(reader.take_messages()) == [b"a/1", b"b"]
    session = broker.session("reader")
    assert session is not None
    assert session.subscription_count == 2


def test_subscription_options_survive(restarts: Restarts) -> None:
    reader = connect(restarts.broker, "reader")
    reader.subscribe(Subscription("own", 1, no_local=True), Subscription("flag", 1, retain_as_published=True))
    reader.subscribe("number", qos=1, subscription_id=77)
    broker = restarts.kill()
    reader = reconnect(broker, "reader")
    reader.publish("own", b"own")
    broker.connect("writer").publish("flag", b"flag", retain=True)
    broker.connect("writer").publish("number", b"number")
    messages = {message.topic: message for message in reader.take_messages()}
    assert set(messages) == {"flag", "number"}
    assert messages["flag"].retain
    assert messages["number"].subscription_ids == (77,)


def test_replaced_subscription_survives_as_it_was_last(restarts: Restarts) -> None:
    reader = connect(restarts.broker, "reader")
    reader.subscribe("a", qos=0, subscription_id=1)
    reader.subscribe("a", qos=2, subscription_id=2)
    broker = restarts.kill()
    broker.connect("writer").publish("a", b"x", qos=2)
    (message,) = reconnect(broker, "reader").take_messages()
    assert (message.qos, message.subscription_ids) == (2, (2,))


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_for_an_offline_client_survive_in_order(restarts: Restarts, qos: int) -> None:
    connect(restarts.broker, "reader").subscribe("a", qos=qos, subscription_id=5)
    restarts.broker.session("reader")
    reader = restarts.broker._clients[0]
    reader.drop()
    writer = restarts.broker.connect("writer")
    for number in range(30):
        assert writer.publish("a", b"%d" % number, qos=qos, user_properties=(("k", str(number)),)) == 0
    broker = restarts.kill()
    messages = reconnect(broker, "reader").take_messages()
    assert payloads(messages) == [b"%d" % number for number in range(30)]
    assert {message.qos for message in messages} == {qos}
    assert [message.user_properties for message in messages] == [(("k", str(n)),) for n in range(30)]
    assert {message.subscription_ids for message in messages} == {(5,)}
    broker = restarts.kill()
    assert reconnect(broker, "reader").take_messages() == []


def test_qos_0_messages_do_not_survive(restarts: Restarts) -> None:
    connect(restarts.broker, "reader").subscribe("a", qos=0)
    restarts.broker._clients[0].drop()
    restarts.broker.connect("writer").publish("a", b"x", qos=2)
    assert reconnect(restarts.kill(), "reader").take_messages() == []


def test_what_was_sent_and_not_acknowledged_is_sent_again_with_its_identifier(restarts: Restarts) -> None:
    reader = connect(restarts.broker, "reader")
    reader.subscribe("a", qos=2)
    writer = restarts.broker.connect("writer")
    for number in range(6):
        writer.publish("a", b"%d" % number, qos=1 + number % 2)
    sent = reader.take_messages(acknowledge=False)
    reader.send(Puback(packet_id=sent[0].packet_id))
    assert len(sent) == 6
    broker = restarts.kill()
    again = reconnect(broker, "reader").take_messages()
    assert [(m.payload, m.packet_id, m.qos) for m in again] == [(m.payload, m.packet_id, m.qos) for m in sent[1:]]
    assert all(message.dup for message in again)


def test_exchange_of_qos_2_goes_on_with_pubrel(restarts: Restarts) -> None:
    reader = connect(restarts.broker, "reader")
    reader.subscribe("a", qos=2)
    restarts.broker.connect("writer").publish("a", b"once", qos=2)
    message = reader.take_message(acknowledge=False)
    reader.send(Pubrec(packet_id=message.packet_id))
    assert reader.take(Pubrel).packet_id == message.packet_id
    broker = restarts.kill()
    reader = reconnect(broker, "reader")
    assert reader.take(Pubrel).packet_id == message.packet_id
    reader.send(Pubcomp(packet_id=message.packet_id))
    reader.expect_nothing()
    broker = restarts.kill()
    reconnect(broker, "reader").expect_nothing()


def test_qos_2_message_that_came_before_is_not_taken_twice(restarts: Restarts) -> None:
    reader = connect(restarts.broker, "reader")
    reader.subscribe("a", qos=2)
    writer = connect(restarts.broker, "writer")
    writer.send(Publish(topic="a", payload=b"once", qos=2, packet_id=9))
    assert writer.take(Pubrec).reason_code == 0
    broker = restarts.kill()
    writer = reconnect(broker, "writer")
    writer.send(Publish(topic="a", payload=b"once", qos=2, packet_id=9, dup=True))
    assert writer.take(Pubrec).reason_code == 0
    writer.send(Pubrel(packet_id=9))
    assert writer.take(Pubcomp).reason_code == 0
    broker = restarts.kill()
    # Released, the identifier is free for another message.
    writer = reconnect(broker, "writer")
    writer.publish("a", b"another", qos=2, packet_id=9)
    assert payloads(reconnect(broker, "reader").take_messages()) == [b"once", b"another"]


def test_retained_messages_survive(restarts: Restarts) -> None:
    writer = restarts.broker.connect("writer")
    for number in range(20):
        writer.publish(f"a/{number}", b"first", qos=1, retain=True)
        writer.publish(f"a/{number}", b"%d" % number, qos=1, retain=True, content_type="text")
    writer.publish("a/3", b"", qos=1, retain=True)
    broker = restarts.kill()
    reader = broker.connect("reader")
    reader.subscribe("a/+", qos=1)
    messages = reader.take_messages()
    assert sorted(payloads(messages)) == sorted(b"%d" % n for n in range(20) if n != 3)
    assert all(message.retain and message.content_type == "text" for message in messages)


def test_expiry_of_messages_goes_on_while_the_process_is_away(restarts: Restarts) -> None:
    connect(restarts.broker, "reader").subscribe("#", qos=1)
    restarts.broker._clients[0].drop()
    writer = restarts.broker.connect("writer")
    for seconds in (5, 50, 500):
        writer.publish(f"a/{seconds}", b"x", qos=1, retain=True, message_expiry_interval=seconds)
    broker = restarts.kill(away_s=20)
    messages = reconnect(broker, "reader").take_messages()
    assert [(message.topic, message.message_expiry_interval) for message in messages] == [("a/50", 30), ("a/500", 480)]
    broker.advance(60)
    other = broker.connect("other")
    other.subscribe("a/+", qos=1)
    assert [message.topic for message in other.take_messages()] == ["a/500"]


def test_session_expires_while_the_process_is_away(restarts: Restarts) -> None:
    for name in ("short", "long"):
        connect(restarts.broker, name, session_expiry_interval=10 if name == "short" else 1000).drop()
    connect(restarts.broker, "online", session_expiry_interval=10)
    broker = restarts.kill(away_s=20)
    broker.advance(1)
    assert broker.session("short") is None
    assert broker.session("long") is not None
    assert broker.session("online") is not None  # its absence has only begun
    broker.advance(11)
    assert broker.session("online") is None
    broker = restarts.kill()
    assert broker.count("sessions") == 1


def test_sessions_that_ended_do_not_come_back(restarts: Restarts) -> None:
    broker = restarts.broker
    for name in ("left", "cleared", "transient"):
        client = connect(broker, name) if name != "transient" else broker.connect(name)
        client.subscribe("a", qos=1)
    broker.connect("writer").publish("a", b"x", qos=1)
    broker._clients[0].take_messages()
    broker._clients[0].disconnect(session_expiry_interval=0)
    broker.connect("cleared")  # a clean start, and no expiry
    broker = restarts.kill()
    assert broker.count("sessions") == 0
    assert broker.count("subscriptions") == 0


def test_session_that_becomes_transient_does_not_come_back(restarts: Restarts) -> None:
    connect(restarts.broker, "client").subscribe("a", qos=1)
    restarts.broker.connect("client", clean_start=False, session_expiry_interval=0)
    assert restarts.kill().session("client") is None


def test_delayed_will_of_an_offline_client_is_published_in_time(restarts: Restarts) -> None:
    broker = restarts.broker
    will = Will(topic="will", payload=b"gone", qos=1, will_delay_interval=60)
    connect(broker, "client", will=will).drop()
    broker = restarts.kill(away_s=50)
    reader = broker.connect("reader")
    reader.subscribe("will", qos=1)
    broker.advance(8)
    reader.expect_nothing()
    broker.advance(3)
    assert reader.take_message().payload == b"gone"
    restarts.kill(away_s=100).advance(100)


def test_will_of_a_client_that_was_connected_waits_for_its_delay_and_is_cancelled(restarts: Restarts) -> None:
    for name in ("comes", "stays away"):
        will = Will(topic="will", payload=name.encode(), qos=1, will_delay_interval=60)
        connect(restarts.broker, name, will=will)
    broker = restarts.kill()
    reader = broker.connect("reader")
    reader.subscribe("will", qos=1)
    reconnect(broker, "comes")
    broker.advance(61)
    assert payloads(reader.take_messages()) == [b"stays away"]


def test_shared_subscription_survives(restarts: Restarts) -> None:
    for name in ("one", "two"):
        connect(restarts.broker, name).subscribe("$share/group/a", "$oshare/group/a", qos=1)
    broker = restarts.kill()
    members = [reconnect(broker, name) for name in ("one", "two")]
    writer = broker.connect("writer")
    for number in range(10):
        writer.publish("a", b"%d" % number, qos=1)
    received = [payloads(member.take_messages()) for member in members]
    assert sorted(received[0] + received[1]) == sorted(2 * [b"%d" % number for number in range(10)])


def test_tenants_stay_apart(tmp_path: Path) -> None:
    from support.memory_broker import Admitted

    def decide(request: Any) -> Admitted:
        return Admitted(request.username)

    broker = Broker(data=tmp_path, decide=decide, min_session_expiry_seconds=1)
    for tenant in ("one", "two"):
        broker.connect("same", username=tenant, **KEPT).subscribe("a", qos=1)
        broker.connect("writer", username=tenant).publish("a", tenant.encode(), qos=1, retain=True)
    broker.crash()
    broker = Broker(data=tmp_path, decide=decide, min_session_expiry_seconds=1)
    for tenant in ("one", "two"):
        same = broker.open()
        assert same.connect(client_id="same", username=tenant, **KEPT).session_present
        assert payloads(same.take_messages()) == [tenant.encode()]
    broker.close()


def test_many_restarts_in_a_row_change_nothing(restarts: Restarts) -> None:
    connect(restarts.broker, "reader").subscribe("a", qos=2)
    restarts.broker._clients[0].drop()
    for number in range(6):
        restarts.broker.connect("writer").publish("a", b"%d" % number, qos=2)
        restarts.kill()
    assert payloads(reconnect(restarts.broker, "reader").take_messages()) == [b"%d" % n for n in range(6)]


Make = Callable[..., Broker]


def test_nothing_is_acknowledged_before_it_is_durable(tmp_path: Path) -> None:
    broker = Broker(data=tmp_path, min_session_expiry_seconds=1)
    connect(broker, "reader").subscribe("durable", qos=1)
    writer = broker.connect("writer")
    bystander = broker.connect("bystander")
    bystander.subscribe("transient", qos=1)
    assert broker.log is not None
    broker.log.fail(28, writable_bytes=0)
    log, broker.log = broker.log, None  # settle() does not wait for it now
    writer.send(Publish(topic="durable", payload=b"x", qos=1, packet_id=1))
    writer.expect_nothing()
    # Who was promised nothing durable goes on.
    bystander.publish("transient", b"y", qos=1)
    assert bystander.take_message().payload == b"y"
    bystander.publish("transient", b"z", qos=0)
    assert bystander.take_message().payload == b"z"
    log.fail(0)
    broker.log = log
    broker.settle()
    assert writer.take(Puback).packet_id == 1
    broker.close()
