"""Delivery at QoS 0, 1 and 2, retry and order [MQTT5 4.3 to 4.6]."""

from collections.abc import Callable
from typing import Any

import pytest

from support import raw
from support.memory_broker import Broker, Client
from support.packets import (
    MQTT_5_0,
    Acknowledgement,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscription,
)
from support.raw import STANDARDS


def _keep(broker: Broker, version: int, client_id: str = "client", **fields: Any) -> Client:
    """A client whose session outlives its connection."""
    if version == MQTT_5_0:
        fields.setdefault("session_expiry_interval", 1000)
    return broker.connect(client_id, version=version, clean_start=False, **fields)


def _if_known(version: int, value: int) -> int | None:
    """The value of a property, where there are properties."""
    return value if version == MQTT_5_0 else None


def _inflight(broker: Broker, client_id: str = "client") -> int:
    session = broker.session(client_id)
    assert session is not None
    return session.inflight_count


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_3_1_1_mqtt311_4_3_1_1_qos_0_is_sent_plainly(broker: Broker, version: int) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=0)
    broker.connect("writer").publish("a", b"x", qos=2)
    message = client.take(Publish)
    assert (message.qos, message.dup, message.packet_id) == (0, False, 0)
    client.expect_nothing()
    client.drop()
    client = _keep(broker, version)
    client.expect_nothing()


# The broker sends.


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_4_3_2_1_mqtt5_4_3_2_2_mqtt5_4_3_3_1_mqtt5_4_3_3_2_new_messages_have_free_identifiers_and_dup_0(
    broker: Broker, version: int, qos: int
) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=qos)
    writer = broker.connect("writer")
    for number in range(100):
        writer.publish("a", b"%d" % number, qos=qos)
    messages = client.take_messages(acknowledge=False)
    assert len({message.packet_id for message in messages}) == 100
    assert {(message.qos, message.dup) for message in messages} == {(qos, False)}


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_3_2_3_mqtt311_4_3_2_1_a_qos_1_message_is_unacknowledged_until_puback(
    broker: Broker, version: int
) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=1)
    broker.connect("writer").publish("a", b"x", qos=1)
    first = client.take_message(acknowledge=False)
    assert (first.qos, first.dup) == (1, False)
    for _ in range(3):
        client.drop()
        client = _keep(broker, version)
        again = client.take_message(acknowledge=False)
        assert (again.packet_id, again.payload, again.dup) == (first.packet_id, b"x", True)
    client.send(Puback(packet_id=first.packet_id))
    client.drop()
    client = _keep(broker, version)
    client.expect_nothing()
    assert _inflight(broker) == 0


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_3_3_3_a_qos_2_message_is_unacknowledged_until_pubrec(broker: Broker, version: int) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=2)
    broker.connect("writer").publish("a", b"x", qos=2)
    first = client.take_message(acknowledge=False)
    client.send(Puback(packet_id=first.packet_id))  # of the wrong kind
    for _ in range(3):
        client.drop()
        client = _keep(broker, version)
        again = client.take_message(acknowledge=False)
        assert (again.packet_id, again.payload, again.dup, again.qos) == (first.packet_id, b"x", True, 2)
    client.acknowledge(again)
    assert _inflight(broker) == 0


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_3_3_4_pubrec_is_answered_by_pubrel(broker: Broker, version: int) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=2)
    broker.connect("writer").publish("a", b"x", qos=2)
    message = client.take_message(acknowledge=False)
    for _ in range(2):  # A client that has lost the answer asks again.
        client.send(Pubrec(packet_id=message.packet_id))
        assert client.take(Pubrel) == Pubrel(packet_id=message.packet_id)
    client.send(Pubcomp(packet_id=message.packet_id))
    assert _inflight(broker) == 0


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_3_3_5_mqtt5_4_3_3_6_mqtt311_4_3_3_1_pubrel_is_sent_again_until_pubcomp_and_publish_never_more(
    broker: Broker, version: int
) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=2)
    broker.connect("writer").publish("a", b"x", qos=2)
    message = client.take_message(acknowledge=False)
    assert (message.qos, message.dup) == (2, False)
    client.send(Pubrec(packet_id=message.packet_id))
    client.take(Pubrel)
    for _ in range(3):
        client.drop()
        client = _keep(broker, version)
        assert client.take_all() == [Pubrel(packet_id=message.packet_id)]
    client.send(Pubcomp(packet_id=message.packet_id))
    client.drop()
    client = _keep(broker, version)
    client.expect_nothing()
    assert _inflight(broker) == 0


