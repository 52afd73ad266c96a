"""Rules hold for whatever a client does, from CONNECT on, and as soon as they are replaced."""

from collections.abc import Callable, Sequence

import pytest

from rookery.core.notices import NoticeKind
from rookery.core.permissions.rule import Action, Effect, Rule
from rookery.core.permissions.rule_set import Permissions
from support.memory_broker import TENANT, USER, Admitted, Broker
from support.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    Disconnect,
    Puback,
    Publish,
    Will,
)
from support.permission_rules import allow, deny

NOT_AUTHORIZED = 0x87

MakeBroker = Callable[..., Broker]


class House:
    """A broker whose clients have the rules of their user; a user without rules may do everything."""

    def __init__(self, make_broker: MakeBroker) -> None:
        self.permissions: dict[str, Permissions] = {}
        self.broker: Broker = make_broker(decide=lambda request: self._admit(request.username or USER))

    def give(self, rules: Sequence[Rule], user_id: str = "limited", *, disconnects: bool = False) -> Permissions:
        self.permissions[user_id] = Permissions(rules, disconnects=disconnects)
        return self.permissions[user_id]

    def _admit(self, username: str) -> Admitted:
        tenant_id, _, user_id = username.rpartition("/")
        return Admitted(tenant_id or TENANT, user_id, permissions=self.permissions.get(user_id))


@pytest.fixture
def house(make_broker: MakeBroker) -> House:
    return House(make_broker)


# Publish


@pytest.mark.parametrize("qos", [1, 2])
def test_denied_publication_is_answered_with_not_authorized(house: House, qos: int) -> None:
    house.give([allow("a/#")])
    reader = house.broker.connect("reader")
    reader.subscribe("#")
    writer = house.broker.connect("writer", username="limited")
    assert writer.publish("b", b"denied", qos=qos) == NOT_AUTHORIZED
    assert writer.publish("a/b", b"allowed", qos=qos) == 0
    assert [message.payload for message in reader.take_messages()] == [b"allowed"]
    assert house.broker.count("actions_denied") == 1


