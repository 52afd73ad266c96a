"""Rates of a connection: MsgPubPerSec, InBoundBandWidth and OutBoundBandWidth delay, and lose nothing."""

from rookery.core.notices import NoticeKind
from rookery.core.settings import TenantSettings
from support.memory_broker import TENANT, Broker, Client
from support.packets import MQTT_3_1_1, MQTT_5_0, Disconnect, Pingreq, Puback, Publish

from .conftest import MakeBroker

TURN_S = 0.05


def let_pass(broker: Broker, seconds: float) -> None:
    """Time in small steps, as a shard's turns see it."""
    for _ in range(round(seconds / TURN_S)):
        broker.advance(TURN_S)


def flood(client: Client, count: int, *, qos: int = 0, size: int = 1) -> None:
    client.send(
        *(
            Publish(topic="t", payload=number.to_bytes(size, "big"), qos=qos, packet_id=number if qos else 0)
            for number in range(1, count + 1)
        )
    )


def payload_numbers(client: Client) -> list[int]:
    return [int.from_bytes(message.payload, "big") for message in client.take_messages()]


# MsgPubPerSec


def test_a_silent_client_may_publish_a_seconds_worth_at_once(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=20)
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    flood(writer, 20)
    assert payload_numbers(reader) == list(range(1, 21))
    assert broker.count("connections_held") == 0


def test_what_is_above_the_rate_comes_later_and_in_order(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=20)
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    flood(writer, 100)
    first = payload_numbers(reader)
    assert 20 <= len(first) <= 21
    let_pass(broker, 1)
    second = payload_numbers(reader)
    assert 18 <= len(second) <= 22
    let_pass(broker, 4)
    assert first + second + payload_numbers(reader) == list(range(1, 101))
    assert broker.count("connections_held") > 0


def test_every_held_message_is_acknowledged_at_last(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=10)
    writer = broker.connect("writer")
    flood(writer, 50, qos=1)
    assert len(writer.take_all()) <= 11
    let_pass(broker, 5)
    assert [packet.packet_id for packet in writer.take_all() if isinstance(packet, Puback)][-1] == 50


def test_a_client_that_is_held_does_not_miss_its_keep_alive(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=1)
    writer = broker.connect("writer", keep_alive=2)
    flood(writer, 20)
    let_pass(broker, 15)
    assert writer.is_open
    # Nothing holds it any more, and it is silent.
    let_pass(broker, 15)
    assert not writer.is_open


def test_a_held_client_holds_nobody_else(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=5)
    reader, writer, other = broker.connect("reader"), broker.connect("writer"), broker.connect("other")
    reader.subscribe("t")
    flood(writer, 50)
    payload_numbers(reader)
    flood(other, 5)
    assert payload_numbers(reader) == [1, 2, 3, 4, 5]
    let_pass(broker, 10)


def test_a_rate_that_is_lifted_lets_an_open_connection_go(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=1)
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    flood(writer, 50)
    broker.engine.configure_tenant(TENANT, TenantSettings())
    let_pass(broker, 2)
    assert payload_numbers(reader) == list(range(1, 51))


def test_a_rate_that_is_set_holds_an_open_connection(make_broker: MakeBroker) -> None:
    broker = make_broker()
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    broker.engine.configure_tenant(TENANT, TenantSettings(msg_pub_per_sec=5))
    broker.settle()
    flood(writer, 50)
    assert len(payload_numbers(reader)) <= 6
    let_pass(broker, 10)


def test_a_rate_exceeded_is_told_of_once_a_second(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=10)
    notices = broker.observe(NoticeKind.PUBLISH_RATE_EXCEEDED)
    writer = broker.connect("writer")
    flood(writer, 40)
    let_pass(broker, 3)
    assert 1 <= len(notices) <= 4
    assert {(notice.client_id, notice.numbers[0]) for notice in notices} == {("writer", 10)}


def test_a_connection_that_goes_while_it_is_held_leaves_nothing(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=1)
    writer = broker.connect("writer")
    flood(writer, 5)
    replacement = broker.connect("writer")
    assert writer.take_first(Disconnect).reason_code == 0x8E
    assert replacement.is_open
    let_pass(broker, 6)


