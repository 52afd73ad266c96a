"""CONNACK [MQTT5 3.2]: what is announced, and what refusals look like."""

from collections.abc import Callable
from typing import Any

import pytest

from support import raw
from support.memory_broker import Broker, Refused, turn_away
from support.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    REASON_CODES,
    Connack,
    Connect,
    Publish,
    Subscribe,
    Subscription,
    Will,
)
from support.raw import STANDARDS


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_2_0_1_mqtt311_3_2_0_1_connack_comes_before_everything_else(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version, clean_start=False, **_keeping(version))
    client.subscribe("a", qos=1)
    client.drop()
    writer = broker.connect("writer")
    for number in range(3):
        writer.publish("a", b"%d" % number, qos=1)
    client = broker.open(version)
    client.send(Connect(version=version, client_id="client", clean_start=False, **_keeping(version)))
    assert client.take(Connack).session_present
    assert [message.payload for message in client.take_messages()] == [b"0", b"1", b"2"]


def test_mqtt5_3_2_0_2_a_connection_gets_one_connack(broker: Broker) -> None:
    client = broker.open()
    client.connect(client_id="client")
    client.send(Connect(client_id="client"))
    farewell = client.expect_closed()
    assert farewell is not None


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_2_2_1_only_the_lowest_acknowledge_flag_is_ever_set(broker: Broker, version: int) -> None:
    for expected in (0, 0 if version == MQTT_3_1 else 1):
        client = broker.open(version)
        client.send(Connect(version=version, client_id="c", clean_start=False, **_keeping(version)))
        data = client.take_bytes()
        assert data[0] == 0x20
        assert data[2] == expected
        assert data[3] == 0
        client.drop()


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_2_2_2_mqtt311_3_2_2_1_a_clean_start_has_no_session_present(broker: Broker, version: int) -> None:
    broker.connect("client", version=version, clean_start=False, **_keeping(version)).drop()
    connack = broker.open(version).connect(client_id="client", clean_start=True)
    assert (connack.session_present, connack.reason_code) == (False, 0)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_2_2_3_mqtt311_3_2_2_2_mqtt311_3_2_2_3_session_present_says_whether_there_is_one(
    broker: Broker, version: int
) -> None:
    for expected in (False, True, True):
        client = broker.open(version)
        connack = client.connect(client_id="client", clean_start=False, **_keeping(version))
        assert (connack.session_present, connack.reason_code) == (expected, 0)
        client.drop()


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_2_2_6_mqtt311_3_2_2_4_mqtt311_3_2_2_5_a_refusal_has_no_session_present_and_closes(
    make_broker: Callable[..., Broker], version: int
) -> None:
    broker = make_broker(max_last_will_bytes=3)
    broker.connect("client", version=version, clean_start=False, **_keeping(version)).drop()
    client = broker.open(version)
    connack = client.connect(client_id="client", clean_start=False, will=Will(topic="a", payload=b"long"))
    assert not connack.session_present
    assert connack.reason_code == (0x95 if version == MQTT_5_0 else 3)
    assert client.expect_closed() is None
    # The session that it did not get is still there.
    assert broker.session("client") is not None


def test_mqtt5_3_2_2_8_only_reason_codes_of_connack_are_sent(make_broker: Callable[..., Broker]) -> None:
    verdict = Refused(0x80)
    broker = make_broker(decide=lambda request: verdict)
    for verdict.reason_code in range(0x80, 0x100):
        client = broker.open()
        connack = client.connect(client_id="client")
        is_allowed = verdict.reason_code in REASON_CODES[Connack]
        assert connack.reason_code == (verdict.reason_code if is_allowed else 0x83)
        assert client.expect_closed() is None


def test_mqtt311_3_2_2_6_where_no_return_code_fits_there_is_no_connack(broker: Broker) -> None:
    # A malformed CONNECT is neither an unacceptable level nor a rejected identifier.
    turn_away(
        broker, raw.connect(raw.text(b"same"), version=MQTT_3_1_1, flags=0x1E), version=MQTT_3_1_1, reason_code=None
    )