def test_denied_publication_of_qos_0_is_dropped_and_counted(house: House) -> None:
    house.give([allow("a/#")])
    reader = house.broker.connect("reader")
    reader.subscribe("#")
    writer = house.broker.connect("writer", username="limited")
    refused = house.broker.observe(NoticeKind.PUBLISH_REFUSED)
    writer.publish("b", b"denied")
    writer.ping()
    reader.expect_nothing()
    assert house.broker.count("actions_denied") == 1
    assert [(notice.text, notice.numbers[2]) for notice in refused] == [("b", NOT_AUTHORIZED)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_denied_publication_disconnects_where_the_rules_say_so(house: House, qos: int) -> None:
    house.give([allow("a/#")], disconnects=True)
    writer = house.broker.connect("writer", username="limited")
    writer.send(Publish(topic="b", qos=qos, packet_id=1 if qos else 0))
    farewell = writer.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == NOT_AUTHORIZED


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_denied_publication_disconnects_older_clients(house: House, version: int, qos: int) -> None:
    house.give([allow("a/#")])
    writer = house.broker.connect("writer", version=version, username="limited")
    writer.send(Publish(topic="b", qos=qos, packet_id=1 if qos else 0))
    assert writer.expect_closed() is None


def test_reason_is_told_only_to_those_who_ask_for_it(house: House) -> None:
    house.give([])
    curious = house.broker.connect("curious", username="limited", request_problem_information=1)
    curious.send(Publish(topic="b", qos=1, packet_id=1))
    assert curious.take(Puback).reason_string == "a permission rule does not allow this publication"
    content = house.broker.connect("content", username="limited", request_problem_information=0)
    content.send(Publish(topic="b", qos=1, packet_id=1))
    assert content.take(Puback).reason_string is None


def test_qos_and_retain_flag_are_held_to_what_the_rule_allows(house: House) -> None:
    house.give([allow("a", max_qos=1, retain=False)])
    writer = house.broker.connect("writer", username="limited")
    assert writer.publish("a", qos=1) == 0x10  # No matching subscribers.
    assert writer.publish("a", qos=2) == NOT_AUTHORIZED
    assert writer.publish("a", b"x", qos=1, retain=True) == NOT_AUTHORIZED
    assert house.broker.count("retained_messages") == 0


def test_many_topics_get_their_own_verdicts_however_often_they_alternate(house: House) -> None:
    # More than the session remembers, some too long to be remembered.
    house.give([allow("even/+"), allow("long/#")])
    writer = house.broker.connect("writer", username="limited")
    topics = {f"even/{number}": 0x10 for number in range(300)}
    topics |= {f"odd/{number}": NOT_AUTHORIZED for number in range(300)}
    topics |= {"long/" + "x" * 200: 0x10, "wrong/" + "x" * 200: NOT_AUTHORIZED}
    for _ in range(3):
        assert {topic: writer.publish(topic, qos=1) for topic in topics} == topics


def test_topics_in_one_piece_get_their_own_verdicts(house: House) -> None:
    house.give([allow("a")])
    writer = house.broker.connect("writer", username="limited")
    topics = "aaabbabaaab"
    writer.send(*(Publish(topic=topic, qos=1, packet_id=number) for number, topic in enumerate(topics, start=1)))
    codes = [packet.reason_code for packet in writer.take_all() if isinstance(packet, Puback)]
    assert codes == [0x10 if topic == "a" else NOT_AUTHORIZED for topic in topics]


def test_alias_is_checked_as_its_topic(house: House) -> None:
    house.give([allow("a")])
    writer = house.broker.connect("writer", username="limited")
    assert writer.publish("b", qos=1, topic_alias=1) == NOT_AUTHORIZED
    assert writer.publish("", qos=1, topic_alias=1) == NOT_AUTHORIZED
    assert writer.publish("a", qos=1, topic_alias=1) == 0x10
    assert writer.publish("", qos=1, topic_alias=1) == 0x10


# Subscribe and unsubscribe


@pytest.mark.parametrize(("version", "code"), [(MQTT_5_0, NOT_AUTHORIZED), (MQTT_3_1_1, 0x80)])
def test_denied_topic_filter_fails_alone(house: House, version: int, code: int) -> None:
    house.give([allow("a/#")])
    reader = house.broker.connect("reader", version=version, username="limited")
    assert reader.subscribe("a/+", "b", "a/#").reason_codes == (0, code, 0)
    writer = house.broker.connect("writer")
    writer.publish("b", b"secret")
    reader.expect_nothing()


@pytest.mark.parametrize("prefix", ["$share/g/", "$oshare/g/"])
def test_rules_look_inside_shared_subscriptions(house: House, prefix: str) -> None:
    house.give([allow("mine/#")])
    reader = house.broker.connect("reader", username="limited")
    assert reader.subscribe(f"{prefix}mine/#", f"{prefix}other-tenant/#", f"{prefix}#").reason_codes == (
        0,
        NOT_AUTHORIZED,
        NOT_AUTHORIZED,
    )


def test_granted_qos_is_what_the_rules_allow(house: House) -> None:
    house.give([allow("a/low", max_qos=0), allow("a/#", max_qos=1)])
    reader = house.broker.connect("reader", username="limited")
    assert reader.subscribe("a/low", "a/other", "a/#", qos=2).reason_codes == (0, 1, 0)


def test_wildcards_do_not_reach_what_is_denied_inside(house: House) -> None:
    house.give([deny("+/secret/#"), allow("#")])
    reader = house.broker.connect("reader", username="limited")
    assert reader.subscribe("#", "a/+", "a/b/#", "a/secret").reason_codes == (
        NOT_AUTHORIZED,
        NOT_AUTHORIZED,
        0,
        NOT_AUTHORIZED,
    )


def test_denied_unsubscribe_leaves_the_subscription(house: House) -> None:
    house.give([deny("alarm/#", Action.UNSUBSCRIBE), allow("#")])
    reader = house.broker.connect("reader", username="limited")
    reader.subscribe("alarm/fire", "news")
    assert reader.unsubscribe("alarm/fire", "news", "alarm/none").reason_codes == (NOT_AUTHORIZED, 0, NOT_AUTHORIZED)
    house.broker.connect("writer").publish("alarm/fire", b"!")
    assert reader.take_message().payload == b"!"


def test_retained_messages_come_only_by_allowed_filters(house: House) -> None:
    writer = house.broker.connect("writer")
    for topic in ("a/open", "a/secret", "b"):
        writer.publish(topic, topic.encode(), retain=True)
    house.give([deny("a/secret"), allow("a/+")])
    reader = house.broker.connect("reader", username="limited")
    reader.subscribe("a/#", "a/+", "#", "b", "a/secret")
    reader.expect_nothing()
    reader.subscribe("a/open")
    assert [message.topic for message in reader.take_messages()] == ["a/open"]


# Names in rules


@pytest.mark.parametrize("client_id", ["#", "+", "a/b", "a/#"])
def test_client_identifier_cannot_widen_a_rule(house: House, client_id: str) -> None:
    house.give([allow("dev/%c/#")])
    client = house.broker.connect(client_id, username="limited")
    assert client.subscribe("dev/#", "dev/+/x", "dev/a/b/x").reason_codes == (NOT_AUTHORIZED,) * 3
    assert client.publish("dev/a/b/x", qos=1) == NOT_AUTHORIZED


def test_one_set_means_each_client_and_each_tenant_by_his_own_name(house: House) -> None:
    house.give([allow("%t/%u/%c/#")])
    for tenant_id in ("red", "blue"):
        for client_id in ("one", "two"):
            client = house.broker.connect(client_id, username=f"{tenant_id}/limited")
            assert client.publish(f"{tenant_id}/limited/{client_id}/x", qos=1) == 0x10
            assert client.publish(f"red/limited/other/{client_id}", qos=1) == NOT_AUTHORIZED
            assert client.publish(f"green/limited/{client_id}/x", qos=1) == NOT_AUTHORIZED


def test_same_user_of_two_tenants_has_two_sets_of_rules(make_broker: MakeBroker) -> None:
    permissions = {"red": Permissions([allow("red/#")]), "blue": Permissions([allow("blue/#")])}
    broker = make_broker(decide=lambda request: Admitted(request.username, permissions=permissions[request.username]))
    red, blue = (broker.connect("same", username=name) for name in ("red", "blue"))
    assert [client.publish("red/x", qos=1) for client in (red, blue)] == [0x10, NOT_AUTHORIZED]
    assert [client.subscribe("blue/#").reason_codes for client in (red, blue)] == [(NOT_AUTHORIZED,), (0,)]


# Wills


@pytest.mark.parametrize("version", [MQTT_5_0, MQTT_3_1_1])
@pytest.mark.parametrize("will", [Will(topic="b"), Will(topic="a", qos=2), Will(topic="a", retain=True)])
def test_will_that_may_not_be_published_is_refused_at_connect(house: House, version: int, will: Will) -> None:
    house.give([allow("a", max_qos=1, retain=False)])
    client = house.broker.open(version)
    connack = client.connect(client_id="c", username="limited", will=will)
    assert connack.reason_code == (NOT_AUTHORIZED if version == MQTT_5_0 else 5)
    client.expect_closed()


def test_will_is_checked_again_when_it_is_published(house: House) -> None:
    old = house.give([allow("last/#")])
    reader = house.broker.connect("reader")
    reader.subscribe("last/#")
    online, delayed = (
        house.broker.connect(
            f"c{delay}",
            username="limited",
            will=Will(topic=f"last/{delay}", will_delay_interval=delay),
            session_expiry_interval=60,
        )
        for delay in (0, 10)
    )
    delayed.drop()
    house.broker.engine.replace_permissions(old, Permissions([allow("other")]))
    house.broker.settle()
    online.drop()
    house.broker.advance(20)
    reader.expect_nothing()
    assert house.broker.count("actions_denied") == 2


# Rules that are replaced


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "$share/g/a/b", "$oshare/g/a/#"])
def test_replaced_rules_end_subscriptions_at_once(house: House, topic_filter: str) -> None:
    old = house.give([allow("a/#"), allow("b")])
    reader = house.broker.connect("reader", username="limited")
    reader.subscribe(topic_filter, "b")
    house.broker.engine.replace_permissions(old, Permissions([allow("b")]))
    house.broker.settle()
    writer = house.broker.connect("writer")
    writer.publish("a/b", b"secret")
    writer.publish("b", b"news")
    assert [message.payload for message in reader.take_messages()] == [b"news"]
    session = house.broker.session("reader", user_id="limited")
    assert session is not None
    assert session.subscription_count == 1


