"""CONNECT [MQTT5 3.1], but for Wills (test_wills.py) and sessions (test_sessions.py)."""

from collections.abc import Callable

import pytest

from rookery.core.events import ConnectRequested
from support import raw
from support.memory_broker import Admitted, Broker, Refused, expel, turn_away
from support.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Will,
    encode,
)
from support.raw import STANDARDS, text

NOT_CONNECT = {
    "PUBLISH": raw.publish(b"a", b"x"),
    "SUBSCRIBE": raw.subscribe((b"a", 0)),
    "PINGREQ": b"\xc0\x00",
    "DISCONNECT": b"\xe0\x00",
    "AUTH": b"\xf0\x00",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def _remember_in(requests: list[ConnectRequested]) -> Callable[[ConnectRequested], Admitted]:
    """A control plane that lets everybody in and keeps what it was asked."""

    def decide(request: ConnectRequested) -> Admitted:
        requests.append(request)
        return Admitted()

    return decide


@pytest.mark.parametrize("data", NOT_CONNECT.values(), ids=NOT_CONNECT)
def test_mqtt5_3_1_0_1_mqtt311_3_1_0_1_whoever_does_not_begin_with_connect_is_cut_off(
    broker: Broker, data: bytes
) -> None:
    turn_away(broker, data, reason_code=None)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_0_2_mqtt311_3_1_0_2_a_second_connect_ends_the_connection(broker: Broker, version: int) -> None:
    expel(broker, Connect(version=version, client_id="offender"), version=version, reason_code=0x82)


@pytest.mark.parametrize("name", [b"", b"MQTX", b"mqtt", b"MQTT\x00", b"MQIsdq"])
@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_1_mqtt311_3_1_2_1_another_protocol_is_cut_off_without_a_word(
    broker: Broker, version: int, name: bytes
) -> None:
    turn_away(broker, raw.connect(text(b"same"), version=version, name=name), version=version, reason_code=None)


@pytest.mark.parametrize("level", [6, 7, 127])
def test_mqtt5_3_1_2_2_a_later_version_is_told_0x84(broker: Broker, level: int) -> None:
    turn_away(broker, raw.connect(text(b"same"), level=level), reason_code=0x84)


@pytest.mark.parametrize("level", [0, 1, 2, 3, 0x83, 0x84])
def test_mqtt311_3_1_2_2_another_level_gets_return_code_1(broker: Broker, level: int) -> None:
    # The upper bit is how bridges ask whether they may use a private variant of 3.1 or 3.1.1.
    data = raw.connect(text(b"same"), version=MQTT_3_1_1, level=level)
    turn_away(broker, data, version=MQTT_3_1_1, reason_code=1)


def test_level_5_under_the_name_of_3_1_is_not_served(broker: Broker) -> None:
    turn_away(broker, raw.connect(text(b"same"), name=b"MQIsdp"), reason_code=0x84)


@pytest.mark.parametrize("version", STANDARDS)
def test_versions_that_a_tenant_has_switched_off_are_not_served(
    make_broker: Callable[..., Broker], version: int
) -> None:
    broker = make_broker(**{f"mqtt{version}_enabled": False})
    client = broker.open(version)
    assert client.connect(client_id="client").reason_code == (0x84 if version == MQTT_5_0 else 1)
    assert client.expect_closed() is None


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_3_mqtt311_3_1_2_3_the_reserved_connect_flag_is_checked(broker: Broker, version: int) -> None:
    data = raw.connect(text(b"same"), version=version, flags=0x03)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


# User name and password.

# Flags, payload behind the client identifier, and what is wrong.
CREDENTIALS_THAT_DO_NOT_FIT = {
    "name without its flag": (0x02, text(b"name")),
    "flag without a name": (0x82, b""),
    "password without its flag": (0x82, text(b"name") + text(b"password")),
    "flag without a password": (0xC2, text(b"name")),
}


def _refuse_credentials(broker: Broker, version: int, case: str) -> None:
    flags, payload = CREDENTIALS_THAT_DO_NOT_FIT[case]
    data = raw.connect(text(b"same"), payload, version=version, flags=flags)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_16_mqtt311_3_1_2_18_a_user_name_without_its_flag_is_refused(broker: Broker, version: int) -> None:
    _refuse_credentials(broker, version, "name without its flag")


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_17_mqtt311_3_1_2_19_a_flag_without_user_name_is_refused(broker: Broker, version: int) -> None:
    _refuse_credentials(broker, version, "flag without a name")


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_18_mqtt311_3_1_2_20_a_password_without_its_flag_is_refused(broker: Broker, version: int) -> None:
    _refuse_credentials(broker, version, "password without its flag")


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_19_mqtt311_3_1_2_21_a_flag_without_password_is_refused(broker: Broker, version: int) -> None:
    _refuse_credentials(broker, version, "flag without a password")


def test_mqtt311_3_1_2_22_a_password_without_user_name_is_refused(broker: Broker) -> None:
    data = raw.connect(text(b"same"), text(b"secret"), version=MQTT_3_1_1, flags=0x42)
    turn_away(broker, data, version=MQTT_3_1_1, reason_code=None)


def test_five_takes_a_password_without_user_name(make_broker: Callable[..., Broker]) -> None:
    requests: list[ConnectRequested] = []
    broker = make_broker(decide=_remember_in(requests))
    broker.connect("client", password=b"\x00\xff")
    assert (requests[0].username, requests[0].password) == (None, b"\x00\xff")


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_1_3_1_mqtt311_3_1_3_1_all_fields_are_read_in_their_order(
    make_broker: Callable[..., Broker], version: int
) -> None:
    requests: list[ConnectRequested] = []
    broker = make_broker(decide=_remember_in(requests))
    witness = broker.connect("witness")
    witness.subscribe("#")
    client = broker.open(version)
    client.send_bytes(
        raw.connect(
            text(b"client"),
            raw.block(b"", version),
            text(b"will/topic"),
            text(b"will payload"),
            text(b"name"),
            text(b"pass\xffword"),
            version=version,
            flags=0b1100_0110,
        )
    )
    assert client.take(Connack).reason_code == 0
    request = requests[-1]
    assert (request.protocol_version, request.client_id) == (version, "client")
    assert (request.username, request.password) == ("name", b"pass\xffword")
    client.drop()
    message = witness.take_message()
    assert (message.topic, message.payload) == ("will/topic", b"will payload")


# Keep alive.


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_2_22_mqtt311_3_1_2_24_silence_of_one_and_a_half_keep_alives_ends_the_connection(
    broker: Broker, version: int
) -> None:
    witness = broker.connect("witness")
    witness.subscribe("will")
    client = broker.connect("client", version=version, keep_alive=10, will=Will(topic="will"))
    broker.advance(14)
    client.ping()
    broker.advance(14.9)
    assert client.is_open
    witness.expect_nothing()
    broker.advance(0.2)
    farewell = client.expect_closed()
    assert (farewell.reason_code if farewell else None) == (0x8D if version == MQTT_5_0 else None)
    assert witness.take_message().topic == "will"


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_a_keep_alive_of_0_lets_a_client_be_silent_for_ever(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version, keep_alive=0)
    broker.advance(1_000_000)
    client.ping()


def test_every_packet_is_a_sign_of_life(broker: Broker) -> None:
    client = broker.connect("client", keep_alive=10)
    for _ in range(5):
        broker.advance(10)
        client.send(Publish(topic="a"))
        broker.advance(10)
        client.send(Pingreq())
    assert [type(packet) for packet in client.take_all()] == [Pingresp] * 5


# The client identifier.


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_3_3_mqtt311_3_1_3_3_a_connect_without_client_identifier_is_refused(
    broker: Broker, version: int
) -> None:
    turn_away(broker, raw.connect(version=version), version=version, reason_code=0x81 if version == MQTT_5_0 else None)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("client_id", [b"\xff", b"a\0b", b"\xed\xa0\x80"])
def test_mqtt5_3_1_3_4_mqtt311_3_1_3_4_a_client_identifier_is_utf8(
    broker: Broker, version: int, client_id: bytes
) -> None:
    data = raw.connect(text(client_id), version=version)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_1_3_5_mqtt311_3_1_3_5_digits_and_letters_make_a_client_identifier(
    broker: Broker, version: int
) -> None:
    characters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for length in range(1, 24):
        broker.connect(characters[:length], version=version)
    broker.connect(characters[23:46], version=version)
    broker.connect(characters[39:], version=version)
    assert broker.count("sessions") == 25


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("client_id", ["€" * 21845, "a b/c+#$\u0001\U0001f600", "x" * 24])
def test_longer_and_stranger_client_identifiers_are_accepted(broker: Broker, version: int, client_id: str) -> None:
    broker.connect(client_id, version=version)
    assert broker.session(client_id) is not None


def test_mqtt5_3_1_3_6_mqtt5_3_1_3_7_a_client_without_identifier_is_given_one(broker: Broker) -> None:
    names = set()
    for _ in range(20):
        client = broker.open()
        connack = client.connect(client_id="", session_expiry_interval=100)
        assert connack.assigned_client_id
        names.add(connack.assigned_client_id)
        session = broker.session(connack.assigned_client_id)
        assert session is not None
        assert session.is_online
    assert len(names) == 20


def test_an_assigned_identifier_can_be_used_to_come_back(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(shard_count=3)
    for _ in range(10):
        client = broker.open()
        client_id = client.connect(client_id="", session_expiry_interval=100).assigned_client_id
        client.drop()
        assert broker.open().connect(client_id=client_id, clean_start=False).session_present


def test_mqtt311_3_1_3_6_a_client_without_identifier_is_served(broker: Broker) -> None:
    first = broker.connect("", version=MQTT_3_1_1)
    second = broker.connect("", version=MQTT_3_1_1)
    first.subscribe("a")
    second.publish("a", b"x")
    assert first.take_message().payload == b"x"
    second.expect_nothing()
    assert broker.count("sessions") == 2


def test_mqtt5_3_1_3_8_mqtt5_3_2_2_7_mqtt311_3_1_3_9_a_rejected_identifier_is_told_and_cut_off(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker(decide=lambda request: Refused(0x85, "not this one"))
    client = broker.open()
    connack = client.connect(client_id="client")
    assert (connack.reason_code, connack.reason_string) == (0x85, "not this one")
    assert client.expect_closed() is None
    client = broker.open(MQTT_3_1_1)
    assert client.connect(client_id="client").reason_code == 2
    assert client.expect_closed() is None


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1])
def test_mqtt311_3_1_3_7_mqtt311_3_1_3_8_an_empty_identifier_for_a_kept_session_gets_return_code_2(
    broker: Broker, version: int
) -> None:
    turn_away(broker, Connect(version=version, client_id="", clean_start=False), version=version, reason_code=2)


def test_three_one_wants_a_client_identifier(broker: Broker) -> None:
    turn_away(broker, Connect(version=MQTT_3_1, client_id=""), version=MQTT_3_1, reason_code=2)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("name", [b"\xff", b"a\0b", b"\xed\xa0\x80"])
def test_mqtt5_3_1_3_12_mqtt311_3_1_3_11_a_user_name_is_utf8(broker: Broker, version: int, name: bytes) -> None:
    data = raw.connect(text(b"same"), text(name), version=version, flags=0x82)
    turn_away(broker, data, version=version, reason_code=0x81 if version == MQTT_5_0 else None)


# What is wrong with the whole.

BROKEN = {
    "nothing": lambda version: raw.frame(0x10),
    "cut in the name": lambda version: raw.frame(0x10, b"\x00\x04MQ"),
    "cut before the level": lambda version: raw.frame(0x10, text(b"MQTT")),
    "cut before the flags": lambda version: raw.frame(0x10, text(b"MQTT"), bytes((version,))),
    "cut in keep alive": lambda version: raw.frame(0x10, text(b"MQTT"), bytes((version, 2, 0))),
    "cut in the identifier": lambda version: raw.connect(b"\x00\x05sa", version=version),
    "bytes behind the end": lambda version: raw.connect(text(b"same"), b"\x00", version=version),
}
# Where 5.0 cannot be recognized yet, nothing can be said.
SAYS_NOTHING = {"nothing", "cut in the name", "cut before the level"}


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("case", BROKEN)
def test_mqtt5_3_1_4_1_mqtt311_3_1_4_1_a_connect_of_the_wrong_form_is_cut_off(
    broker: Broker, version: int, case: str
) -> None:
    reason_code = 0x81 if version == MQTT_5_0 and case not in SAYS_NOTHING else None
    turn_away(broker, BROKEN[case](version), version=version, reason_code=reason_code)


@pytest.mark.parametrize("version", STANDARDS)
def test_a_connect_that_is_too_large_is_cut_off(broker: Broker, version: int) -> None:
    password = bytes(60_000)
    data = raw.connect(
        text(b"same"),
        raw.block(b"", version),
        text(b"topic"),
        text(password),
        text(b"u" * 60_000),
        text(password),
        version=version,
        flags=0xC6,
        properties=(b"\x26" + text(b"k" * 50_000) + text(b"v" * 50_000)) * 2,
    )
    if version == MQTT_3_1_1:
        data = b"\x10" + b"\xff\xff\xff\x7f" + data[4:]
    turn_away(broker, data, version=version, reason_code=0x95 if version == MQTT_5_0 else None)


REFUSALS = {0x80: 3, 0x83: 3, 0x86: 4, 0x87: 5, 0x88: 3, 0x89: 3, 0x8A: 5, 0x97: 3, 0x9F: 3}


@pytest.mark.parametrize(("reason_code", "return_code"), REFUSALS.items())
def test_mqtt5_3_1_4_2_a_client_that_fails_authentication_is_told_and_cut_off(
    make_broker: Callable[..., Broker], reason_code: int, return_code: int
) -> None:
    broker = make_broker(decide=lambda request: Refused(reason_code, "no") if request.username == "bad" else Admitted())
    witness = broker.connect("witness")
    client = broker.open()
    connack = client.connect(client_id="client", username="bad")
    assert (connack.reason_code, connack.reason_string) == (reason_code, "no")
    assert client.expect_closed() is None
    for version in (MQTT_3_1, MQTT_3_1_1):
        client = broker.open(version)
        assert client.connect(client_id="client", username="bad").reason_code == return_code
        assert client.expect_closed() is None
    assert broker.session("client") is None
    witness.ping()


def test_a_client_that_nobody_decides_about_is_told_that_the_server_is_unavailable(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker(decide=lambda request: None)
    client = broker.open()
    client.send(Connect(client_id="client"))
    broker.advance(19)
    assert client.is_open
    broker.advance(2)
    assert client.take(Connack).reason_code == 0x88
    assert client.expect_closed() is None
    # A verdict that comes too late changes nothing.
    broker.admit_waiting()
    assert broker.count("sessions") == 0


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_4_3_mqtt311_3_1_4_2_a_new_connection_ends_the_old_one_of_the_client(
    broker: Broker, version: int
) -> None:
    first = broker.connect("client", version=version)
    first.subscribe("a")
    second = broker.connect("client", version=version)
    farewell = first.expect_closed()
    assert (farewell.reason_code if farewell else None) == (0x8E if version == MQTT_5_0 else None)
    second.ping()
    broker.advance(2)
    assert broker.count("connections") == 1


def test_the_same_identifier_of_another_user_is_another_client(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(decide=lambda request: Admitted(user_id=request.username or "nobody"))
    first = broker.connect("client", username="anna")
    second = broker.connect("client", username="bert")
    first.ping()
    second.ping()


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_4_5_mqtt311_3_1_4_4_an_accepted_connect_is_acknowledged(broker: Broker, version: int) -> None:
    client = broker.open(version)
    client.send(Connect(version=version, client_id="client"))
    assert client.take(Connack).reason_code == 0
    client.expect_nothing()


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_1_4_6_mqtt311_3_1_4_5_what_follows_a_rejected_connect_is_not_processed(
    make_broker: Callable[..., Broker], version: int
) -> None:
    broker = make_broker(decide=lambda request: None if request.client_id == "client" else Admitted())
    witness = broker.connect("witness")
    witness.subscribe("#")
    client = broker.open(version)
    behind = encode(Publish(topic="a", payload=b"x", retain=True), version)
    client.send_bytes(encode(Connect(version=version, client_id="client"), version) + behind)
    client.send_bytes(behind)
    client.expect_nothing()
    broker.admit_waiting(Refused(0x87))
    client.take(Connack)
    client.send_bytes(behind)
    assert client.expect_closed() is None
    witness.expect_nothing()
    assert broker.count("retained_messages") == 0


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_what_follows_an_accepted_connect_waits_for_the_verdict(
    make_broker: Callable[..., Broker], version: int
) -> None:
    broker = make_broker(decide=lambda request: None)
    client = broker.open(version)
    client.send(
        Connect(version=version, client_id="client"),
        Subscribe(packet_id=1, subscriptions=(Subscription("a"),)),
        Publish(topic="a", payload=b"early"),
    )
    client.send(Pingreq())
    client.expect_nothing()
    broker.admit_waiting()
    assert [type(packet) for packet in client.take_all()] == [Connack, Suback, Publish, Pingresp]


# What a client asks for.


def test_mqtt5_3_1_2_28_response_information_is_not_returned_unless_asked_for(broker: Broker) -> None:
    for fields in ({}, {"request_response_information": 0}):
        assert broker.open().connect(client_id="client", **fields).response_information is None


def test_mqtt5_3_1_2_29_no_reason_strings_when_they_are_not_wanted(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(max_topic_levels=2)
    for wanted in (True, False):
        client = broker.connect("client", request_problem_information=int(wanted))
        suback = client.subscribe("a/#/b", "a/b/c")
        assert set(suback.reason_codes) == {0x8F}
        unsuback = client.unsubscribe("a/#/b")
        assert isinstance(unsuback, Unsuback)
        assert unsuback.reason_codes == (0x8F,)
        client.send(Publish(topic="a/b/c", qos=1, packet_id=7), Publish(topic="a/b/c", qos=2, packet_id=8))
        refusals = client.take_all()
        assert [packet.reason_code for packet in refusals] == [0x90, 0x90]  # type: ignore[union-attr]
        for packet in (suback, unsuback, *refusals):
            assert (packet.reason_string is not None) == wanted, packet  # type: ignore[union-attr]
        client.send_bytes(b"\x30\x00")
        farewell = client.take(Disconnect)
        assert (farewell.reason_string is not None) == wanted


@pytest.mark.parametrize(
    "properties",
    [
        b"\x21\x00\x00",  # Receive Maximum 0
        b"\x27\x00\x00\x00\x00",  # Maximum Packet Size 0
        b"\x19\x02",  # Request Response Information 2
        b"\x17\x02",  # Request Problem Information 2
        b"\x11\x00\x00\x00\x01" * 2,
        b"\x21\x00\x01" * 2,
        b"\x27\x00\x00\x00\x64" * 2,
        b"\x22\x00\x01" * 2,
        b"\x19\x01" * 2,
        b"\x17\x01" * 2,
        b"\x15\x00\x01a" * 2,
        b"\x16\x00\x01a",  # Authentication Data without a method
    ],
)
def test_values_and_repetitions_that_connect_does_not_allow_are_protocol_errors(
    broker: Broker, properties: bytes
) -> None:
    turn_away(broker, raw.connect(text(b"same"), properties=properties), reason_code=0x82)


@pytest.mark.parametrize("identifier", [0x00, 0x01, 0x0B, 0x12, 0x13, 0x18, 0x1A, 0x23, 0x24, 0x2B, 0x7F])
def test_properties_of_other_packets_make_a_connect_malformed(broker: Broker, identifier: int) -> None:
    turn_away(broker, raw.connect(text(b"same"), properties=bytes((identifier, 0, 1, 97))))


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_a_client_that_is_back_is_not_disturbed_by_the_end_of_its_old_connection(broker: Broker, version: int) -> None:
    first = broker.connect("client", version=version, will=Will(topic="will"))
    second = broker.connect("client", version=version)
    second.subscribe("will")
    first.drop()
    second.expect_nothing()
    second.ping()


def test_a_refused_connect_leaves_the_session_of_its_client_alone(broker: Broker) -> None:
    turn_away(broker, raw.connect(text(b"same"), flags=0x03))
    expel(broker, b"\x30\x00", reason_code=0x81)
