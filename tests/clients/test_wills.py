"""Will Messages of foreign clients."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clients.stranger import Connect, Message, only_5_0

from support.process import BROKER, Address, BrokerProcess


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_will_is_published_when_the_connection_breaks(connect: Connect, unique: str, qos: int) -> None:
    reader = connect("reader")
    reader.subscribe(f"{unique}/will", 2)
    connect("victim", will=Message(topic=f"{unique}/will", payload=b"gone", qos=qos)).drop()
    assert reader.receive() == Message(topic=f"{unique}/will", payload=b"gone", qos=qos)


def test_will_is_discarded_by_a_normal_disconnect(connect: Connect, unique: str) -> None:
    reader = connect("reader")
    reader.subscribe(f"{unique}/will", 1)
    connect("leaver", will=Message(topic=f"{unique}/will", payload=b"wrong", qos=1)).disconnect()
    connect("victim", will=Message(topic=f"{unique}/will", payload=b"right", qos=1)).drop()
    assert reader.receive().payload == b"right"


def test_retained_will_awaits_new_subscribers(connect: Connect, unique: str) -> None:
    witness = connect("witness")
    witness.subscribe(f"{unique}/will", 1)
    connect("victim", will=Message(topic=f"{unique}/will", payload=b"gone", qos=1, retain=True)).drop()
    assert witness.receive().payload == b"gone"
    reader = connect("reader")
    reader.subscribe(f"{unique}/will", 1)
    assert reader.receive() == Message(topic=f"{unique}/will", payload=b"gone", qos=1, retain=True)


@only_5_0
def test_delayed_will_is_published_when_its_delay_is_over(connect: Connect, unique: str) -> None:
    reader = connect("reader")
    reader.subscribe(f"{unique}/+", 1)
    will = Message(topic=f"{unique}/will", payload=b"gone", qos=1)
    connect("victim", is_persistent=True, will=will, will_delay_interval=1).drop()
    assert reader.receive().payload == b"gone"


@only_5_0
def test_delayed_will_is_not_published_when_the_client_returns_in_time(connect: Connect, unique: str) -> None:
    reader = connect("reader")
    reader.subscribe(f"{unique}/will", 1)
    will = Message(topic=f"{unique}/will", payload=b"gone", qos=1)
    connect("victim", is_persistent=True, will=will, will_delay_interval=1).drop()
    connect("victim", is_persistent=True)
    # A second will with a longer delay tells when the first one would have come.
    clock = Message(topic=f"{unique}/will", payload=b"end", qos=1)
    connect("clock", is_persistent=True, will=clock, will_delay_interval=2).drop()
    assert reader.receive().payload == b"end"


@pytest.fixture
def short_sessions(start_broker_process: Callable[..., BrokerProcess], tmp_path: Path) -> Address:
    """A broker where a session may end after a second; at its default settings Rookery keeps it for a minute."""
    if BROKER != "rookery":
        return start_broker_process().mqtt
    config = tmp_path / "rookery.toml"
    config.write_text("[settings]\nMinSessionExpirySeconds = 1\n")
    return start_broker_process("--config", str(config)).mqtt


@only_5_0
def test_delayed_will_is_published_when_the_session_ends_first(
    short_sessions: Address, connect: Connect, unique: str
) -> None:
    reader = connect("reader", address=short_sessions)
    reader.subscribe(f"{unique}/will", 1)
    will = Message(topic=f"{unique}/will", payload=b"gone", qos=1)
    session = {"address": short_sessions, "is_persistent": True, "session_expiry_interval": 1}
    connect("victim", **session, will=will, will_delay_interval=3600).drop()
    assert reader.receive().payload == b"gone"
    assert not connect("victim", **session).session_present


@only_5_0
def test_will_carries_its_properties(connect: Connect, unique: str) -> None:
    will = Message(
        topic=f"{unique}/will",
        payload=b"gone",
        content_type="text/plain",
        response_topic=f"{unique}/answer",
        correlation_data=b"\x00\xff",
        user_properties=(("cause", "unknown"), ("cause", "cable")),
    )
    reader = connect("reader")
    reader.subscribe(f"{unique}/will")
    connect("victim", will=will).drop()
    assert reader.receive() == will