def test_bifromqs_way_disconnects_5_0_clients(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=5, disconnect_for_pub_rate=True)
    reader, writer = broker.connect("reader"), broker.connect("writer", version=MQTT_5_0)
    reader.subscribe("t")
    flood(writer, 10)
    farewell = writer.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x96
    assert payload_numbers(reader) == [1, 2, 3, 4, 5]


def test_bifromqs_way_discards_what_3_x_clients_send(make_broker: MakeBroker) -> None:
    broker = make_broker(msg_pub_per_sec=5, disconnect_for_pub_rate=True)
    reader, writer = broker.connect("reader"), broker.connect("writer", version=MQTT_3_1_1)
    reader.subscribe("t")
    flood(writer, 10, qos=1)
    assert [packet.packet_id for packet in writer.take_all() if isinstance(packet, Puback)] == [1, 2, 3, 4, 5]
    assert payload_numbers(reader) == [1, 2, 3, 4, 5]
    assert broker.count("messages_dropped") == 5


# InBoundBandWidth


def test_bytes_are_read_at_the_rate(make_broker: MakeBroker) -> None:
    broker = make_broker(in_bound_bandwidth=10_000)
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    flood(writer, 50, size=1000)
    first = len(payload_numbers(reader))
    assert 9 <= first <= 11
    let_pass(broker, 2)
    second = len(payload_numbers(reader))
    assert 17 <= second <= 23
    let_pass(broker, 4)
    assert first + second + len(payload_numbers(reader)) == 50


def test_a_packet_larger_than_the_rate_passes_and_is_paid_for(make_broker: MakeBroker) -> None:
    broker = make_broker(in_bound_bandwidth=10_000)
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    writer.send(Publish(topic="t", payload=bytes(100_000)), Publish(topic="t", payload=b"behind"))
    let_pass(broker, 6)
    early = len(reader.take_messages())
    let_pass(broker, 8)
    assert early <= 1
    assert early + len(reader.take_messages()) == 2


def test_a_client_whose_bytes_wait_does_not_miss_its_keep_alive(make_broker: MakeBroker) -> None:
    broker = make_broker(in_bound_bandwidth=1000)
    writer = broker.connect("writer", keep_alive=2)
    flood(writer, 20, size=1000)
    let_pass(broker, 18)
    assert writer.is_open
    let_pass(broker, 10)
    assert not writer.is_open


# OutBoundBandWidth


def test_bytes_are_written_at_the_rate(make_broker: MakeBroker) -> None:
    broker = make_broker(out_bound_bandwidth=20_000)
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    let_pass(broker, 1)
    flood(writer, 100, size=1000)
    first = len(payload_numbers(reader))
    assert 20 <= first <= 30
    let_pass(broker, 2)
    second = len(payload_numbers(reader))
    assert 30 <= second <= 55
    let_pass(broker, 4)
    assert first + second + len(payload_numbers(reader)) == 100


def test_what_waits_in_the_inbox_follows_at_the_rate(make_broker: MakeBroker) -> None:
    broker = make_broker(out_bound_bandwidth=100_000)
    reader, writer = broker.connect("reader", receive_maximum=1000), broker.connect("writer")
    reader.subscribe("t", qos=1)
    flood(writer, 900, qos=1, size=1000)
    numbers: list[int] = []
    for _ in range(12):
        let_pass(broker, 1)
        numbers += payload_numbers(reader)
    assert numbers == list(range(1, 901))


def test_a_paced_client_that_says_goodbye_gets_no_time(make_broker: MakeBroker) -> None:
    broker = make_broker(out_bound_bandwidth=1000)
    reader, writer = broker.connect("reader"), broker.connect("writer")
    reader.subscribe("t")
    flood(writer, 50, size=1000)
    reader.take_all()
    reader.send(Pingreq())
    reader.drop()
    let_pass(broker, 1)
    assert writer.is_open
