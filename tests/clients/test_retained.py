"""Retained messages as foreign clients see them."""

import pytest
from clients.stranger import Connect, Message


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retained_message_awaits_new_subscribers(connect: Connect, unique: str, qos: int) -> None:
    connect("writer").publish(Message(topic=f"{unique}/a", payload=b"kept", qos=qos, retain=True))
    reader = connect("reader")
    reader.subscribe(f"{unique}/+", 2)
    assert reader.receive() == Message(topic=f"{unique}/a", payload=b"kept", qos=qos, retain=True)


def test_retained_message_reaches_present_subscribers_without_the_retain_flag(connect: Connect, unique: str) -> None:
    client = connect("client")
    client.subscribe(f"{unique}/a", 1)
    client.publish(Message(topic=f"{unique}/a", payload=b"live", qos=1, retain=True))
    assert client.receive() == Message(topic=f"{unique}/a", payload=b"live", qos=1, retain=False)


def test_only_the_last_retained_message_is_kept(connect: Connect, unique: str) -> None:
    client = connect("client")
    for payload in (b"first", b"second"):
        client.publish(Message(topic=f"{unique}/a", payload=payload, qos=1, retain=True))
    client.publish(Message(topic=f"{unique}/a", payload=b"not retained", qos=1))
    client.subscribe(f"{unique}/#", 1)
    assert client.receive().payload == b"second"


def test_retained_message_is_cleared_by_empty_payload(connect: Connect, unique: str) -> None:
    client = connect("client")
    client.publish(Message(topic=f"{unique}/a", payload=b"kept", qos=1, retain=True))
    client.publish(Message(topic=f"{unique}/a", qos=1, retain=True))
    client.subscribe(f"{unique}/a", 1)
    client.publish(Message(topic=f"{unique}/a", payload=b"end", qos=1))
    assert client.receive() == Message(topic=f"{unique}/a", payload=b"end", qos=1)