def test_many_subscriptions_are_reviewed_in_steps_while_clients_come_and_go(make_broker: MakeBroker) -> None:
    house = House(make_broker)
    broker = house.broker
    old = house.give([allow("#")])
    readers = [broker.connect(f"r{number}", username="limited", session_expiry_interval=0) for number in range(100)]
    for reader in readers:
        reader.subscribe(*(f"a/{number}" for number in range(99)), "b")
    ended = broker.observe(NoticeKind.UNSUBSCRIBED)
    middle, last = Permissions([allow("a/#"), allow("b")]), Permissions([allow("b")])
    broker.engine.replace_permissions(old, middle)
    broker.engine.replace_permissions(middle, last)
    broker.engine.turn(0, broker.now_ms)
    ended.extend(broker.engine.take_notices(0)[0])
    assert 0 < len(ended) < 99 * 100
    # Whoever the walk would come to next is among those that go.
    for reader in readers[::2]:
        reader.send_only(Disconnect())
    broker.engine.turn(0, broker.now_ms)
    final = Permissions([])
    broker.engine.replace_permissions(last, final)
    house.permissions["limited"] = final
    late = broker.connect("late", username="limited")
    assert late.subscribe("b").reason_codes == (NOT_AUTHORIZED,)
    assert broker.count("subscriptions") == 0
    assert broker.count("sessions") == 51


