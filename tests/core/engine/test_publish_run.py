"""PUBLISH packets of one read that repeat their head are compared, not decoded; they mean what they say nonetheless."""

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from support.memory_broker import Broker
from support.packets import (
    MQTT_3_1_1,
    MQTT_5_0,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    encode,
)

# Few values, so that a packet often begins like the one before.
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": st.sampled_from(["text/plain", "text/plaid", "x" * 130]),
        "message_expiry_interval": st.sampled_from([0, 60]),
        "payload_format_indicator": st.just(1),
        "user_properties": st.just((("k", "v"),)),
        "topic_alias": st.sampled_from([1, 2]),
    },
)
PAYLOADS = st.sampled_from([b"", b"1", b"22", b"\xff", b"x" * 300])
TOPICS = st.sampled_from(["t/0", "t/1", "t/1/" + "y" * 70, "nobody", "$SYS/t"])
OTHERS: st.SearchStrategy[Packet] = st.sampled_from(
    [
        Pingreq(),
        Subscribe(packet_id=1, subscriptions=(Subscription("t/0", 1),)),
        Unsubscribe(packet_id=2, topic_filters=("t/0",)),
    ]
)


def runs(version: int) -> st.SearchStrategy[list[Packet]]:
    """Packets of a writer: some repeated with other payloads, others between them."""

    @st.composite
    def one(draw: st.DrawFn) -> list[Packet]:
        fields: dict[str, Any] = draw(PROPERTIES) if version == MQTT_5_0 else {}
        qos = draw(st.integers(0, 2))
        topic = draw(TOPICS)
        # The writer subscribes to t/0: when its retained message is sent among others is left to the broker.
        retain = topic != "t/0" and draw(st.booleans())
        first = Publish(topic=topic, qos=qos, retain=retain, packet_id=10 if qos else 0, **fields)
        packets: list[Packet] = []
        for payload in draw(st.lists(PAYLOADS, min_size=1, max_size=4)):
            again = {**vars(first), "payload": payload}
            if fields and draw(st.integers(0, 3)) == 0:
                again["content_type"] = draw(st.sampled_from([None, "text/plain", "text/plaid"]))
            if qos > 0:
                again["packet_id"] = draw(st.integers(1, 4))
            if "topic_alias" in fields and packets:
                again["topic"] = draw(st.sampled_from([first.topic, ""]))
            packets.append(Publish(**again))
        return packets + draw(st.lists(OTHERS, max_size=1))

    return st.lists(one(), min_size=1, max_size=6).map(lambda parts: [packet for part in parts for packet in part])


def observe(version: int, packets: Sequence[Packet], *, together: bool) -> tuple[list[list[Packet]], list[int], bool]:
    """What everybody gets, in one read or in one each; what is counted; is the writer still there?"""
    broker = Broker(shard_count=1, max_topic_alias=2)
    writer = broker.connect("writer", version=version)
    readers = [
        broker.connect(f"reader-{qos}-{reader_version}", version=reader_version)
        for qos in range(3)
        for reader_version in (MQTT_3_1_1, MQTT_5_0)
    ]
    for number, reader in enumerate(readers):
        reader.subscribe("t/#", qos=number // 2)
    readers[-1].subscribe("t/1", qos=1, subscription_id=7)
    if together:
        writer.send_bytes(b"".join(encode(packet, version) for packet in packets))
    else:
        for packet in packets:
            writer.send(packet)
    got = [client.take_all() for client in (writer, *readers)]
    counted = [broker.count(name) for name in ("messages_received", "messages_sent", "messages_dropped")]
    is_open = writer.is_open
    broker.close()
    return got, counted, is_open


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
def test_packets_of_one_read_do_what_they_do_one_by_one(version: int) -> None:
    @settings(max_examples=300, deadline=None)
    @given(runs(version))
    def compare(packets: list[Packet]) -> None:
        assert observe(version, packets, together=True) == observe(version, packets, together=False)

    compare()


@pytest.mark.parametrize("qos", [0, 1])
def test_repeated_packet_has_its_own_payload_and_identifier(qos: int) -> None:
    broker = Broker(shard_count=1)
    reader = broker.connect("reader")
    reader.subscribe("t", qos=1)
    writer = broker.connect("writer")
    writer.send(
        *(
            Publish(topic="t", payload=b"x" * size, qos=qos, packet_id=qos * (size + 1), content_type="text")
            for size in range(5)
        )
    )
    assert [message.payload for message in reader.take_messages()] == [b"x" * size for size in range(5)]
    assert [packet.packet_id for packet in writer.take_all() if isinstance(packet, Puback)] == (
        [1, 2, 3, 4, 5] if qos else []
    )
    broker.close()


def test_packet_identifier_0_is_refused_behind_one_that_was_right() -> None:
    broker = Broker(shard_count=1)
    writer = broker.connect("writer")
    writer.send(Publish(topic="t", qos=1, packet_id=1), Publish(topic="t", qos=1, packet_id=0))  # [MQTT-2.2.1-3]
    assert [type(packet) for packet in writer.take_all()] == [Puback, Disconnect]
    assert not writer.is_open
    broker.close()


@pytest.mark.parametrize("cut", range(1, 12))
def test_packet_that_ends_inside_the_head_before_is_refused(cut: int) -> None:
    broker = Broker(shard_count=1)
    writer = broker.connect("writer")
    whole = encode(Publish(topic="t", content_type="text"), MQTT_5_0)
    body = whole[2:]
    # What is missing follows, as if it were the next packet.
    writer.send_bytes(whole + whole[:1] + bytes([len(body) - cut]) + body)
    farewell = writer.expect_closed()
    assert farewell is not None
    assert farewell.reason_code in (0x81, 0x82)
    broker.close()
