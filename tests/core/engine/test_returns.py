"""What a member of a shared group leaves behind when its session ends goes to another member [MQTT5 4.8.2]."""

from collections.abc import Iterator

import pytest

from support.memory_broker import Broker, Client
from support.packets import MQTT_3_1_1, MQTT_5_0, Puback, Publish, Pubrec

FILTER = "$share/group/jobs"


@pytest.fixture(params=[1, 3])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    broker = Broker(shard_count=request.param, min_session_expiry_seconds=1)
    yield broker
    broker.close()


def member(broker: Broker, name: str, *, qos: int = 1, **fields: object) -> Client:
    client = broker.connect(name, **fields)  # type: ignore[arg-type]  # fields of CONNECT
    client.subscribe(FILTER, qos=qos)
    return client


def publish(broker: Broker, count: int, qos: int = 1) -> set[bytes]:
    """So many jobs of a publisher of its own."""
    publisher = broker.connect("publisher")
    payloads = {b"%d" % number for number in range(count)}
    for payload in sorted(payloads):
        publisher.publish("jobs", payload, qos=qos)
    publisher.drop()
    return payloads


def payloads(messages: list[Publish]) -> list[bytes]:
    return sorted(message.payload for message in messages)


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
def test_messages_without_puback_go_to_another_member(broker: Broker, version: int) -> None:
    leaver = member(broker, "leaver", version=version)
    stayer = member(broker, "stayer")
    jobs = publish(broker, 20)
    kept = payloads(stayer.take_messages())
    lost = payloads(leaver.take_messages(acknowledge=False))
    assert {*kept, *lost} == jobs
    assert lost
    leaver.drop()
    again = stayer.take_messages()
    assert payloads(again) == lost
    assert not any(message.dup for message in again)
    assert broker.count("messages_dropped") == 0


def test_messages_with_puback_go_to_nobody_else(broker: Broker) -> None:
    leaver, stayer = member(broker, "leaver"), member(broker, "stayer")
    publish(broker, 10)
    leaver.take_messages()
    stayer.take_messages()
    leaver.drop()
    stayer.expect_nothing()


@pytest.mark.parametrize("answer", [Puback, Pubrec])
def test_mqtt5_4_8_2_6_message_that_a_member_refused_goes_to_nobody_else(broker: Broker, answer: type) -> None:
    qos = 1 if answer is Puback else 2
    leaver, stayer = member(broker, "leaver", qos=qos), member(broker, "stayer", qos=qos)
    publish(broker, 10, qos)
    stayer.take_messages()
    for message in leaver.take_messages(acknowledge=False):
        leaver.send(answer(packet_id=message.packet_id, reason_code=0x83))
    leaver.drop()
    stayer.expect_nothing()


@pytest.mark.parametrize("is_received", [False, True])
def test_mqtt5_4_8_2_5_qos_2_message_that_was_sent_goes_to_nobody_else(broker: Broker, is_received: bool) -> None:
    leaver, stayer = member(broker, "leaver", qos=2), member(broker, "stayer", qos=2)
    publish(broker, 10, 2)
    stayer.take_messages()
    for message in leaver.take_messages(acknowledge=False):
        if is_received:
            leaver.send(Pubrec(packet_id=message.packet_id or 0))
    leaver.drop()
    stayer.expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_that_waited_for_a_full_window_go_to_another_member(broker: Broker, qos: int) -> None:
    leaver = member(broker, "leaver", qos=qos, receive_maximum=1)
    jobs = publish(broker, 5, qos)
    first = leaver.take_messages(acknowledge=False)
    assert len(first) == 1
    stayer = member(broker, "stayer", qos=qos)
    leaver.drop()
    expected = jobs if qos == 1 else jobs - {first[0].payload}
    assert set(payloads(stayer.take_messages())) == expected


def test_queue_of_an_offline_member_goes_to_another_one_when_its_session_expires(broker: Broker) -> None:
    leaver = member(broker, "leaver", session_expiry_interval=60)
    leaver.drop()
    jobs = publish(broker, 5)
    stayer = member(broker, "stayer")
    broker.advance(50)
    stayer.expect_nothing()
    broker.advance(20)
    assert set(payloads(stayer.take_messages())) == jobs


def test_session_that_goes_on_keeps_what_it_got(broker: Broker) -> None:
    leaver = member(broker, "leaver", session_expiry_interval=60)
    stayer = member(broker, "stayer")
    publish(broker, 10)
    stayer.take_messages()
    own = payloads(leaver.take_messages(acknowledge=False))
    leaver.drop()
    stayer.expect_nothing()
    leaver = broker.connect("leaver", clean_start=False, session_expiry_interval=60)
    assert payloads(leaver.take_messages()) == own


def test_clean_start_ends_the_session_and_gives_back(broker: Broker) -> None:
    leaver = member(broker, "leaver", session_expiry_interval=60)
    stayer = member(broker, "stayer")
    publish(broker, 10)
    stayer.take_messages()
    own = payloads(leaver.take_messages(acknowledge=False))
    leaver.drop()
    broker.connect("leaver", clean_start=True)
    assert payloads(stayer.take_messages()) == own


def test_last_member_gives_back_to_nobody(broker: Broker) -> None:
    for number in range(16):
        broker.connect(f"bystander{number}")  # so that the tenant, and its counters, stay on every shard
    leaver = member(broker, "leaver")
    publish(broker, 3)
    leaver.take_messages(acknowledge=False)
    leaver.drop()
    member(broker, "late").expect_nothing()
    assert broker.count("messages_dropped") == 3


def test_what_came_by_a_filter_that_was_left_stays_with_the_session(broker: Broker) -> None:
    leaver, stayer = member(broker, "leaver"), member(broker, "stayer")
    publish(broker, 10)
    stayer.take_messages()
    assert leaver.take_messages(acknowledge=False)
    leaver.unsubscribe(FILTER)
    leaver.subscribe("$share/other/things", qos=1)  # in the place that became free
    member(broker, "third").unsubscribe(FILTER)
    leaver.drop()
    stayer.expect_nothing()


def test_members_that_leave_one_after_the_other_pass_the_messages_on(broker: Broker) -> None:
    members = [member(broker, f"m{number}") for number in range(6)]
    jobs = publish(broker, 60)
    for leaver in members[:-1]:
        leaver.drop()
    held: list[bytes] = []
    for _ in range(2):
        held += payloads(members[-1].take_messages())
    assert sorted(held) == sorted(jobs)


def test_ordered_group_keeps_the_order_of_what_is_passed_on(broker: Broker) -> None:
    first = broker.connect("first")
    second = broker.connect("second")
    for client in (first, second):
        client.subscribe("$oshare/group/jobs", qos=1)
    publisher = broker.connect("publisher")
    for number in range(9):
        publisher.publish("jobs", b"%d" % number, qos=1)
    held = {
        client: [message.payload for message in client.take_messages(acknowledge=False)] for client in (first, second)
    }
    leaver, stayer = (first, second) if held[first] else (second, first)
    assert len(held[leaver]) == 9
    leaver.drop()
    assert [message.payload for message in stayer.take_messages()] == held[leaver]
