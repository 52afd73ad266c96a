"""Tenants by user name, as the development authenticator reads it: `tenant/user`."""

from clients.stranger import Connect, Message

from support.process import rookery_only

pytestmark = rookery_only


def test_tenants_never_see_each_other_with_the_same_client_id(connect: Connect, unique: str) -> None:
    names = (f"{unique}A/user", f"{unique}B/user")
    clients = [connect("client", username=name) for name in names]
    for client in clients:
        assert client.subscribe("#", 2) == 2
    for client, name in zip(clients, names, strict=True):
        for qos in (0, 1, 2):
            client.publish(Message(topic="same/topic", payload=name.encode(), qos=qos))
    for client, name in zip(clients, names, strict=True):
        assert client.receive_payloads(3) == [name.encode()] * 3
    for client in clients:  # Still connected, and nothing of the other came in between.
        client.publish(Message(topic="end", payload=b"end", qos=1))
        assert client.receive().topic == "end"


def test_retained_messages_stay_in_their_tenant(connect: Connect, unique: str) -> None:
    writer = connect("client", username=f"{unique}A/user")
    writer.publish(Message(topic="kept", payload=b"secret", qos=1, retain=True))
    stranger = connect("client", username=f"{unique}B/user")
    stranger.subscribe("#", 1)
    stranger.publish(Message(topic="kept", payload=b"end", qos=1))
    assert stranger.receive() == Message(topic="kept", payload=b"end", qos=1)


def test_persistent_session_is_of_one_tenant(connect: Connect, unique: str) -> None:
    connect("client", username=f"{unique}A/user", is_persistent=True).subscribe("a", 1)
    assert not connect("client", username=f"{unique}B/user").session_present


def test_will_stays_in_its_tenant(connect: Connect, unique: str) -> None:
    home, abroad = (connect("reader", username=f"{unique}{tenant}/user") for tenant in "AB")
    for reader in (home, abroad):
        reader.subscribe("#", 1)
    will = Message(topic="will", payload=b"gone", qos=1)
    connect("victim", username=f"{unique}A/other", will=will).drop()
    assert home.receive() == will
    abroad.publish(Message(topic="will", payload=b"end", qos=1))
    assert abroad.receive().payload == b"end"


def test_users_of_one_tenant_share_topics_and_not_sessions(connect: Connect, unique: str) -> None:
    first, second = (connect("client", username=f"{unique}A/{user}") for user in ("first", "second"))
    first.subscribe("a", 1)
    second.publish(Message(topic="a", payload=b"x", qos=1))
    assert first.receive().payload == b"x"
