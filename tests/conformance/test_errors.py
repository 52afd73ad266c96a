"""What happens when somebody breaks the protocol [MQTT5 4.13; MQTT 3.1.1 4.8]."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, Refused, expel
from support.packets import MQTT_5_0, Publish, Will, encode
from support.raw import STANDARDS

# One offence of each kind; each has a test of its own where it belongs.
OFFENCES = {
    "packet type 0": (b"\x00\x00", 0x81),
    "reserved flags": (b"\xc1\x00", 0x81),
    "no string": (raw.frame(0x30, b"\x00\x09a"), 0x81),
    "QoS 3": (b"\x36\x06\x00\x01a\x00\x01\x00", 0x81),
    "CONNECT again": (raw.connect(raw.text(b"offender")), 0x82),
    "CONNACK": (b"\x20\x03\x00\x00\x00", 0x82),
    "no topic filter": (raw.subscribe(), 0x82),
    "wildcard in a topic": (raw.publish(b"#"), 0x90),
}


@pytest.mark.parametrize("case", OFFENCES)
def test_mqtt5_4_13_1_1_mqtt311_4_8_0_1_an_offence_ends_the_connection_that_it_came_by(
    broker: Broker, case: str
) -> None:
    data, reason_code = OFFENCES[case]
    expel(broker, data, reason_code=reason_code)
    if case != "QoS 3":
        expel(broker, data.replace(b"\x04MQTT\x05", b"\x04MQTT\x04"), version=4)


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_an_offence_in_the_middle_of_good_packets_takes_only_what_follows(broker: Broker, version: int) -> None:
    witness = broker.connect("witness")
    witness.subscribe("#")
    client = broker.connect("client", version=version)
    good = [encode(Publish(topic="a", payload=b"%d" % number), version) for number in range(4)]
    client.send_bytes(good[0] + good[1] + b"\x00\x00" + good[2])
    client.send_bytes(good[3])
    assert not client.is_open
    assert [message.payload for message in witness.take_messages()] == [b"0", b"1"]


@pytest.mark.parametrize("version", STANDARDS)
def test_bytes_may_come_one_at_a_time(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a", qos=1)
    for byte in encode(Publish(topic="a", payload=bytes(range(200)), qos=1, packet_id=1), version):
        client.expect_nothing()
        client.send_bytes(bytes((byte,)))
    assert client.take_message().payload == bytes(range(200))


@pytest.mark.parametrize("reason_code", [0x80, 0x87, 0x97])
def test_mqtt5_4_13_2_1_a_reason_of_0x80_ends_the_connection_in_connack_and_disconnect(
    make_broker: Callable[..., Broker], reason_code: int
) -> None:
    broker = make_broker(decide=lambda request: Refused(reason_code))
    client = broker.open()
    assert client.connect(client_id="client").reason_code == reason_code
    assert client.expect_closed() is None
    broker = make_broker()
    witness = broker.connect("witness")
    witness.subscribe("will")
    client = broker.connect("client", will=Will(topic="will"))
    client.disconnect(0x80)
    witness.take_message()


def test_a_session_that_is_kept_outlives_an_offence(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100)
    client.subscribe("a", qos=1)
    client.send_bytes(b"\x00\x00")
    assert client.expect_closed() is not None
    broker.connect("writer").publish("a", b"x", qos=1)
    client = broker.connect("client", clean_start=False)
    assert client.take_message().payload == b"x"


def test_offenders_leave_nothing_behind(broker: Broker) -> None:
    for data, _ in OFFENCES.values():
        for _ in range(20):
            client = broker.connect("offender", will=Will(topic="will"))
            client.subscribe("a/+", "$share/g/b", qos=2)
            client.send_bytes(data)
    broker.advance(5)
    left = [broker.count(what) for what in ("connections", "sessions", "subscriptions", "tenants")]
    assert left == [0, 0, 0, 0]


def test_a_client_that_never_finishes_its_connect_is_cut_off(broker: Broker) -> None:
    silent, slow = broker.open(), broker.open()
    slow.send_bytes(b"\x10\x20\x00\x04MQ")
    broker.advance(19)
    assert silent.is_open
    assert slow.is_open
    broker.advance(2)
    assert silent.expect_closed() is None
    assert slow.expect_closed() is None


def test_the_end_of_the_broker_is_told(broker: Broker) -> None:
    five = broker.connect("five")
    old = broker.connect("old", version=4)
    broker.stop(grace_s=5)
    farewell = five.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x8B
    assert old.expect_closed() is None
    assert five.version == MQTT_5_0