def test_mqtt5_4_3_3_7_expiry_does_not_stop_a_delivery_that_has_begun(broker: Broker) -> None:
    client = _keep(broker, MQTT_5_0)
    client.subscribe("a", qos=2)
    writer = broker.connect("writer")
    writer.publish("a", b"sent", qos=2, message_expiry_interval=10)
    writer.publish("a", b"received", qos=2, message_expiry_interval=10)
    sent, received = client.take_messages(acknowledge=False)
    client.send(Pubrec(packet_id=received.packet_id))
    client.take(Pubrel)
    client.drop()
    broker.advance(100)
    client = _keep(broker, MQTT_5_0)
    again = client.take(Publish)
    assert (again.payload, again.packet_id, again.dup) == (b"sent", sent.packet_id, True)
    assert client.take(Pubrel) == Pubrel(packet_id=received.packet_id)
    client.acknowledge(again)
    client.send(Pubcomp(packet_id=received.packet_id))
    assert _inflight(broker) == 0


# The broker receives.


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_3_2_4_mqtt5_4_3_2_5_mqtt311_4_3_2_2_after_puback_an_identifier_means_a_new_message(
    broker: Broker, version: int
) -> None:
    witness = broker.connect("witness")
    witness.subscribe("a", qos=1)
    client = broker.connect("client", version=version)
    for number, dup in enumerate((False, True, False, True)):
        client.send(Publish(topic="a", payload=b"%d" % number, qos=1, packet_id=7, dup=dup))
        assert client.take(Puback) == Puback(packet_id=7)
    assert [message.payload for message in witness.take_messages()] == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_3_3_8_mqtt5_4_3_3_10_mqtt5_4_3_3_11_mqtt5_4_3_3_12_mqtt311_4_3_3_2_qos_2_is_received_exactly_once(
    broker: Broker, version: int
) -> None:
    witness = broker.connect("witness")
    witness.subscribe("a", qos=2)
    client = broker.connect("client", version=version)
    for round_number in range(2):
        for dup in (False, True, True, False):
            client.send(Publish(topic="a", payload=b"%d" % round_number, qos=2, packet_id=7, dup=dup))
            assert client.take(Pubrec) == Pubrec(packet_id=7)
        for _ in range(2):
            client.send(Pubrel(packet_id=7))
            assert client.take(Pubcomp).packet_id == 7
        # After PUBCOMP the identifier is free for another message.
    assert [message.payload for message in witness.take_messages()] == [b"0", b"1"]