@pytest.mark.parametrize("maximum_qos", [0, 1, 2])
def test_mqtt5_3_2_2_9_maximum_qos_is_announced(make_broker: Callable[..., Broker], maximum_qos: int) -> None:
    connack = make_broker(maximum_qos=maximum_qos).open().connect(client_id="client")
    assert connack.maximum_qos == (None if maximum_qos == 2 else maximum_qos)


@pytest.mark.parametrize("maximum_qos", [0, 1])
def test_mqtt5_3_2_2_10_any_qos_may_be_subscribed_to(make_broker: Callable[..., Broker], maximum_qos: int) -> None:
    client = make_broker(maximum_qos=maximum_qos).connect("client")
    suback = client.subscribe(Subscription("a", 0), Subscription("b", 1), Subscription("c", 2))
    assert suback.reason_codes == tuple(min(qos, maximum_qos) for qos in range(3))


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_3_2_2_11_a_publication_above_maximum_qos_ends_the_connection(
    make_broker: Callable[..., Broker], version: int, qos: int
) -> None:
    client = make_broker(maximum_qos=qos - 1).connect("client", version=version)
    client.send(Publish(topic="a", qos=qos, packet_id=1))
    farewell = client.expect_closed()
    assert (farewell.reason_code if farewell else None) == (0x9B if version == MQTT_5_0 else None)


