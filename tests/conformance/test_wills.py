"""Wills [MQTT5 3.1.2.5 to 3.1.2.7, 3.1.3.2 to 3.1.3.4]."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, Client, turn_away
from support.packets import MQTT_3_1_1, MQTT_5_0, Disconnect, Will
from support.raw import STANDARDS, text

FOR_EVER = 0xFFFFFFFF


@pytest.fixture
def witness(broker: Broker) -> Client:
    """Sees every Will."""
    client = broker.connect("witness")
    client.subscribe("will/#", qos=2, retain_as_published=True)
    return client


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt5_3_1_2_7_mqtt5_3_1_2_8_mqtt311_3_1_2_8_a_will_is_published_when_its_client_is_lost(
    broker: Broker, witness: Client, version: int, qos: int
) -> None:
    client = broker.connect("client", version=version, will=Will(topic="will/a", payload=b"\x00gone", qos=qos))
    broker.advance(100)
    witness.expect_nothing()
    client.drop()
    message = witness.take_message()
    assert (message.topic, message.payload, message.qos, message.retain) == ("will/a", b"\x00gone", qos, False)
    witness.expect_nothing()


def test_a_will_waits_for_its_delay_and_no_longer(broker: Broker, witness: Client) -> None:
    will = Will(topic="will/a", will_delay_interval=30)
    broker.connect("client", session_expiry_interval=100, will=will).drop()
    broker.advance(29.9)
    witness.expect_nothing()
    broker.advance(0.2)
    assert witness.take_message().topic == "will/a"
    broker.advance(100)
    witness.expect_nothing()


@pytest.mark.parametrize("delay", [100, 101, FOR_EVER])
def test_a_will_does_not_wait_longer_than_its_session(broker: Broker, witness: Client, delay: int) -> None:
    will = Will(topic="will/a", will_delay_interval=delay)
    broker.connect("client", session_expiry_interval=100, will=will).drop()
    broker.advance(99.9)
    witness.expect_nothing()
    broker.advance(0.2)
    witness.take_message()
    assert broker.session("client") is None


def test_a_will_is_published_at_once_when_the_session_ends_with_the_connection(broker: Broker, witness: Client) -> None:
    broker.connect("client", will=Will(topic="will/a", will_delay_interval=30)).drop()
    witness.take_message()


def test_a_delayed_will_is_published_when_a_clean_start_ends_the_session(broker: Broker, witness: Client) -> None:
    will = Will(topic="will/a", will_delay_interval=30)
    broker.connect("client", session_expiry_interval=100, will=will).drop()
    broker.connect("client")
    witness.take_message()


def test_disconnect_with_will_message_keeps_the_will(broker: Broker, witness: Client) -> None:
    broker.connect("client", will=Will(topic="will/a")).disconnect(0x04)
    witness.take_message()


def test_disconnect_with_an_expiry_of_0_ends_the_delay(broker: Broker, witness: Client) -> None:
    will = Will(topic="will/a", will_delay_interval=30)
    client = broker.connect("client", session_expiry_interval=100, will=will)
    client.disconnect(0x04, session_expiry_interval=0)
    witness.take_message()


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("missing", [b"", text(b"will/a"), b"\x00\x09will", text(b"will/a") + b"\x00\x05x"])
def test_mqtt5_3_1_2_9_mqtt311_3_1_2_9_a_will_flag_without_its_fields_is_refused(
    broker: Broker, version: int, missing: bytes
) -> None:
    data = raw.connect(text(b"same"), raw.block(b"", version) + missing, version=version, flags=0x06)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)
    if version == MQTT_5_0:
        turn_away(broker, raw.connect(text(b"same"), flags=0x06))


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_10_mqtt311_3_1_2_10_a_will_is_published_once(
    broker: Broker, witness: Client, version: int
) -> None:
    fields = {"session_expiry_interval": 1000} if version == MQTT_5_0 else {}
    client = broker.connect("client", version=version, clean_start=False, will=Will(topic="will/a"), **fields)
    client.drop()
    witness.take_message()
    # The session goes on without the Will.
    client = broker.connect("client", version=version, clean_start=False, **fields)
    client.drop()
    witness.expect_nothing()
    client = broker.connect("client", version=version, clean_start=False, will=Will(topic="will/b"), **fields)
    client.disconnect()
    broker.connect("client", version=version, clean_start=False, **fields).drop()
    broker.advance(1001)
    witness.expect_nothing()


def _refuse_flags(broker: Broker, version: int, flags: int) -> None:
    data = raw.connect(text(b"same"), version=version, flags=flags)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("qos", [1, 2, 3])
def test_mqtt5_3_1_2_11_mqtt311_3_1_2_11_mqtt311_3_1_2_13_a_will_qos_without_a_will_is_refused(
    broker: Broker, version: int, qos: int
) -> None:
    _refuse_flags(broker, version, 0x02 | qos << 3)


@pytest.mark.parametrize("version", STANDARDS)
def test_will_fields_without_a_will_flag_are_refused(broker: Broker, version: int) -> None:
    data = raw.connect(text(b"same"), text(b"will/a"), text(b"gone"), version=version)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_12_mqtt311_3_1_2_14_a_will_qos_of_3_is_refused(broker: Broker, version: int) -> None:
    data = raw.connect(
        text(b"same"), raw.block(b"", version), text(b"will/a"), text(b""), version=version, flags=0x02 | 0x04 | 3 << 3
    )
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


def test_mqtt311_3_1_2_12_without_a_will_nothing_is_published(broker: Broker) -> None:
    everything = broker.connect("everything")
    everything.subscribe("#")
    broker.connect("client", version=MQTT_3_1_1).drop()
    everything.expect_nothing()


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_13_mqtt311_3_1_2_15_a_will_retain_without_a_will_is_refused(broker: Broker, version: int) -> None:
    _refuse_flags(broker, version, 0x02 | 0x20)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_14_mqtt311_3_1_2_16_without_will_retain_nothing_is_retained(
    broker: Broker, witness: Client, version: int
) -> None:
    broker.connect("client", version=version, will=Will(topic="will/a", payload=b"x")).drop()
    assert not witness.take_message().retain
    assert broker.count("retained_messages") == 0


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_15_mqtt311_3_1_2_17_with_will_retain_the_will_is_retained(
    broker: Broker, witness: Client, version: int
) -> None:
    broker.connect("client", version=version, will=Will(topic="will/a", payload=b"x", retain=True, qos=1)).drop()
    assert witness.take_message().retain
    later = broker.connect("later")
    later.subscribe("will/a", qos=1)
    message = later.take_message()
    assert (message.payload, message.qos, message.retain) == (b"x", 1, True)


def test_mqtt5_3_1_3_9_a_client_that_is_back_in_time_has_no_will_published(broker: Broker, witness: Client) -> None:
    will = Will(topic="will/a", will_delay_interval=30)
    broker.connect("client", session_expiry_interval=100, will=will).drop()
    broker.advance(29)
    client = broker.connect("client", clean_start=False, session_expiry_interval=100)
    broker.advance(50)
    client.drop()
    broker.advance(200)
    witness.expect_nothing()


def test_a_take_over_cancels_a_delayed_will_and_publishes_one_without_delay(broker: Broker, witness: Client) -> None:
    kept = {"clean_start": False, "session_expiry_interval": 100}
    broker.connect("delayed", will=Will(topic="will/delayed", will_delay_interval=1), **kept)
    broker.connect("delayed", **kept)
    broker.connect("prompt", will=Will(topic="will/prompt"), **kept)
    broker.connect("prompt", **kept)
    broker.advance(5)
    assert [message.topic for message in witness.take_messages()] == ["will/prompt"]


def test_the_will_of_the_new_connection_replaces_the_old_one(broker: Broker, witness: Client) -> None:
    kept = {"clean_start": False, "session_expiry_interval": 100}
    broker.connect("client", will=Will(topic="will/old", will_delay_interval=10), **kept).drop()
    broker.connect("client", will=Will(topic="will/new", will_delay_interval=20), **kept).drop()
    broker.advance(15)
    witness.expect_nothing()
    broker.advance(6)
    assert [message.topic for message in witness.take_messages()] == ["will/new"]


def test_mqtt5_3_1_3_10_properties_of_a_will_are_passed_on_in_their_order(broker: Broker, witness: Client) -> None:
    pairs = (("b", "1"), ("a", "2"), ("b", "1"), ("", ""))
    will = Will(
        topic="will/a",
        payload="grün".encode(),
        payload_format_indicator=1,
        message_expiry_interval=60,
        content_type="text",
        response_topic="answers/x",
        correlation_data=b"\x00\x01",
        user_properties=pairs,
    )
    broker.connect("client", will=will).drop()
    message = witness.take_message()
    assert message.user_properties == pairs
    assert (message.payload_format_indicator, message.content_type) == (1, "text")
    assert (message.response_topic, message.correlation_data) == ("answers/x", b"\x00\x01")
    assert message.message_expiry_interval == 60


def test_the_expiry_of_a_will_is_counted_from_its_publication(broker: Broker, witness: Client) -> None:
    will = Will(topic="will/a", will_delay_interval=30, message_expiry_interval=10)
    broker.connect("client", session_expiry_interval=100, will=will).drop()
    broker.advance(31)
    assert witness.take_message().message_expiry_interval == 10


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("topic", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_mqtt5_3_1_3_11_mqtt311_3_1_3_10_a_will_topic_is_utf8(broker: Broker, version: int, topic: bytes) -> None:
    data = raw.connect(text(b"same"), raw.block(b"", version), text(topic), text(b""), version=version, flags=0x06)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


@pytest.mark.parametrize("topic", [b"", b"a/#", b"+", b"$share/g/a", b"$oshare/g/a"])
def test_a_will_topic_is_a_topic_name(broker: Broker, topic: bytes) -> None:
    data = raw.connect(text(b"same"), raw.block(b""), text(topic), text(b""), flags=0x06)
    turn_away(broker, data, reason_code=0x90)


def test_a_will_does_not_speak_for_the_server(broker: Broker) -> None:
    data = raw.connect(text(b"same"), raw.block(b""), text(b"$SYS/uptime"), text(b""), flags=0x06)
    turn_away(broker, data, reason_code=0x87)


def test_the_payload_format_of_a_will_is_checked(make_broker: Callable[..., Broker]) -> None:
    will = Will(topic="a", payload=b"\xff", payload_format_indicator=1)
    client = make_broker().open()
    assert client.connect(client_id="client", will=will).reason_code == 0x99
    assert client.expect_closed() is None
    make_broker(payload_format_validation_enabled=False).connect("client", will=will)


def test_a_will_that_is_too_large_is_refused(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(max_last_will_bytes=10)
    client = broker.open()
    assert client.connect(client_id="client", will=Will(topic="a", payload=bytes(11))).reason_code == 0x95
    assert client.expect_closed() is None
    broker.connect("client", will=Will(topic="a", payload=bytes(10)))


@pytest.mark.parametrize(
    "properties", [b"\x18\x00\x00\x00\x01" * 2, b"\x01\x02", b"\x02\x00\x00\x00\x01" * 2, b"\x08\x00\x01#"]
)
def test_values_and_repetitions_that_a_will_does_not_allow_are_protocol_errors(
    broker: Broker, properties: bytes
) -> None:
    data = raw.connect(text(b"same"), raw.block(properties), text(b"will/a"), text(b""), flags=0x06)
    turn_away(broker, data, reason_code=0x82)


@pytest.mark.parametrize("silent", [True, False])
def test_wills_at_the_end_of_the_broker_are_as_the_tenant_sets_it(
    make_broker: Callable[..., Broker], silent: bool
) -> None:
    # A shard without clients ends at once and then answers no questions.
    broker = make_broker(no_lwt_when_server_shutting_down=silent, shard_count=1)
    later = broker.connect("later", session_expiry_interval=100)
    later.subscribe("will/#", qos=1)
    broker.connect("client", will=Will(topic="will/a", payload=b"gone", retain=True))
    broker.stop(grace_s=10)
    farewell = later.take_all()[-1]
    assert isinstance(farewell, Disconnect)
    assert farewell.reason_code == 0x8B
    assert broker.count("retained_messages") == (0 if silent else 1)
