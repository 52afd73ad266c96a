"""Sessions: beginning, resuming, lasting, ending [MQTT5 3.1.2.4, 3.1.2.11, 4.1; MQTT 3.1.1 3.1.2.4]."""

from collections.abc import Callable
from typing import Any

import pytest

from support import raw
from support.memory_broker import Admitted, Broker, Client
from support.packets import MQTT_3_1_1, MQTT_5_0, Publish, Pubrec, Pubrel
from support.raw import STANDARDS

FOR_EVER = 0xFFFFFFFF


def _keep(broker: Broker, version: int, client_id: str = "client", *, clean_start: bool = False) -> Client:
    """A client whose session outlives its connection by 100 seconds in 5.0, by a day in 3.x."""
    fields: dict[str, Any] = {"session_expiry_interval": 100} if version == MQTT_5_0 else {}
    return broker.connect(client_id, version=version, clean_start=clean_start, **fields)


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_1_2_4_mqtt5_3_1_4_4_mqtt311_3_1_2_6_mqtt311_3_1_4_3_a_clean_start_drops_the_old_session(
    broker: Broker, version: int
) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=1)
    client.drop()
    broker.connect("writer").publish("a", b"x", qos=1)
    client = (
        _keep(broker, version, clean_start=True)
        if version == MQTT_5_0
        else broker.connect("client", version=version, clean_start=True)
    )
    client.publish("a", b"y", qos=1)
    client.expect_nothing()
    client.drop()
    # In 3.x the session of a clean start ends with its connection; in 5.0 the expiry says so.
    assert (broker.session("client") is not None) == (version == MQTT_5_0)


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_1_2_5_mqtt311_3_1_2_4_a_session_is_resumed(broker: Broker, version: int) -> None:
    client = _keep(broker, version)
    client.subscribe("a", qos=1)
    client.drop()
    client = _keep(broker, version)
    client.publish("a", b"x", qos=1)
    assert client.take_message().payload == b"x"


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_1_2_6_without_a_session_a_new_one_begins(broker: Broker, version: int) -> None:
    assert broker.session("client") is None
    _keep(broker, version)
    session = broker.session("client")
    assert session is not None
    assert session.is_persistent


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt311_3_1_2_5_messages_wait_for_an_absent_client(broker: Broker, version: int, qos: int) -> None:
    client = _keep(broker, version)
    client.subscribe("a/+", qos=qos)
    client.drop()
    writer = broker.connect("writer")
    for number in range(50):
        writer.publish(f"a/{number}", b"%d" % number, qos=qos)
    client = _keep(broker, version)
    messages = client.take_messages()
    assert [message.payload for message in messages] == [b"%d" % number for number in range(50)]
    assert {(message.qos, message.dup, message.retain) for message in messages} == {(qos, False, False)}


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt311_3_1_2_7_retained_messages_outlive_sessions(broker: Broker, version: int) -> None:
    writer = broker.connect("writer", version=version)
    writer.publish("a", b"x", retain=True)
    writer.disconnect()
    broker.advance(1_000_000)
    reader = broker.connect("reader")
    reader.subscribe("a")
    assert reader.take_message().payload == b"x"


@pytest.mark.parametrize("how", ["lost", "disconnected", "taken over"])
def test_mqtt5_3_1_2_23_a_session_outlives_its_connection(broker: Broker, how: str) -> None:
    client = _keep(broker, MQTT_5_0)
    client.subscribe("a", qos=1)
    if how == "lost":
        client.drop()
    elif how == "disconnected":
        client.disconnect()
    broker.advance(99)
    client = broker.open()
    assert client.connect(client_id="client", clean_start=False, session_expiry_interval=100).session_present
    broker.connect("writer").publish("a", b"x", qos=1)
    assert client.take_message().payload == b"x"


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_1_3_2_mqtt311_3_1_3_2_the_client_identifier_names_the_session(broker: Broker, version: int) -> None:
    for name in ("one", "two", "One"):
        client = _keep(broker, version, name)
        client.subscribe(f"to/{name}", qos=1)
        client.drop()
    writer = broker.connect("writer")
    for name in ("one", "two", "One"):
        writer.publish(f"to/{name}", name.encode(), qos=1)
    for name in ("two", "One", "one"):
        assert [message.payload for message in _keep(broker, version, name).take_messages()] == [name.encode()]


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_1_0_1_mqtt311_4_1_0_1_mqtt311_4_1_0_2_a_session_lasts_while_its_connection_does(
    broker: Broker, version: int
) -> None:
    for client_id, client in (
        ("transient", broker.connect("transient", version=version)),
        ("kept", _keep(broker, version, "kept")),
    ):
        client.subscribe("a", qos=1)
        broker.advance(200_000)
        assert broker.session(client_id) is not None
        broker.connect("writer").publish("a", b"x", qos=1)
        assert client.take_message().payload == b"x"
        client.disconnect()


def test_mqtt5_4_1_0_2_a_session_ends_when_its_expiry_is_over(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100)
    client.subscribe("a", qos=1)
    client.drop()
    broker.connect("writer").publish("a", b"x", qos=1)
    broker.advance(99.9)
    assert broker.session("client") is not None
    broker.advance(0.2)
    assert broker.session("client") is None
    client = broker.open()
    assert not client.connect(client_id="client", clean_start=False).session_present
    client.publish("a", b"y")
    client.expect_nothing()


def test_an_expiry_of_0_ends_the_session_with_the_connection(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=0)
    client.drop()
    assert broker.session("client") is None