def test_mqtt5_3_2_2_12_a_will_above_maximum_qos_is_refused(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(maximum_qos=1)
    client = broker.open()
    assert client.connect(client_id="client", will=Will(topic="a", qos=2)).reason_code == 0x9B
    assert client.expect_closed() is None
    broker.connect("client", will=Will(topic="a", qos=1))


def test_mqtt5_3_2_2_13_a_retained_will_is_refused_where_retaining_is_off(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(retain_enabled=False)
    client = broker.open()
    assert client.connect(client_id="client", will=Will(topic="a", retain=True)).reason_code == 0x9A
    assert client.expect_closed() is None
    broker.connect("client", will=Will(topic="a"))


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_2_2_14_retaining_where_it_is_off_ends_the_connection(
    make_broker: Callable[..., Broker], version: int
) -> None:
    broker = make_broker(retain_enabled=False)
    client = broker.open(version)
    connack = client.connect(client_id="client")
    assert connack.retain_available == (0 if version == MQTT_5_0 else None)
    client.send(Publish(topic="a", payload=b"x", retain=True))
    farewell = client.expect_closed()
    assert (farewell.reason_code if farewell else None) == (0x9A if version == MQTT_5_0 else None)
    assert broker.count("retained_messages") == 0


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_2_2_15_a_packet_above_the_maximum_packet_size_ends_the_connection(
    make_broker: Callable[..., Broker], version: int
) -> None:
    broker = make_broker(max_user_payload_bytes=1000)
    client = broker.open(version)
    connack = client.connect(client_id="client")
    assert connack.maximum_packet_size == (1000 if version == MQTT_5_0 else None)
    overhead = len(raw.publish(b"a", version=version)) + 1  # a Remaining Length of two bytes
    client.subscribe("a")
    client.send_bytes(raw.publish(b"a", bytes(1000 - overhead), version=version))
    assert len(client.take_message().payload) == 1000 - overhead
    client.send_bytes(raw.publish(b"a", bytes(1001 - overhead), version=version))
    farewell = client.expect_closed()
    assert (farewell.reason_code if farewell else None) == (0x95 if version == MQTT_5_0 else None)


def test_mqtt5_3_2_2_16_an_assigned_identifier_belongs_to_nobody_else(broker: Broker) -> None:
    broker.connect("present")
    names = [broker.open().connect(client_id="").assigned_client_id for _ in range(50)]
    assert all(names)
    assert len({*names, "present"}) == 51
    assert broker.count("sessions") == 51
    assert broker.open().connect(client_id="mine").assigned_client_id is None


@pytest.mark.parametrize("maximum", [0, 1, 7, 65535])
def test_mqtt5_3_2_2_17_mqtt5_3_2_2_18_topic_alias_maximum_is_announced_and_enforced(
    make_broker: Callable[..., Broker], maximum: int
) -> None:
    broker = make_broker(max_topic_alias=maximum)
    client = broker.open()
    assert client.connect(client_id="client").topic_alias_maximum == (maximum or None)
    if maximum:
        client.send(Publish(topic="a", topic_alias=maximum))
        client.ping()
    if maximum < 65535:
        client.send(Publish(topic="a", topic_alias=maximum + 1))
        farewell = client.expect_closed()
        assert farewell is not None
        assert farewell.reason_code == 0x94


def test_mqtt5_3_2_2_19_a_reason_string_does_not_push_connack_over_the_maximum_packet_size(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker(decide=lambda request: Refused(0x87, "x" * 100))
    for size, is_there in ((200, True), (108, True), (107, False), (20, False)):
        client = broker.open()
        connack = client.connect(client_id="client", maximum_packet_size=size)
        assert (connack.reason_string is not None) == is_there


@pytest.mark.parametrize("keep_alive", [0, 1, 59, 60, 61, 65535])
def test_mqtt5_3_1_2_21_mqtt5_3_2_2_21_a_keep_alive_that_is_too_short_is_raised_and_told(
    make_broker: Callable[..., Broker], keep_alive: int
) -> None:
    broker = make_broker(min_keep_alive_seconds=60)
    client = broker.open()
    connack = client.connect(client_id="client", keep_alive=keep_alive)
    in_force = 60 if 0 < keep_alive < 60 else keep_alive
    assert connack.server_keep_alive == (None if in_force == keep_alive else 60)
    session = broker.session("client")
    assert session is not None
    assert session.keep_alive == in_force
    if in_force == 60:
        broker.advance(89)
        assert client.is_open
        broker.advance(2)
        farewell = client.expect_closed()
        assert farewell is not None


def test_mqtt5_3_2_2_22_without_a_server_keep_alive_the_clients_holds(broker: Broker) -> None:
    client = broker.open()
    assert client.connect(client_id="client", keep_alive=20).server_keep_alive is None
    broker.advance(29)
    assert client.is_open
    broker.advance(2)
    assert not client.is_open


def test_what_is_not_available_is_announced(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(
        wildcard_subscription_enabled=False,
        subscription_identifier_enabled=False,
        shared_subscription_enabled=False,
        receiving_maximum=17,
    )
    connack = broker.open().connect(client_id="client")
    assert connack.wildcard_subscription_available == 0
    assert connack.subscription_identifier_available == 0
    assert connack.shared_subscription_available == 0
    assert connack.receive_maximum == 17


def test_what_is_not_available_is_refused(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(wildcard_subscription_enabled=False, shared_subscription_enabled=False)
    client = broker.connect("client")
    assert client.subscribe("a/+", "#", "$share/g/a", "a").reason_codes == (0xA2, 0xA2, 0x9E, 0)


def test_subscription_identifiers_end_the_connection_where_they_are_off(make_broker: Callable[..., Broker]) -> None:
    client = make_broker(subscription_identifier_enabled=False).connect("client")
    client.send(Subscribe(packet_id=1, subscriptions=(Subscription("a"),), subscription_id=1))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0xA1


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, None), (10, 60), (60, None), (300, None), (301, 300), (0xFFFFFFFF, 300)]
)
def test_a_session_expiry_that_is_not_granted_is_told(
    make_broker: Callable[..., Broker], asked: int, granted: int | None
) -> None:
    broker = make_broker(min_session_expiry_seconds=60, max_session_expiry_seconds=300)
    connack = broker.open().connect(client_id="client", session_expiry_interval=asked)
    assert connack.session_expiry_interval == granted


def _keeping(version: int) -> dict[str, Any]:
    """What makes a session outlive its connection, beside clean_start=False."""
    return {"session_expiry_interval": 100} if version == MQTT_5_0 else {}