def test_mqtt5_4_3_3_9_after_a_refusing_pubrec_an_identifier_means_a_new_message(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker(max_topic_levels=2)
    client = broker.connect("client")
    client.subscribe("#", qos=2)
    client.send(Publish(topic="a/b/c", payload=b"refused", qos=2, packet_id=7))
    assert client.take(Pubrec).reason_code == 0x90
    client.send(Publish(topic="a", payload=b"accepted", qos=2, packet_id=7))
    assert client.take_first(Pubrec) == Pubrec(packet_id=7)
    client.send(Pubrel(packet_id=7))
    assert client.take_first(Pubcomp) == Pubcomp(packet_id=7)
    assert client.take_message().payload == b"accepted"


def test_mqtt5_4_3_3_13_the_exchange_goes_on_when_the_message_has_expired(broker: Broker) -> None:
    client = broker.connect("client")
    client.send(Publish(topic="a", payload=b"x", qos=2, packet_id=7, message_expiry_interval=1))
    client.take(Pubrec)
    broker.advance(100)
    client.send(Publish(topic="a", payload=b"x", qos=2, packet_id=7, message_expiry_interval=1, dup=True))
    assert client.take(Pubrec) == Pubrec(packet_id=7)
    client.send(Pubrel(packet_id=7))
    assert client.take(Pubcomp) == Pubcomp(packet_id=7)


# Cut the connection at every step.


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("cut", range(8))
@pytest.mark.parametrize("is_answer_lost", [False, True])
def test_a_subscriber_that_is_cut_off_at_any_step_gets_a_message_as_its_qos_promises(
    broker: Broker, version: int, qos: int, cut: int, is_answer_lost: bool
) -> None:
    """cut counts packets of the subscriber; it loses its connection before that packet, or before the answer to it."""
    client = _keep(broker, version)
    client.subscribe("a", qos=qos)
    writer = broker.connect("writer")
    accepted: list[bytes] = []
    released: set[int] = set()
    steps = 0

    def step(packet: Packet) -> None:
        nonlocal client, steps
        steps += 1
        if steps != cut or is_answer_lost:
            client.send(packet)
        if steps == cut:
            client.drop()
            client = _keep(broker, version)

    for payload in (b"0", b"1"):
        writer.publish("a", payload, qos=qos)
    while True:
        received = client.take_all()
        if not received:
            break
        packet = received[0]
        if isinstance(packet, Publish):
            assert packet.qos == qos
            # A client that has it already, by its identifier, does not take it again (QoS 2).
            if qos == 1 or packet.packet_id not in released:
                accepted.append(packet.payload)
                released.add(packet.packet_id)
            step(Puback(packet_id=packet.packet_id) if qos == 1 else Pubrec(packet_id=packet.packet_id))
        else:
            assert isinstance(packet, Pubrel)
            released.discard(packet.packet_id)
            step(Pubcomp(packet_id=packet.packet_id))
        # What came in the same turn behind the packet that was just handled is handled next.
        client._received.extendleft(reversed(received[1:]) if steps != cut else ())
    assert _inflight(broker) == 0
    assert list(dict.fromkeys(accepted)) == [b"0", b"1"]
    assert qos == 1 or len(accepted) == 2


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("cut", range(8))
@pytest.mark.parametrize("is_answer_lost", [False, True])
def test_a_publisher_that_is_cut_off_at_any_step_delivers_exactly_once(
    broker: Broker, version: int, cut: int, is_answer_lost: bool
) -> None:
    """cut counts packets of the publisher; it loses its connection before that packet, or before the answer to it."""
    witness = broker.connect("witness")
    witness.subscribe("a", qos=2)
    client = _keep(broker, version)
    steps = 0

    def exchange(packet: Packet, again: Packet, answer: type[Acknowledgement]) -> None:
        """Send the packet until its answer has come."""
        nonlocal client, steps
        is_first = True
        while True:
            steps += 1
            if steps != cut or is_answer_lost:
                client.send(packet if is_first else again)
                is_first = False
            if steps == cut:
                client.drop()
                client = _keep(broker, version)
                continue
            assert client.take(answer).packet_id == 1
            return

    for payload in (b"0", b"1"):
        exchange(
            Publish(topic="a", payload=payload, qos=2, packet_id=1),
            Publish(topic="a", payload=payload, qos=2, packet_id=1, dup=True),
            Pubrec,
        )
        exchange(Pubrel(packet_id=1), Pubrel(packet_id=1), Pubcomp)
    assert [message.payload for message in witness.take_messages()] == [b"0", b"1"]


# Retry and order.


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_4_0_1_mqtt311_4_4_0_1_what_is_unacknowledged_is_sent_again_on_reconnect_and_only_then(
    broker: Broker, version: int
) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=2)
    writer = broker.connect("writer")
    for number in range(6):
        writer.publish("a", b"%d" % number, qos=1 + number % 2)
    messages = client.take_messages(acknowledge=False)
    client.send(Puback(packet_id=messages[2].packet_id), Pubrec(packet_id=messages[3].packet_id))
    client.take(Pubrel)
    for _ in range(20):
        broker.advance(30)
        client.send(Pingreq())
    assert client.take_all() == [Pingresp()] * 20
    client.drop()
    writer.publish("a", b"new", qos=1)
    client = _keep(broker, version)
    expected = [(messages[number].packet_id, b"%d" % number, True) for number in (0, 1, 4, 5)]
    received = client.take_all()
    again = [packet for packet in received if isinstance(packet, Publish)]
    assert [(packet.packet_id, packet.payload, packet.dup) for packet in again[:4]] == expected
    assert (again[4].payload, again[4].dup) == (b"new", False)
    assert [packet for packet in received if isinstance(packet, Pubrel)] == [Pubrel(packet_id=messages[3].packet_id)]


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_4_4_0_2_what_the_client_refused_is_not_sent_again(broker: Broker, qos: int) -> None:
    client = _keep(broker, MQTT_5_0)
    client.subscribe("a", qos=qos)
    broker.connect("writer").publish("a", b"x", qos=qos)
    message = client.take_message(acknowledge=False)
    answer = Puback if qos == 1 else Pubrec
    client.send(answer(packet_id=message.packet_id, reason_code=0x80))
    client.expect_nothing()
    client.drop()
    client = _keep(broker, MQTT_5_0)
    client.expect_nothing()
    assert _inflight(broker) == 0


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_a_clean_start_is_sent_nothing_again(broker: Broker, version: int) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=2)
    broker.connect("writer").publish("a", b"x", qos=2)
    client.take_message(acknowledge=False)
    client.drop()
    broker.connect("client", version=version, clean_start=True).expect_nothing()


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_4_5_0_1_mqtt311_4_5_0_1_a_message_joins_every_session_that_subscribes(
    broker: Broker, version: int
) -> None:
    sessions = []
    for number, topic_filter in enumerate(("a/b", "a/+", "#", "+/b", "a/b/#", "a/c", "b")):
        client = _keep(broker, version, f"client {number}")
        client.subscribe(topic_filter, qos=1)
        sessions.append(client)
        if number % 2:
            client.drop()
    broker.connect("writer", version=version).publish("a/b", b"x", qos=1)
    received = []
    for number, client in enumerate(sessions):
        if number % 2:
            client = _keep(broker, version, f"client {number}")
        received.append(len(client.take_messages()))
    assert received == [1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt5_4_6_0_5_mqtt5_4_6_0_6_mqtt311_4_6_0_5_mqtt311_4_6_0_6_messages_keep_their_order(
    broker: Broker, version: int, qos: int
) -> None:
    """Also with overlapping subscriptions, over full windows and from one connection to the next."""
    client = _keep(broker, version, receive_maximum=_if_known(version, 3))
    client.subscribe(Subscription("a/#", 0), Subscription("a/b", qos), Subscription("+/b", qos))
    writer = broker.connect("writer")
    received: list[bytes] = []

    def publish(first: int) -> None:
        for number in range(first, first + 20):
            writer.publish("a/b", b"%d" % number, qos=qos)

    publish(0)
    received += [message.payload for message in client.take_messages()]
    publish(20)
    unacknowledged = client.take_messages(acknowledge=False)
    client.drop()
    publish(40)
    client = _keep(broker, version, receive_maximum=_if_known(version, 5))
    if qos == 0:
        received += [message.payload for message in unacknowledged]
    received += [message.payload for message in client.take_messages()]
    publish(60)
    received += [message.payload for message in client.take_messages()]
    assert received == [b"%d" % number for number in range(80)]


def test_acknowledgements_of_the_broker_keep_the_order_of_the_messages(broker: Broker) -> None:
    for qos, answer in ((1, Puback), (2, Pubrec)):
        client = broker.connect("client")
        order = [5, 3, 9, 1, 7]
        client.send(*(Publish(topic="a", qos=qos, packet_id=number) for number in order))
        assert [packet.packet_id for packet in client.take_all() if isinstance(packet, answer)] == order


def test_pubrel_packets_keep_the_order_of_the_pubrec_packets(broker: Broker) -> None:
    client = broker.connect("client")
    client.subscribe("a", qos=2)
    for number in range(5):
        broker.connect("writer").publish("a", b"%d" % number, qos=2)
    messages = client.take_messages(acknowledge=False)
    order = [messages[index].packet_id for index in (3, 0, 4, 1, 2)]
    client.send(*(Pubrec(packet_id=packet_id) for packet_id in order))
    assert client.take_all() == [Pubrel(packet_id=packet_id) for packet_id in order]


def test_all_packet_identifiers_may_be_in_flight_and_no_more(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(session_inbox_size=65535)
    client = _keep(broker, MQTT_5_0)
    client.subscribe("a", qos=1)
    writer = broker.connect("writer")
    for first in range(0, 65_600, 1600):
        writer.send(
            *(Publish(topic="a", payload=b"%d" % number, qos=1, packet_id=1) for number in range(first, first + 1600))
        )
    messages = [packet for packet in client.take_all() if isinstance(packet, Publish)]
    assert len({message.packet_id for message in messages}) == len(messages) == 65_535
    client.send(*(Puback(packet_id=message.packet_id) for message in messages[:100]))
    assert [message.payload for message in client.take_messages()] == [
        b"%d" % number for number in range(65_535, 65_600)
    ]
