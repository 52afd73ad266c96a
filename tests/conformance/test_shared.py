"""Shared subscriptions [MQTT5 4.8.2], `$share/{share_name}/{topic_filter}` and the ordered `$oshare/...`."""

from collections import Counter
from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, Client
from support.packets import MQTT_5_0, Puback, Pubcomp, Pubrec, Pubrel
from support.raw import STANDARDS

KINDS = ("$share", "$oshare")


def _members(broker: Broker, count: int, *, qos: int = 1, kind: str = "$share", **fields: int) -> list[Client]:
    members = [broker.connect(f"member {number}", **fields) for number in range(count)]
    for member in members:
        assert member.subscribe(f"{kind}/group/a/#", qos=qos).reason_codes == (qos,)
    return members


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("kind", KINDS)
def test_mqtt5_4_8_2_1_a_share_name_has_a_character(broker: Broker, version: int, kind: str) -> None:
    client = broker.connect("client", version=version)
    failure = 0x8F if version == MQTT_5_0 else 0x80
    wrong = (f"{kind}//a", f"{kind}/", kind, f"{kind}//")
    assert client.subscribe(*wrong).reason_codes == (failure,) * len(wrong)
    assert client.subscribe(f"{kind}/g/a", f"{kind}/€ x/a").reason_codes == (0, 0)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("kind", KINDS)
def test_mqtt5_4_8_2_2_a_share_name_has_no_wildcard_and_a_filter_follows(
    broker: Broker, version: int, kind: str
) -> None:
    client = broker.connect("client", version=version)
    failure = 0x8F if version == MQTT_5_0 else 0x80
    wrong = (f"{kind}/g+/a", f"{kind}/#/a", f"{kind}/+/a", f"{kind}/g", f"{kind}/g/")
    assert client.subscribe(*wrong).reason_codes == (failure,) * len(wrong)
    # The name ends at its slash: what follows is the filter.
    assert client.subscribe(f"{kind}/g//a").reason_codes == (0,)
    client.publish("/a", b"x")
    assert client.take_message().topic == "/a"


def test_mqtt5_4_8_2_3_a_member_gets_messages_at_its_granted_qos(broker: Broker) -> None:
    for granted in range(3):
        member = broker.connect("member")
        member.subscribe("$share/group/a", qos=granted)
        for published in range(3):
            member.publish("a", b"x", qos=published)
            assert member.take_message().qos == min(granted, published)


def test_mqtt5_4_8_2_4_a_delivery_at_qos_2_is_completed_with_the_same_member(broker: Broker) -> None:
    members = _members(broker, 2, qos=2, session_expiry_interval=100)
    broker.connect("writer").publish("a/b", b"x", qos=2)
    (chosen,) = [member for member in members if member._received]
    (other,) = [member for member in members if member is not chosen]
    number = members.index(chosen)
    message = chosen.take_message(acknowledge=False)
    chosen.drop()
    broker.advance(50)
    other.expect_nothing()
    chosen = broker.connect(f"member {number}", clean_start=False, session_expiry_interval=100)
    again = chosen.take_message(acknowledge=False)
    assert (again.packet_id, again.dup) == (message.packet_id, True)
    chosen.send(Pubrec(packet_id=again.packet_id))
    chosen.take(Pubrel)
    chosen.drop()
    chosen = broker.connect(f"member {number}", clean_start=False, session_expiry_interval=100)
    chosen.take(Pubrel)
    chosen.send(Pubcomp(packet_id=again.packet_id))
    other.expect_nothing()


def test_mqtt5_4_8_2_5_nobody_else_gets_a_qos_2_message_whose_member_has_gone(broker: Broker) -> None:
    members = _members(broker, 2, qos=2, session_expiry_interval=100)
    broker.connect("writer").publish("a/b", b"x", qos=2)
    (chosen,) = [member for member in members if member._received]
    (other,) = [member for member in members if member is not chosen]
    chosen.take_message(acknowledge=False)
    chosen.drop()
    broker.advance(101)
    other.expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_4_8_2_6_a_message_that_a_member_refuses_goes_to_no_other(broker: Broker, qos: int) -> None:
    members = _members(broker, 3, qos=qos)
    broker.connect("writer").publish("a/b", b"x", qos=qos)
    (chosen,) = [member for member in members if member._received]
    message = chosen.take_message(acknowledge=False)
    answer = Puback if qos == 1 else Pubrec
    chosen.send(answer(packet_id=message.packet_id, reason_code=0x83))
    broker.advance(10)
    for member in members:
        member.expect_nothing()


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_goes_to_one_member(broker: Broker, version: int, kind: str, qos: int) -> None:
    members = [broker.connect(f"member {number}", version=version) for number in range(4)]
    for member in members:
        member.subscribe(f"{kind}/group/a/#", qos=qos)
    writers = [broker.connect(f"writer {number}") for number in range(5)]
    for number in range(40):
        writers[number % 5].publish(f"a/{number}", b"%d" % number, qos=qos)
    received = Counter(message.payload for member in members for message in member.take_messages())
    assert received == Counter({b"%d" % number: 1 for number in range(40)})


