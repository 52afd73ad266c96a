"""Properties that are the same as those of the PUBLISH before are not walked again, and mean the same."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from support.memory_broker import Broker
from support.packets import Publish

# Few values, so that a block is often, but not always, the one before.
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": st.sampled_from(["", "text/plain", "x" * 130]),
        "response_topic": st.sampled_from(["r", "reply/7"]),
        "correlation_data": st.sampled_from([b"", b"\x00\x01"]),
        "payload_format_indicator": st.just(1),
        "message_expiry_interval": st.sampled_from([5, 60]),
        "user_properties": st.sampled_from([(("k", "v"),), (("k", "v"), ("k", "w"))]),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([None, 1, 2]), PROPERTIES), min_size=1, max_size=20))
def test_every_message_has_its_own_properties(sent: list[tuple[int, int | None, dict[str, Any]]]) -> None:
    broker = Broker(max_topic_alias=2)
    reader = broker.connect("reader")
    reader.subscribe("t/+")
    writers = [broker.connect("a"), broker.connect("b")]
    known: set[tuple[int, int]] = set()
    for number, (writer, alias, properties) in enumerate(sent):
        topic = f"t/{alias or 0}{writer}"
        is_known = alias is not None and (writer, alias) in known
        if alias is not None:
            known.add((writer, alias))
        writers[writer].send(
            Publish(topic="" if is_known else topic, payload=b"%d" % number, qos=0, topic_alias=alias, **properties)
        )
        message = reader.take_message()
        assert (message.topic, message.payload) == (topic, b"%d" % number)
        got = {name: getattr(message, name) for name in properties}
        assert got == properties
        absent = {"content_type", "response_topic", "correlation_data", "message_expiry_interval"} - properties.keys()
        assert [getattr(message, name) for name in absent] == [None] * len(absent)
    broker.close()


def test_block_that_only_begins_like_the_one_before_is_read_anew() -> None:
    broker = Broker()
    reader = broker.connect("reader")
    reader.subscribe("t")
    writer = broker.connect("writer")
    writer.publish("t", b"1", user_properties=(("k", "v"),))
    writer.publish("t", b"2", user_properties=(("k", "v"), ("k", "w")))
    writer.publish("t", b"3", user_properties=(("k", "v"),))
    assert [len(message.user_properties) for message in reader.take_messages()] == [1, 2, 1]
    broker.close()


def test_wrong_block_is_refused_behind_one_that_was_right() -> None:
    broker = Broker()
    writer = broker.connect("writer")
    writer.publish("t", b"", content_type="text")
    writer.send_bytes(b"\x30\x0b\x00\x01t\x07\x03\x00\x04tex\xff")  # the same length, and no UTF-8
    farewell = writer.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x81
    broker.close()


def test_packet_that_is_cut_inside_the_block_before_is_refused() -> None:
    broker = Broker()
    writer = broker.connect("writer")
    writer.publish("t", b"", content_type="text")
    writer.send_bytes(b"\x30\x0a\x00\x01t\x07\x03\x00\x04tex")
    farewell = writer.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x81
    broker.close()