def test_replaced_rules_hold_for_the_next_publication(house: House) -> None:
    old = house.give([allow("a")])
    writer = house.broker.connect("writer", username="limited")
    assert writer.publish("a", qos=1) == 0x10
    house.broker.engine.replace_permissions(old, Permissions([allow("b")]))
    house.broker.settle()
    assert writer.publish("a", qos=1) == NOT_AUTHORIZED
    assert writer.publish("b", qos=1) == 0x10


def test_replaced_rules_hold_for_clients_that_are_let_in_by_the_old_ones(house: House) -> None:
    old = house.give([allow("a")])
    house.broker.engine.replace_permissions(old, Permissions([allow("b")]))
    writer = house.broker.connect("writer", username="limited")
    assert writer.publish("a", qos=1) == NOT_AUTHORIZED
    assert writer.publish("b", qos=1) == 0x10


def test_replaced_rules_touch_nobody_else(house: House) -> None:
    old = house.give([allow("a")])
    house.give([allow("a")], "neighbour")
    neighbour = house.broker.connect("n", username="neighbour")
    neighbour.subscribe("a")
    free = house.broker.connect("f")
    free.subscribe("a")
    house.broker.engine.replace_permissions(old, Permissions([]))
    house.broker.settle()
    assert neighbour.publish("a", b"x", qos=1) == 0
    assert neighbour.take_message().payload == b"x"
    assert free.take_message().payload == b"x"


def test_waiting_messages_that_may_not_be_read_any_more_are_dropped(house: House) -> None:
    old = house.give([allow("#")])
    reader = house.broker.connect("reader", username="limited", session_expiry_interval=100)
    reader.subscribe("#", qos=2)
    writer = house.broker.connect("writer")
    for qos in (1, 2):
        writer.publish("secret", b"in flight", qos=qos)
    reader.take_messages(acknowledge=False)
    reader.drop()
    for topic in ("open", "secret", "open", "secret"):
        writer.publish(topic, topic.encode(), qos=1)
    new = Permissions([deny("secret"), allow("+")])
    house.broker.engine.replace_permissions(old, new)
    house.permissions["limited"] = new
    house.broker.settle()
    reader = house.broker.connect("reader", username="limited", session_expiry_interval=100, clean_start=False)
    received = reader.take_all()
    assert [packet.payload for packet in received if isinstance(packet, Publish)] == [b"open", b"open"]


