"""Verdicts that hold for others: whom a shard lets in by itself, and when it asks again."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule_set import Permissions
from support.memory_broker import TENANT, Admitted, Broker, Challenged, Refused, Verdict
from support.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    Connack,
    Connect,
    Pingreq,
    Publish,
    Subscribe,
    Subscription,
    encode,
)
from support.permission_rules import allow

NOT_AUTHORIZED = 0x87
HOUR_MS = 3_600_000

MakeBroker = Callable[..., Broker]


class House:
    """A broker whose control plane counts the questions, and answers as the test says."""

    def __init__(self, make_broker: MakeBroker, **words: Any) -> None:
        self.asked: list[ConnectRequested] = []
        self.verdict: Verdict | None = Admitted(remember_ms=HOUR_MS)
        self.broker: Broker = make_broker(decide=self._decide, **words)
        self._number = 0

    def _decide(self, request: ConnectRequested) -> Verdict | None:
        self.asked.append(request)
        return self.verdict

    def questions(self, **fields: Any) -> int:
        """How often the shards ask when one client comes to each of them; all are let in."""
        before = len(self.asked)
        for _ in range(self.broker.engine.shard_count):
            self._number += 1
            self.broker.connect(f"client{self._number}", **fields)
        return len(self.asked) - before

    @property
    def shards(self) -> int:
        return self.broker.engine.shard_count


@pytest.fixture
def house(make_broker: MakeBroker) -> House:
    return House(make_broker)


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1, MQTT_5_0])
def test_same_user_name_and_password_are_asked_about_once_by_each_shard(house: House, version: int) -> None:
    credentials = {"username": "bob", "password": b"secret", "version": version}
    assert house.questions(**credentials) == house.shards
    assert house.questions(**credentials) == 0
    assert house.broker.count("verdicts_recalled") == house.shards


def test_clients_without_credentials_are_alike(house: House) -> None:
    assert house.questions() == house.shards
    assert house.questions() == 0
    # An empty name is another question than none.
    assert house.questions(username="") == house.shards


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "bob", "password": b"other"},
        {"username": "bob", "password": b""},
        {"username": "bob"},
        {"username": "bo", "password": b"bsecret"},
        {"username": "bobsecret", "password": b""},
        {"username": "secret", "password": b"bob"},
        {"password": b"secret"},
        {},
    ],
    ids=repr,
)
def test_other_credentials_are_another_question(house: House, fields: dict[str, Any]) -> None:
    house.questions(username="bob", password=b"secret")
    assert house.questions(**fields) == house.shards


def test_client_is_let_in_with_all_that_was_decided(house: House) -> None:
    house.verdict = Admitted(
        "acme",
        "ann",
        attributes=b'{"a": "b"}',
        reason_string="welcome",
        user_properties=(("k", "v"),),
        response_information="answers/",
        message_user_properties=(("from", "ann"),),
        remember_ms=HOUR_MS,
    )
    house.questions()
    for number in range(house.shards):
        reader = house.broker.open()
        connack = reader.connect(client_id=f"reader{number}", request_response_information=1)
        assert (connack.reason_string, connack.user_properties) == ("welcome", (("k", "v"),))
        assert connack.response_information == "answers/"
        info = house.broker.session(f"reader{number}", tenant_id="acme", user_id="ann")
        assert info is not None
        assert info.attributes == b'{"a": "b"}'
        reader.subscribe(f"t/{number}")
        house.broker.connect("writer").publish(f"t/{number}", b"x")
        (message,) = reader.take_messages()
        assert message.user_properties == (("from", "ann"),)
    assert len(house.asked) == house.shards


def test_packets_behind_the_connect_are_handled_in_order(house: House) -> None:
    house.questions()
    for number in range(house.shards * 3):
        client = house.broker.open()
        client.send(
            Connect(client_id=f"eager{number}"),
            Subscribe(packet_id=1, subscriptions=(Subscription(f"e/{number}"),)),
            Publish(topic=f"e/{number}", payload=b"mine"),
            Pingreq(),
        )
        names = [type(packet).__name__ for packet in client.take_all()]
        assert names == ["Connack", "Suback", "Publish", "Pingresp"]
    assert len(house.asked) == house.shards


def test_session_is_taken_over_and_resumed(house: House) -> None:
    house.questions()
    first = house.broker.connect("dev", session_expiry_interval=100)
    first.subscribe("a", qos=1)
    second = house.broker.open()
    assert second.connect(client_id="dev", clean_start=False, session_expiry_interval=100).session_present
    assert not first.is_open
    house.broker.connect("writer").publish("a", b"x", qos=1)
    assert [message.payload for message in second.take_messages()] == [b"x"]
    assert len(house.asked) == house.shards


def test_client_identifier_is_chosen_for_whoever_names_none(house: House) -> None:
    house.questions()
    names = set()
    for _ in range(2 * house.shards):
        connack = house.broker.open().connect(client_id="")
        assert connack.assigned_client_id
        names.add(connack.assigned_client_id)
    assert len(names) == 2 * house.shards
    assert len(house.asked) == house.shards


# When it does not hold


def test_verdict_that_says_nothing_holds_for_one(house: House) -> None:
    house.verdict = Admitted()
    house.questions()
    assert house.questions() == house.shards


def test_verdict_ends_with_its_time(house: House) -> None:
    house.questions()
    house.broker.advance(HOUR_MS / 1000 - 1)
    assert house.questions() == 0
    house.broker.advance(1)
    assert house.questions() == house.shards


def test_forgotten_verdict_holds_no_more(house: House) -> None:
    house.questions()
    house.broker.engine.forget_verdicts()
    # At once, not when the shards get to it.
    client = house.broker.open()
    client.send(Connect(client_id="next"))
    assert len(house.asked) == house.shards + 1
    house.broker.settle()
    assert house.questions() == house.shards - 1


class Visitor:
    """Comes by a socket that the engine adopts."""

    def __init__(self, house: House, **words: Any) -> None:
        self._house = house
        self._words = words

    def __enter__(self) -> None:
        end, other_end = socket.socketpair()
        other_end.setblocking(False)
        self._end = end
        self._house.broker.engine.adopt(other_end.fileno(), peer="visitor", **self._words)
        other_end.detach()
        end.sendall(encode(Connect(client_id="visitor"), MQTT_5_0))
        end.setblocking(False)
        self._house.broker.settle()
        assert end.recv(100)[0] == Connack.packet_type << 4

    def __exit__(self, *error: object) -> None:
        self._end.close()
        self._house.broker.settle()


@pytest.mark.parametrize(("words", "is_asked_about"), [({}, False), ({"listener_id": 1}, True), ({"ticket": 9}, True)])
def test_another_listener_or_a_certificate_is_another_question(
    house: House, words: dict[str, Any], is_asked_about: bool
) -> None:
    house.questions()
    before = len(house.asked)
    with Visitor(house, **words):
        assert len(house.asked) - before == is_asked_about
    # What was decided about a client with a ticket holds for no other one.
    with Visitor(house, **words):
        assert len(house.asked) - before == (2 if "ticket" in words else is_asked_about)


def test_verdict_about_a_question_from_before_is_not_remembered(house: House) -> None:
    house.verdict = None
    client = house.broker.open()
    client.send(Connect(client_id="slow"))
    house.broker.engine.forget_verdicts()
    house.broker.admit_waiting(Admitted(remember_ms=HOUR_MS))
    assert client.take(Connack).reason_code == 0
    house.verdict = Admitted(remember_ms=HOUR_MS)
    assert house.questions() == house.shards


def test_refusal_is_never_remembered(house: House) -> None:
    house.verdict = Refused(NOT_AUTHORIZED)
    for count in range(1, 4):
        connack = house.broker.open().connect(client_id="c", username="eve", password=b"guess")
        assert connack.reason_code == NOT_AUTHORIZED
        assert len(house.asked) == count


def test_exchange_is_asked_about_each_time(make_broker: MakeBroker) -> None:
    house = House(make_broker, answer=lambda received: Admitted(authentication_data=b"end"))
    house.questions()
    house.verdict = Challenged(b"who")
    before = len(house.asked)
    for _ in range(house.shards):
        client = house.broker.open()
        client.send(Connect(client_id="c", authentication_method="M"))
    assert len(house.asked) == before + house.shards


@pytest.mark.parametrize("words", [{"lifetime_ms": 1000}, {"authentication_data": b"x"}], ids=repr)
def test_what_holds_for_one_connection_cannot_hold_for_others(broker: Broker, words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="holds for one connection"):
        broker.engine.admit(0, tenant_id=TENANT, user_id="u", remember_ms=1, **words)


def test_replaced_rules_hold_for_whoever_comes_after(house: House) -> None:
    rules = Permissions([allow("a/#")])
    house.verdict = Admitted(permissions=rules, remember_ms=HOUR_MS)
    house.questions()
    assert house.broker.connect("before").publish("a/b", b"x", qos=1) != NOT_AUTHORIZED
    later = Permissions([allow("b/#")])
    house.broker.engine.replace_permissions(rules, later)
    house.verdict = Admitted(permissions=later, remember_ms=HOUR_MS)
    assert house.questions() == house.shards
    client = house.broker.connect("after")
    assert client.publish("a/b", b"x", qos=1) == NOT_AUTHORIZED
    assert client.publish("b/b", b"x", qos=1) != NOT_AUTHORIZED


def test_quota_and_settings_of_the_tenant_hold_for_all(make_broker: MakeBroker) -> None:
    house = House(make_broker, mqtt5_enabled=False)
    house.questions(version=MQTT_3_1_1)
    for _ in range(house.shards):
        assert house.broker.open(MQTT_5_0).connect(client_id="five").reason_code == 0x84
    assert len(house.asked) == house.shards


def test_many_verdicts_take_bounded_room() -> None:
    house = House(lambda **words: Broker(shard_count=1, **words))
    # More than there are places: each is remembered until another one gets its place.
    for number in range(20_000):
        client = house.broker.open()
        client.connect(client_id="c", username=f"user{number}")
        client.drop()
        house.broker._clients.clear()
    assert len(house.asked) == 20_000
    kept = 0
    for number in range(19_900, 20_000):
        before = len(house.asked)
        client = house.broker.open()
        client.connect(client_id="c", username=f"user{number}")
        kept += len(house.asked) == before
    assert kept > 90
    house.broker.close()


def test_pings_go_on(house: House) -> None:
    house.questions()
    client = house.broker.connect("p", keep_alive=10)
    for _ in range(3):
        house.broker.advance(10)
        client.ping()
    house.broker.advance(16)
    assert not client.is_open
