"""User properties that the broker adds to what a client publishes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.memory_broker import Admitted, Broker
from support.packets import MQTT_3_1_1, MQTT_5_0, Connect, Will

MakeBroker = Callable[..., Broker]

ADDED = (("account", "7"), ("site", "north"))
OWN = (("b", "2"), ("a", "1"))


def _admit(request: object) -> Admitted:
    is_writer = getattr(request, "username", None) == "writer"
    return Admitted(message_user_properties=ADDED if is_writer else ())


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker(decide=_admit)


def test_they_stand_behind_those_of_the_message(broker: Broker) -> None:
    reader = broker.connect("reader")
    reader.subscribe("#", qos=2)
    writer = broker.connect("writer", username="writer")
    for qos in (0, 1, 2):
        # With every property that is cut out, so that what goes on is in pieces.
        writer.publish(
            "a",
            b"x",
            qos=qos,
            content_type="text",
            message_expiry_interval=60,
            response_topic="r",
            topic_alias=1,
            user_properties=OWN,
            correlation_data=b"c",
        )
    messages = reader.take_messages()
    assert [message.user_properties for message in messages] == [(*OWN, *ADDED)] * 3
    assert {(message.content_type, message.response_topic, message.correlation_data) for message in messages} == {
        ("text", "r", b"c")
    }


def test_messages_of_others_and_packets_without_properties_are_what_they_were(broker: Broker) -> None:
    reader = broker.connect("reader")
    reader.subscribe("#")
    broker.connect("other").publish("a", b"x", user_properties=OWN)
    writer = broker.connect("writer", username="writer")
    writer.publish("a", b"x")
    assert [message.user_properties for message in reader.take_messages()] == [OWN, ADDED]


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
def test_wills_and_retained_messages_have_them(broker: Broker, version: int) -> None:
    writer = broker.connect("writer", username="writer", version=version, will=Will(topic="last", payload=b"w"))
    writer.publish("kept", b"x", retain=True)
    reader = broker.connect("reader")
    reader.subscribe("#")
    writer.drop()
    messages = reader.take_messages()
    assert [message.topic for message in messages] == ["kept", "last"]
    assert [message.user_properties for message in messages] == [ADDED, ADDED]


def test_clients_of_3_x_get_the_message_alone(broker: Broker) -> None:
    reader = broker.connect("reader", version=MQTT_3_1_1)
    reader.subscribe("#")
    broker.connect("writer", username="writer").publish("a", b"x")
    assert reader.take_message().payload == b"x"


def test_they_are_kept_with_durable_messages(tmp_path: Path) -> None:
    broker = Broker(decide=_admit, data=tmp_path)
    reader = broker.connect("reader", session_expiry_interval=100)
    reader.subscribe("#", qos=1)
    reader.drop()
    broker.connect("writer", username="writer").publish("a", b"x", qos=1, user_properties=OWN)
    broker.crash()
    broker = Broker(decide=_admit, data=tmp_path)
    reader = broker.connect("reader", session_expiry_interval=100, clean_start=False)
    assert reader.take_message().user_properties == (*OWN, *ADDED)
    broker.close()


def test_more_than_the_limit_is_refused_before_anything_is_done(make_broker: MakeBroker) -> None:
    broker = make_broker(decide=lambda request: None)
    client = broker.open()
    client.send_only(Connect(client_id="c"))
    broker.settle()
    (request,) = broker.waiting
    with pytest.raises(ValueError, match="message_user_properties take 4106 bytes, the limit is 4096"):
        broker.engine.admit(request.connection, tenant_id="t", user_id="u", message_user_properties=[("x", "y" * 4100)])
    broker.admit_waiting()
    assert client.is_open