def test_session_that_comes_back_with_fewer_rights_keeps_only_what_they_allow(house: House) -> None:
    house.give([allow("#")])
    reader = house.broker.connect("reader", username="limited", session_expiry_interval=100)
    reader.subscribe("secret", "open", qos=1)
    reader.drop()
    writer = house.broker.connect("writer")
    writer.publish("secret", b"secret", qos=1)
    writer.publish("open", b"open", qos=1)
    house.give([allow("open")])
    reader = house.broker.connect("reader", username="limited", session_expiry_interval=100, clean_start=False)
    assert [message.payload for message in reader.take_messages()] == [b"open"]
    writer.publish("secret", b"secret", qos=1)
    reader.expect_nothing()


def test_lower_qos_holds_for_subscriptions_that_exist(house: House) -> None:
    old = house.give([allow("#")])
    reader = house.broker.connect("reader", username="limited")
    reader.subscribe("a", "$share/g/b", qos=2)
    house.broker.engine.replace_permissions(old, Permissions([allow("#", max_qos=0)]))
    house.broker.settle()
    writer = house.broker.connect("writer")
    writer.publish("a", qos=2)
    writer.publish("b", qos=2)
    assert [message.qos for message in reader.take_messages()] == [0, 0]


def test_rules_of_one_session_are_set_alone(house: House) -> None:
    house.give([allow("a")])
    clients = [house.broker.connect(client_id, username="limited") for client_id in ("one", "two")]
    for client in clients:
        client.subscribe("a")
    house.broker.engine.set_permissions(Permissions([allow("b")]), tenant_id=TENANT, user_id="limited", client_id="one")
    house.broker.settle()
    assert [client.publish("a", qos=1) for client in clients] == [NOT_AUTHORIZED, 0]
    house.broker.engine.set_permissions(None, tenant_id=TENANT, user_id="limited", client_id="one")
    house.broker.engine.set_permissions(None, tenant_id=TENANT, user_id="limited", client_id="nobody")
    house.broker.settle()
    assert clients[0].publish("c", qos=1) == 0x10


def test_retained_messages_still_to_come_stop_when_the_subscription_ends(house: House) -> None:
    writer = house.broker.connect("writer")
    for number in range(300):
        writer.publish(f"a/{number}", bytes(5000), retain=True)
    old = house.give([allow("a/#")])
    reader = house.broker.connect("reader", username="limited", receive_maximum=1)
    reader.subscribe("a/#", qos=1)
    house.broker.engine.replace_permissions(old, Permissions([]))
    house.broker.settle()
    before = len(reader.take_all())
    reader.ping()
    assert before < 1000
    assert reader.take_all() == []


def test_retained_message_stays_when_its_publishers_rights_are_withdrawn(house: House) -> None:
    before = house.give([allow("a/#")])
    writer = house.broker.connect("writer", username="limited")
    writer.publish("a/b", b"kept", qos=1, retain=True)
    house.broker.engine.replace_permissions(before, house.give([deny("a/#")]))
    house.broker.settle()
    assert writer.publish("a/b", b"", qos=1, retain=True) == NOT_AUTHORIZED
    assert writer.publish("a/b", b"other", qos=1, retain=True) == NOT_AUTHORIZED
    reader = house.broker.connect("reader")
    reader.subscribe("a/#")
    assert [message.payload for message in reader.take_messages()] == [b"kept"]


def test_clients_without_rules_may_do_everything(house: House) -> None:
    client = house.broker.connect("c")
    assert client.subscribe("#", "$share/g/+").reason_codes == (0, 0)
    assert client.publish("anything", qos=2, retain=True) == 0


def test_default_allow_leaves_only_what_is_denied(house: House) -> None:
    house.permissions["limited"] = Permissions([deny("a/#", Action.PUBLISH)], default=Effect.ALLOW)
    client = house.broker.connect("c", username="limited")
    assert client.subscribe("a/#").reason_codes == (0,)
    assert client.publish("a", qos=1) == NOT_AUTHORIZED
    assert client.publish("b", qos=1) == 0x10
