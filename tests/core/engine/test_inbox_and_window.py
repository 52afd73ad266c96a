"""What waits for a session: the inbox, the window, their limits and their order."""

from collections.abc import Callable

import pytest

from support.memory_broker import Broker
from support.packets import Puback, Publish

MakeBroker = Callable[..., Broker]


def payloads(messages: list[Publish]) -> list[bytes]:
    return [message.payload for message in messages]


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_absent_session_gets_everything_in_order_when_it_returns(broker: Broker, qos: int) -> None:
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    reader.subscribe("a", qos=2)
    reader.drop()
    writer = broker.connect("writer")
    for payload in numbered(50):
        writer.publish("a", payload, qos=qos)
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    assert payloads(reader.take_messages()) == numbered(50)


def test_full_inbox_drops_the_newest_of_qos_1(make_broker: MakeBroker) -> None:
    broker = make_broker(session_inbox_size=5)
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    reader.subscribe("a", qos=1)
    reader.drop()
    writer = broker.connect("writer")
    for payload in numbered(8):
        writer.publish("a", payload, qos=1)
    assert broker.count("messages_dropped") == 3
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    assert payloads(reader.take_messages()) == numbered(5)


@pytest.mark.parametrize(
    ("drops_oldest", "kept"), [(False, [b"0", b"1", b"2", b"3", b"4"]), (True, [b"3", b"4", b"5", b"6", b"7"])]
)
def test_full_inbox_drops_qos_0_by_the_setting(make_broker: MakeBroker, drops_oldest: bool, kept: list[bytes]) -> None:
    broker = make_broker(session_inbox_size=5, qos0_drop_oldest=drops_oldest)
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    reader.subscribe("a", qos=1)
    reader.drop()
    writer = broker.connect("writer")
    writer.publish("a", b"waits", qos=1)
    for payload in numbered(8):
        writer.publish("a", payload)
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    assert payloads(reader.take_messages()) == [b"waits", *kept]


def test_dropping_the_oldest_for_ever_holds_no_more_than_the_limit(make_broker: MakeBroker) -> None:
    # The one message of QoS 1 stays at the head; the places of what was dropped behind it must not add up.
    broker = make_broker(session_inbox_size=4, qos0_drop_oldest=True)
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    reader.subscribe("a", qos=1)
    reader.drop()
    writer = broker.connect("writer")
    writer.publish("a", b"head", qos=1)
    for payload in numbered(500):
        writer.publish("a", payload)
    session = broker.session("reader")
    assert session is not None
    assert session.inbox_count == 5
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100)
    assert payloads(reader.take_messages()) == [b"head", b"496", b"497", b"498", b"499"]


def test_window_is_the_receive_maximum_and_keeps_the_order(broker: Broker) -> None:
    reader = broker.connect("reader", receive_maximum=3)
    reader.subscribe("a", qos=1)
    writer = broker.connect("writer")
    for payload in numbered(10):
        writer.publish("a", payload, qos=1)
    first = reader.take_messages(acknowledge=False)
    assert payloads(first) == [b"0", b"1", b"2"]
    # Acknowledged out of order: each makes room for one.
    reader.send(Puback(packet_id=first[1].packet_id))
    [fourth] = reader.take_messages(acknowledge=False)
    assert fourth.payload == b"3"
    assert fourth.packet_id not in (first[0].packet_id, first[2].packet_id)
    for message in (first[0], first[2], fourth):
        reader.acknowledge(message)
    assert payloads(reader.take_messages()) == numbered(10)[4:]


def test_resent_messages_come_first_and_within_a_smaller_window(broker: Broker) -> None:
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100, receive_maximum=4)
    reader.subscribe("a", qos=1)
    writer = broker.connect("writer")
    for payload in numbered(6):
        writer.publish("a", payload, qos=1)
    sent = reader.take_messages(acknowledge=False)
    assert len(sent) == 4
    reader.drop()
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=100, receive_maximum=2)
    again = reader.take_messages(acknowledge=False)
    assert [(message.packet_id, message.dup) for message in again] == [
        (message.packet_id, True) for message in sent[:2]
    ]
    for message in again:
        reader.acknowledge(message)
    rest = reader.take_messages()
    assert payloads(rest) == numbered(6)[2:]
    assert [message.dup for message in rest] == [True, True, False, False]


def test_message_above_the_client_s_packet_size_is_dropped_for_it_alone(broker: Broker) -> None:
    small = broker.connect("small", maximum_packet_size=100)
    large = broker.connect("large")
    for client in (small, large):
        client.subscribe("a", qos=1)
    writer = broker.connect("writer")
    writer.publish("a", b"x" * 200, qos=1)
    writer.publish("a", b"y", qos=1)
    assert payloads(small.take_messages()) == [b"y"]
    assert payloads(large.take_messages()) == [b"x" * 200, b"y"]


@pytest.mark.parametrize("size", [2047, 2048, 100_000])
def test_payload_arrives_whole_on_both_sides_of_the_reference_size(broker: Broker, size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    readers = [broker.connect(f"reader {number}", version=version) for number, version in enumerate((4, 5, 5))]
    for number, reader in enumerate(readers):
        reader.subscribe("a", qos=number)
    broker.connect("writer").publish("a", payload, qos=2)
    for reader in readers:
        assert payloads(reader.take_messages()) == [payload]


@pytest.mark.parametrize(("floor", "sent"), [(1, 3), (3, 3), (5, 5), (20, 6)])
def test_large_messages_close_the_window_but_not_below_its_floor(
    make_broker: MakeBroker, floor: int, sent: int
) -> None:
    broker = make_broker(min_send_per_sec=floor, max_user_payload_bytes=4 * 1024 * 1024)
    reader = broker.connect("reader", session_expiry_interval=100, receive_maximum=6)
    reader.subscribe("a", qos=1)
    writer = broker.connect("writer")
    for _ in range(8):  # The third fills 4 MiB; the client takes six at once, whatever the floor.
        writer.publish("a", bytes(1_500_000), qos=1)
    messages = reader.take_messages(acknowledge=False)
    assert len(messages) == sent
    reader.acknowledge(messages[0])
    assert len(reader.take_messages(acknowledge=False)) == 1