def test_the_expiry_is_counted_from_the_last_end_of_a_connection(broker: Broker) -> None:
    _keep(broker, MQTT_5_0).drop()
    broker.advance(60)
    client = _keep(broker, MQTT_5_0)
    broker.advance(1000)
    client.drop()
    broker.advance(60)
    assert broker.session("client") is not None
    broker.advance(41)
    assert broker.session("client") is None


def test_a_session_that_never_expires_stays(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(max_session_expiry_seconds=FOR_EVER)
    broker.connect("client", session_expiry_interval=FOR_EVER).drop()
    broker.connect("old", version=MQTT_3_1_1, clean_start=False).drop()
    broker.advance(10_000_000)
    assert broker.session("client") is not None
    assert broker.session("old") is not None


def test_a_session_with_a_clean_start_may_still_be_kept(broker: Broker) -> None:
    client = broker.connect("client", clean_start=True, session_expiry_interval=100)
    client.subscribe("a", qos=1)
    client.drop()
    broker.connect("writer").publish("a", b"x", qos=1)
    client = broker.connect("client", clean_start=False)
    assert client.take_message().payload == b"x"
    # Without an expiry of its own this connection was the last one of the session.
    client.drop()
    assert broker.session("client") is None


# DISCONNECT may change the expiry.


@pytest.mark.parametrize(("connected", "disconnected", "lasts"), [(100, 200, 200), (200, 100, 100), (100, None, 100)])
def test_disconnect_changes_the_expiry(broker: Broker, connected: int, disconnected: int | None, lasts: int) -> None:
    client = broker.connect("client", session_expiry_interval=connected)
    client.disconnect(session_expiry_interval=disconnected)
    broker.advance(lasts - 0.1)
    assert broker.session("client") is not None
    broker.advance(0.2)
    assert broker.session("client") is None


def test_disconnect_with_an_expiry_of_0_ends_the_session(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100)
    client.disconnect(session_expiry_interval=0)
    assert broker.session("client") is None


def test_disconnect_with_an_expiry_after_none_is_a_protocol_error(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=0)
    client.send_bytes(raw.frame(0xE0, b"\x00", raw.block(b"\x11\x00\x00\x00\x64")))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x82
    assert broker.session("client") is None


def test_an_expiry_is_ignored_where_all_sessions_are_transient(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(force_transient=True)
    client = broker.open()
    assert client.connect(client_id="client", session_expiry_interval=100).session_expiry_interval == 0
    client.disconnect(session_expiry_interval=50)
    assert broker.session("client") is None
    client = broker.connect("old", version=MQTT_3_1_1, clean_start=False)
    client.drop()
    assert broker.session("old") is None


# Sessions and versions, users and tenants.


@pytest.mark.parametrize("first", raw.VERSIONS)
@pytest.mark.parametrize("second", raw.VERSIONS)
def test_a_session_may_be_resumed_in_another_version(broker: Broker, first: int, second: int) -> None:
    client = _keep(broker, first)
    client.subscribe("a", qos=2, **({"subscription_id": 7} if first == MQTT_5_0 else {}))
    client.drop()
    broker.connect("writer").publish("a", b"x", qos=2, user_properties=(("k", "v"),))
    client = _keep(broker, second)
    message = client.take_message()
    assert (message.payload, message.qos) == (b"x", 2)
    if second == MQTT_5_0:
        assert message.user_properties == (("k", "v"),)
        assert message.subscription_ids == ((7,) if first == MQTT_5_0 else ())


def test_sessions_of_users_and_tenants_are_apart(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(decide=lambda request: Admitted(*str(request.username).split("/")))
    for username in ("t1/u1", "t1/u2", "t2/u1"):
        client = broker.connect("client", username=username, session_expiry_interval=100)
        client.subscribe("a", qos=1)
        client.drop()
    broker.connect("writer", username="t1/u3").publish("a", b"x", qos=1)
    got = {}
    for username in ("t1/u1", "t1/u2", "t2/u1"):
        client = broker.connect("client", username=username, clean_start=False)
        got[username] = len(client.take_messages())
    assert got == {"t1/u1": 1, "t1/u2": 1, "t2/u1": 0}


# QoS 2 across connections.


@pytest.mark.parametrize("version", STANDARDS)
def test_a_message_that_was_not_released_is_not_delivered_again_after_a_reconnect(broker: Broker, version: int) -> None:
    witness = broker.connect("witness")
    witness.subscribe("a", qos=2)
    client = _keep(broker, version)
    client.send(Publish(topic="a", payload=b"once", qos=2, packet_id=5))
    client.take(Pubrec)
    client.drop()
    client = _keep(broker, version)
    client.send(Publish(topic="a", payload=b"once", qos=2, packet_id=5, dup=True))
    assert client.take(Pubrec).reason_code == 0
    client.send(Pubrel(packet_id=5))
    assert [message.payload for message in witness.take_messages()] == [b"once"]


def test_a_clean_start_forgets_what_was_not_released(broker: Broker) -> None:
    witness = broker.connect("witness")
    witness.subscribe("a", qos=2)
    client = _keep(broker, MQTT_5_0)
    client.send(Publish(topic="a", payload=b"first", qos=2, packet_id=5))
    client.take(Pubrec)
    client.drop()
    client = _keep(broker, MQTT_5_0, clean_start=True)
    client.publish("a", b"second", qos=2, packet_id=5)
    assert [message.payload for message in witness.take_messages()] == [b"first", b"second"]
