"""DISCONNECT [MQTT5 3.14]."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, expel
from support.packets import MQTT_5_0, Connect, Disconnect, Publish, Will, encode
from support.raw import STANDARDS

CLIENT_REASONS = {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}


def test_mqtt5_3_14_0_1_no_disconnect_before_an_accepting_connack(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(decide=lambda request: None)
    for data in (b"\x30\x00", b"\x00\x00", b"\x10\xff\xff\xff\xff\xff"):
        client = broker.open()
        client.send_bytes(data)
        assert client.expect_closed() is None
    client = broker.open()
    client.send(Connect(client_id="client"))
    broker.stop(grace_s=5)
    assert [type(packet).__name__ for packet in client.take_all()] == ["Connack"]


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("flags", range(1, 16))
def test_mqtt5_3_14_1_1_mqtt311_3_14_1_1_disconnect_has_no_flags(broker: Broker, version: int, flags: int) -> None:
    expel(broker, bytes((0xE0 | flags, 0)), version=version)


def test_mqtt5_3_14_2_1_reason_codes_of_disconnect(broker: Broker) -> None:
    for reason_code in range(0x100):
        data = raw.frame(0xE0, bytes((reason_code,)))
        if reason_code in CLIENT_REASONS:
            client = broker.connect("client")
            client.send_bytes(data)
            assert client.expect_closed() is None
        elif reason_code % 16 in (0, 5, 13, 15):
            expel(broker, data, reason_code=0x82)


def test_mqtt5_3_14_2_2_the_server_sends_no_session_expiry_interval(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100, keep_alive=1)
    broker.advance(2)
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.session_expiry_interval is None


def test_mqtt5_3_14_2_3_a_reason_string_does_not_push_disconnect_over_the_maximum_packet_size(broker: Broker) -> None:
    seen = set()
    for size in range(30, 90):
        client = broker.connect("client", maximum_packet_size=size)
        client.take_bytes()
        client.send_bytes(b"\x30\x00")
        assert len(client.take_bytes()) <= size
        farewell = client.expect_closed()
        assert farewell is not None
        assert farewell.reason_code == 0x81
        seen.add(farewell.reason_string)
    assert len(seen) == 2
    assert None in seen


def test_mqtt5_3_14_4_1_mqtt5_3_14_4_2_after_its_disconnect_the_server_sends_nothing_and_closes(
    broker: Broker,
) -> None:
    client = broker.connect("client")
    client.subscribe("a")
    witness = broker.connect("witness")
    witness.subscribe("a")
    writer = broker.connect("writer")
    # The offence and what would bring it messages come in the same turn.
    broker.engine.feed(client._link, b"\x30\x00" + b"\xc0\x00")
    broker.engine.feed(writer._link, encode(Publish(topic="a", payload=b"x"), MQTT_5_0))
    broker.settle()
    assert witness.take_message().payload == b"x"
    received = client.take_all()
    assert [type(packet) for packet in received if not isinstance(packet, Publish)] == [Disconnect]
    assert isinstance(received[-1], Disconnect)
    assert not client.is_open


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_what_a_client_sends_after_disconnect_is_not_processed(broker: Broker, version: int) -> None:
    witness = broker.connect("witness")
    witness.subscribe("#")
    client = broker.connect("client", version=version)
    client.send(Disconnect(), Publish(topic="a", payload=b"too late"))
    assert client.expect_closed() is None
    witness.expect_nothing()


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_14_4_3_mqtt311_3_14_4_3_a_normal_disconnect_discards_the_will(broker: Broker, version: int) -> None:
    witness = broker.connect("witness")
    witness.subscribe("will")
    client = broker.connect("client", version=version, will=Will(topic="will"))
    client.disconnect()
    broker.advance(100)
    witness.expect_nothing()


@pytest.mark.parametrize("reason_code", sorted(CLIENT_REASONS - {0}))
def test_every_other_reason_keeps_the_will(broker: Broker, reason_code: int) -> None:
    witness = broker.connect("witness")
    witness.subscribe("will")
    broker.connect("client", will=Will(topic="will")).disconnect(reason_code)
    witness.take_message()


@pytest.mark.parametrize(
    ("properties", "reason_code"),
    [
        (b"\x11\x00\x00\x00\x01" * 2, 0x82),
        (b"\x1f\x00\x01a" * 2, 0x82),
        (b"\x23\x00\x01", 0x81),
        (b"\x1f\x00\x02a", 0x81),
        (b"\x11\x00", 0x81),
    ],
)
def test_properties_of_disconnect_are_checked(broker: Broker, properties: bytes, reason_code: int) -> None:
    data = raw.frame(0xE0, b"\x00", raw.block(properties))
    expel(broker, data, reason_code=reason_code, session_expiry_interval=0)


@pytest.mark.parametrize("version", [3, 4])
def test_three_x_has_nothing_in_a_disconnect(broker: Broker, version: int) -> None:
    expel(broker, b"\xe0\x01\x00", version=version)