def test_members_that_acknowledge_at_once_take_turns(make_broker: Callable[..., Broker]) -> None:
    # How busy a member on another shard is can only be estimated (docs/decisions/0004).
    broker = make_broker(shard_count=1)
    members = _members(broker, 4)
    writer = broker.connect("writer")
    counts = Counter[int]()
    for number in range(40):
        writer.publish("a/b", b"%d" % number, qos=1)
        for index, member in enumerate(members):
            counts[index] += len(member.take_messages())
    assert counts == {0: 10, 1: 10, 2: 10, 3: 10}


def test_a_member_that_does_not_keep_up_is_spared(broker: Broker) -> None:
    slow, *others = _members(broker, 3)
    writer = broker.connect("writer")
    unacknowledged = 0
    for number in range(60):
        writer.publish("a/b", b"%d" % number, qos=1)
        unacknowledged += len(slow.take_messages(acknowledge=False))
        for member in others:
            member.take_messages()
    assert unacknowledged == 1


def test_absent_members_get_nothing_while_another_is_there(broker: Broker) -> None:
    members = _members(broker, 3, session_expiry_interval=100)
    members[0].drop()
    members[2].drop()
    writer = broker.connect("writer")
    for number in range(10):
        writer.publish("a/b", b"%d" % number, qos=1)
    assert len(members[1].take_messages()) == 10
    members[1].drop()
    for number in range(4):
        writer.publish("a/b", b"%d" % number, qos=1)
    waiting = [len(broker.connect(f"member {number}", clean_start=False).take_messages()) for number in range(3)]
    assert sum(waiting) == 4


def test_members_that_have_gone_get_nothing(broker: Broker) -> None:
    stays, leaves, unsubscribes = _members(broker, 3)
    leaves.disconnect()
    unsubscribes.unsubscribe("$share/group/a/#")
    writer = broker.connect("writer")
    for number in range(10):
        writer.publish("a/b", b"%d" % number, qos=1)
    assert len(stays.take_messages()) == 10
    unsubscribes.expect_nothing()


def test_groups_and_subscriptions_of_the_same_filter_are_apart(broker: Broker) -> None:
    client = broker.connect("client")
    client.subscribe("a", "$share/one/a", "$share/two/a", "$oshare/one/a", qos=1)
    client.publish("a", b"x", qos=1)
    assert len(client.take_messages()) == 4
    assert client.unsubscribe("$share/one/a", "$share/three/a").reason_codes == (0, 0x11)
    client.publish("a", b"x", qos=1)
    assert len(client.take_messages()) == 3
    client.unsubscribe("a")
    client.publish("a", b"x", qos=1)
    assert len(client.take_messages()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_shared_subscriptions_get_no_retained_messages(broker: Broker, kind: str) -> None:
    client = broker.connect("client")
    client.publish("a", b"x", retain=True)
    for retain_handling in range(3):
        client.subscribe(f"{kind}/group/a", retain_handling=retain_handling)
    client.expect_nothing()


def test_one_publishers_messages_keep_to_one_member_of_an_ordered_group(broker: Broker) -> None:
    members = _members(broker, 4, kind="$oshare")
    writers = [broker.connect(f"writer {number}") for number in range(12)]
    for number in range(10):
        for index, writer in enumerate(writers):
            writer.publish(f"a/{number}", b"%d %d" % (index, number), qos=1)
    chosen: dict[bytes, int] = {}
    for index, member in enumerate(members):
        received: dict[bytes, list[int]] = {}
        for message in member.take_messages():
            writer_name, position = message.payload.split()
            received.setdefault(writer_name, []).append(int(position))
        for writer_name, numbers in received.items():
            assert numbers == list(range(10))
            assert writer_name not in chosen
            chosen[writer_name] = index
    assert len(chosen) == 12
    assert len(set(chosen.values())) > 1


@pytest.mark.parametrize("shard_count", [1, 3])
def test_a_group_has_a_limit(make_broker: Callable[..., Broker], shard_count: int) -> None:
    broker = make_broker(max_shared_group_members=2, shard_count=shard_count)
    members = [broker.connect(f"member {number}") for number in range(3)]
    assert [member.subscribe("$share/g/a").reason_codes for member in members] == [(0,), (0,), (0x97,)]
    assert members[2].subscribe("$share/h/a").reason_codes == (0,)
    # A member may change its options, and one that leaves makes room.
    assert members[0].subscribe("$share/g/a", qos=1).reason_codes == (1,)
    members[0].unsubscribe("$share/g/a")
    assert members[2].subscribe("$share/g/a").reason_codes == (0,)
    # The same name, ordered, is another group.
    assert members[0].subscribe("$oshare/g/a").reason_codes == (0,)
    # A session that ends makes room, too.
    members[1].drop()
    assert members[0].subscribe("$share/g/a").reason_codes == (0,)
    assert members[0].subscribe("$share/g/b").reason_codes == (0,)


def test_one_publication_reaches_a_limited_number_of_groups(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(max_group_fanout=3, shard_count=1)  # Each shard counts for itself (docs/operations.md).
    client = broker.connect("client")
    client.subscribe("a", *(f"$share/group{number}/{topic_filter}" for number in range(3) for topic_filter in "a+"))
    client.publish("a", b"x")
    # The subscription that is not shared does not count.
    assert len(client.take_messages()) == 1 + 3
    assert broker.count("messages_dropped") == 3
