"""What crosses shards when there are several, and must be the same when there is one."""

from collections import Counter
from collections.abc import Callable

import pytest

from support.memory_broker import Broker
from support.packets import MQTT_3_1_1, MQTT_5_0, Publish, Will

MakeBroker = Callable[..., Broker]


def test_everybody_gets_one_copy_wherever_they_live(broker: Broker) -> None:
    readers = [broker.connect(f"reader {number}") for number in range(20)]
    for reader in readers:
        reader.subscribe("a/+", "a/#", "a/b", qos=1)
    for number in range(10):
        broker.connect(f"writer {number}").publish("a/b", str(number).encode(), qos=1)
    for reader in readers:
        assert [message.payload for message in reader.take_messages()] == [str(n).encode() for n in range(10)]


def test_publisher_learns_of_subscribers_elsewhere(broker: Broker) -> None:
    readers = [broker.connect(f"reader {number}") for number in range(6)]
    writers = [broker.connect(f"writer {number}") for number in range(6)]
    assert {writer.publish("a", b"x", qos=1) for writer in writers} == {0x10}
    readers[0].subscribe("a")
    assert {writer.publish("a", b"x", qos=1) for writer in writers} == {0}


def test_taking_a_session_over_works_from_wherever_the_socket_came(broker: Broker) -> None:
    for number in range(6):
        broker.connect(f"filler {number}")  # Sockets begin on one shard after the other.
        client = broker.connect("same", clean_start=False, session_expiry_interval=100)
        client.subscribe(f"a/{number}", qos=1)
    session = broker.session("same")
    assert session is not None
    assert session.subscription_count == 6
    assert session.is_online


@pytest.mark.parametrize("topic_filter", ["#", "a/+", "a/5"])
def test_retained_messages_reach_subscribers_of_every_shard(broker: Broker, topic_filter: str) -> None:
    for number in range(10):
        broker.connect(f"writer {number}").publish(f"a/{number}", b"x", qos=1, retain=True)
    for number in range(6):
        reader = broker.connect(f"reader {number}")
        reader.subscribe(topic_filter, qos=1)
        messages = reader.take_messages()
        assert len(messages) == (1 if topic_filter == "a/5" else 10)
        assert all(message.retain for message in messages)


def test_thousands_of_retained_messages_all_arrive(broker: Broker) -> None:
    count = 5000
    writer = broker.connect("writer")
    batch = [Publish(topic=f"a/{n % 7}/{n}", payload=b"x", retain=True) for n in range(count)]
    for start in range(0, count, 500):
        writer.send(*batch[start : start + 500])
    for number in range(3):
        reader = broker.connect(f"reader {number}", version=MQTT_3_1_1)
        reader.subscribe("a/#", qos=1)
        topics = Counter(message.topic for message in reader.take_messages())
        assert len(topics) == count
        assert set(topics.values()) == {1}


def test_unsubscribing_stops_retained_messages_that_are_still_to_come(make_broker: MakeBroker) -> None:
    broker = make_broker(session_inbox_size=100)
    writer = broker.connect("writer")
    for start in range(0, 3000, 500):
        writer.send(*(Publish(topic=f"a/{n}", payload=b"x", qos=1, packet_id=n + 1, retain=True)
                      for n in range(start, start + 500)))  # fmt: skip
    reader = broker.connect("reader", receive_maximum=10)
    reader.subscribe("a/#", qos=1)
    came = reader.take_messages(acknowledge=False)
    assert len(came) == 10
    reader.unsubscribe("a/#")
    for message in came:
        reader.acknowledge(message)
    late = reader.take_messages()
    # What was in the inbox already may come; the walk has ended.
    assert len(late) <= 100


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
def test_shared_group_gives_each_message_to_one_member_and_all_a_share(broker: Broker, version: int) -> None:
    members = [broker.connect(f"member {number}", version=version) for number in range(5)]
    for member in members:
        member.subscribe("$share/group/a/+", qos=1)
    plain = broker.connect("plain")
    plain.subscribe("a/+", qos=1)
    writers = [broker.connect(f"writer {number}") for number in range(3)]
    for number in range(150):
        assert writers[number % 3].publish(f"a/{number}", str(number).encode(), qos=1) == 0
    shares = [[message.payload for message in member.take_messages()] for member in members]
    assert sorted(int(payload) for share in shares for payload in share) == list(range(150))
    assert all(len(share) >= 10 for share in shares), [len(share) for share in shares]
    assert len(plain.take_messages()) == 150


def test_ordered_group_keeps_a_publisher_with_one_member(broker: Broker) -> None:
    members = [broker.connect(f"member {number}") for number in range(4)]
    for member in members:
        member.subscribe("$oshare/group/a", qos=1)
    writers = [broker.connect(f"writer {number}") for number in range(8)]
    for number in range(20):
        for writer in writers:
            writer.publish("a", f"{writers.index(writer)} {number}".encode(), qos=1)
    owners: dict[bytes, set[int]] = {}
    for index, member in enumerate(members):
        for message in member.take_messages():
            owners.setdefault(message.payload.split()[0], set()).add(index)
    assert len(owners) == 8
    assert all(len(members_of_one) == 1 for members_of_one in owners.values())


def test_member_that_leaves_gets_nothing_more(broker: Broker) -> None:
    members = [broker.connect(f"member {number}") for number in range(4)]
    for member in members:
        member.subscribe("$share/group/a", qos=1)
    members[0].unsubscribe("$share/group/a")
    members[1].disconnect()
    members[2].drop()
    writer = broker.connect("writer")
    for _ in range(12):
        assert writer.publish("a", b"x", qos=1) == 0
    assert len(members[3].take_messages()) == 12
    assert members[0].take_messages() == []
    members[3].unsubscribe("$share/group/a")
    assert writer.publish("a", b"x", qos=1) == 0x10


def test_same_shared_filter_twice_is_one_subscription(broker: Broker) -> None:
    for number in range(6):
        member = broker.connect(f"member {number}")
        member.subscribe("$share/one/a", qos=0)
        member.subscribe("$share/one/a", qos=1)
        member.subscribe("$share/two/a", qos=1)
        session = broker.session(f"member {number}")
        assert session is not None
        assert session.subscription_count == 2


def test_will_reaches_subscribers_of_every_shard(broker: Broker) -> None:
    readers = [broker.connect(f"reader {number}") for number in range(6)]
    for reader in readers:
        reader.subscribe("will", qos=1)
    broker.connect("dying", will=Will(topic="will", payload=b"gone", qos=1)).drop()
    assert [reader.take_message().payload for reader in readers] == [b"gone"] * 6


def test_group_goes_on_when_the_members_whose_turn_it_was_have_left(broker: Broker) -> None:
    members = [broker.connect(f"member {number}") for number in range(6)]
    for member in members:
        member.subscribe("$share/group/a")
    writer = broker.connect("writer")
    for _ in range(5):
        writer.publish("a", b"x")
    for member in members[1:]:
        member.drop()
    members[0].take_messages()
    for _ in range(3):
        writer.publish("a", b"y")
    assert [message.payload for message in members[0].take_messages()] == [b"y"] * 3


def test_session_with_an_assigned_client_identifier_is_found_again(broker: Broker) -> None:
    for _ in range(6):
        client = broker.open()
        assigned = client.connect(session_expiry_interval=100).assigned_client_id
        assert assigned is not None
        assert broker.session(assigned) is not None
        client.drop()
        again = broker.open()
        assert again.connect(client_id=assigned, clean_start=False, session_expiry_interval=100).session_present
