"""Topic aliases, both ways [MQTT5 3.3.2.3.4]."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, Client, expel
from support.packets import MQTT_5_0, Publish, Pubrec, encode

# From the client to the broker.


def test_mqtt5_3_3_2_7_aliases_of_a_client_end_with_its_connection(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100)
    client.send(Publish(topic="a", topic_alias=1))
    client.drop()
    client = broker.connect("client", clean_start=False)
    client.send(Publish(topic="", topic_alias=1))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x82


@pytest.mark.parametrize("topic", [b"a", b""])
def test_mqtt5_3_3_2_8_an_alias_of_0_ends_the_connection(broker: Broker, topic: bytes) -> None:
    expel(broker, raw.publish(topic, properties=b"\x23\x00\x00"), reason_code=0x94)


@pytest.mark.parametrize("alias", [11, 12, 0xFFFF])
def test_mqtt5_3_3_2_9_an_alias_above_the_maximum_ends_the_connection(broker: Broker, alias: int) -> None:
    expel(broker, Publish(topic="a", topic_alias=alias), reason_code=0x94)


@pytest.mark.parametrize("maximum", [1, 10, 65535])
def test_mqtt5_3_3_2_12_the_broker_takes_every_alias_up_to_its_maximum(
    make_broker: Callable[..., Broker], maximum: int
) -> None:
    broker = make_broker(max_topic_alias=maximum)
    client = broker.open()
    assert client.connect(client_id="client").topic_alias_maximum == maximum
    client.subscribe("#")
    aliases = sorted({1, 2, maximum // 2, maximum - 1, maximum} & set(range(1, maximum + 1)))
    for alias in aliases:
        client.send(Publish(topic=f"topic/{alias}", topic_alias=alias))
    for alias in reversed(aliases):
        client.send(Publish(topic="", topic_alias=alias, payload=b"again"))
    topics = [message.topic for message in client.take_messages()]
    assert topics == [f"topic/{alias}" for alias in (*aliases, *reversed(aliases))]


def test_an_alias_may_be_given_another_topic(broker: Broker) -> None:
    client = broker.connect("client")
    client.subscribe("#")
    client.send(
        Publish(topic="first", topic_alias=3),
        Publish(topic="", topic_alias=3),
        Publish(topic="other", topic_alias=3),
        Publish(topic="", topic_alias=3),
        Publish(topic="longer than before", topic_alias=3),
        Publish(topic="", topic_alias=3),
    )
    topics = [message.topic for message in client.take_messages()]
    assert topics == ["first", "first", "other", "other", "longer than before", "longer than before"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_alias_that_was_never_set_is_a_protocol_error(broker: Broker, qos: int) -> None:
    expel(broker, Publish(topic="", topic_alias=1, qos=qos, packet_id=1), reason_code=0x82)


def test_a_topic_of_no_characters_needs_an_alias(broker: Broker) -> None:
    expel(broker, raw.publish(b""), reason_code=0x82)


def test_aliases_of_clients_are_apart(broker: Broker) -> None:
    reader = broker.connect("reader")
    reader.subscribe("#")
    one, two = broker.connect("one"), broker.connect("two")
    one.send(Publish(topic="one", topic_alias=1))
    two.send(Publish(topic="two", topic_alias=1))
    one.send(Publish(topic="", topic_alias=1))
    two.send(Publish(topic="", topic_alias=1))
    assert [message.topic for message in reader.take_messages()] == ["one", "two", "one", "two"]


def test_an_alias_holds_even_if_its_message_was_refused_or_was_there_before(
    make_broker: Callable[..., Broker],
) -> None:
    client = make_broker(max_topic_levels=2).connect("client")
    client.subscribe("#", qos=2)
    client.send(Publish(topic="a", payload=b"\xff", payload_format_indicator=1, qos=1, packet_id=1, topic_alias=1))
    client.take_all()
    client.send(Publish(topic="", topic_alias=1, payload=b"x"))
    assert client.take_message().topic == "a"
    client.send(Publish(topic="b", qos=2, packet_id=2))
    client.take_first(Pubrec)
    client.take_message()
    client.send(Publish(topic="b", qos=2, packet_id=2, dup=True, topic_alias=2))
    client.take(Pubrec)
    client.send(Publish(topic="", topic_alias=2, payload=b"y"))
    assert client.take_message().topic == "b"


def test_an_alias_is_not_passed_on_nor_stored(broker: Broker) -> None:
    reader = broker.connect("reader")
    reader.subscribe("a/topic")
    broker.connect("writer").publish("a/topic", b"x", topic_alias=1, retain=True)
    assert reader.take_message().topic_alias is None
    reader.subscribe("a/topic")
    assert reader.take_message().topic_alias is None


# From the broker to the client.


class AliasedClient:
    """A client that understands aliases as the standard says, and counts what they save."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.topics: dict[int, str] = {}

    def take_topics(self) -> list[str]:
        """The topics of all messages that have come."""
        topics = []
        for message in self.client.take_messages():
            if message.topic:
                if message.topic_alias:
                    self.topics[message.topic_alias] = message.topic
                topics.append(message.topic)
            else:
                assert message.topic_alias is not None
                topics.append(self.topics[message.topic_alias])
        return topics


@pytest.mark.parametrize("maximum", [1, 2, 10, 65535])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt5_3_1_2_26_mqtt5_3_3_2_10_mqtt5_3_3_2_11_aliases_are_assigned_up_to_the_clients_maximum(
    broker: Broker, maximum: int, qos: int
) -> None:
    client = AliasedClient(broker.connect("client", topic_alias_maximum=maximum))
    client.client.subscribe("topic/#", qos=qos)
    writer = broker.connect("writer")
    topics = [f"topic/{number % 13}" for number in range(60)]
    for topic in topics:
        writer.publish(topic, b"x", qos=qos)
    assert client.take_topics() == topics
    # The tenant's MaxTopicAlias, 10, bounds them as well.
    assert sorted(client.topics) == list(range(1, min(maximum, 10) + 1))


@pytest.mark.parametrize("maximum", [None, 0])
def test_mqtt5_3_1_2_27_no_aliases_for_a_client_that_takes_none(broker: Broker, maximum: int | None) -> None:
    client = broker.connect("client", topic_alias_maximum=maximum)
    client.subscribe("topic/#")
    for _ in range(5):
        broker.connect("writer").publish("topic/a")
    assert [(message.topic, message.topic_alias) for message in client.take_messages()] == [("topic/a", None)] * 5


def test_no_aliases_where_the_tenant_has_none(make_broker: Callable[..., Broker]) -> None:
    client = make_broker(max_topic_alias=0).connect("client", topic_alias_maximum=10)
    client.subscribe("topic/#")
    client.publish("topic/a")
    client.publish("topic/a")
    assert [message.topic_alias for message in client.take_messages()] == [None, None]


def test_an_alias_is_told_once_and_saves_the_topic_from_then_on(broker: Broker) -> None:
    topic = "a/rather/long/topic/that/comes/again/and/again"
    client = broker.connect("client", topic_alias_maximum=5)
    client.subscribe(topic)
    client.take_bytes()
    sizes = []
    for _ in range(3):
        broker.connect("writer").publish(topic, b"x")
        sizes.append(len(client.take_bytes()))
    plain = len(encode(Publish(topic=topic, payload=b"x"), MQTT_5_0))
    assert sizes == [plain + 3, plain + 3 - len(topic), plain + 3 - len(topic)]


def test_short_topics_get_no_alias(broker: Broker) -> None:
    client = broker.connect("client", topic_alias_maximum=5)
    client.subscribe("#")
    for topic in ("a", "a/b", "a/bc"):
        for _ in range(2):
            client.publish(topic)
    assert [message.topic_alias for message in client.take_messages()] == [None, None, None, None, 1, 1]


def test_aliases_in_use_stay_and_those_that_rest_are_given_away(broker: Broker) -> None:
    client = AliasedClient(broker.connect("client", topic_alias_maximum=2))
    client.client.subscribe("topic/#")
    writer = broker.connect("writer")

    def publish(*names: str) -> None:
        for name in names:
            writer.publish(f"topic/{name}")
        assert client.take_topics() == [f"topic/{name}" for name in names]

    publish("a", "b", "c", "c", "a")
    assert client.topics == {1: "topic/a", 2: "topic/b"}
    broker.advance(50)
    publish("b", "c")
    broker.advance(11)
    publish("c", "c", "b", "d")
    assert client.topics == {1: "topic/c", 2: "topic/b"}


def test_aliases_of_the_broker_end_with_the_connection(broker: Broker) -> None:
    client = broker.connect("client", topic_alias_maximum=5, session_expiry_interval=100)
    client.subscribe("topic/#", qos=1)
    writer = broker.connect("writer")
    for _ in range(2):
        writer.publish("topic/a", qos=1)
    first, second = client.take_messages(acknowledge=False)
    assert (first.topic, second.topic) == ("topic/a", "")
    client.drop()
    client = broker.connect("client", topic_alias_maximum=5, clean_start=False, session_expiry_interval=100)
    first, second = client.take_messages(acknowledge=False)
    assert (first.topic, first.dup, second.topic, second.dup) == ("topic/a", True, "", True)
    client.drop()
    client = broker.connect("client", clean_start=False)
    first, second = client.take_messages()
    assert (first.topic, second.topic) == ("topic/a", "topic/a")


def test_readers_with_and_without_aliases_get_the_same(broker: Broker) -> None:
    plain = [broker.connect(f"plain {number}", version=version) for number, version in enumerate((3, 4, 5, 5))]
    aliased = [AliasedClient(broker.connect(f"aliased {number}", topic_alias_maximum=number)) for number in range(4)]
    for client in (*plain, *(each.client for each in aliased)):
        client.subscribe("topic/+", qos=1)
    writer = broker.connect("writer")
    topics = [f"topic/{number % 4}" for number in range(20)]
    for topic in topics:
        writer.publish(topic, b"x" * (5000 if topic == "topic/2" else 1), qos=1)
    for client in plain:
        assert [message.topic for message in client.take_messages()] == topics
    for each in aliased:
        assert each.take_topics() == topics


def test_a_message_that_only_an_alias_would_make_too_large_goes_without(broker: Broker) -> None:
    topic = "a/topic/of/some/length"
    plain = len(encode(Publish(topic=topic, payload=bytes(50)), MQTT_5_0))
    for size, expected in ((plain - 1, []), (plain, [None]), (plain + 2, [None]), (plain + 3, [1])):
        client = broker.connect("client", topic_alias_maximum=5, maximum_packet_size=size)
        client.subscribe(topic)
        client.publish(topic, bytes(50))
        assert [message.topic_alias for message in client.take_messages()] == expected
        # An alias that was not told is not used.
        client.publish(topic, b"x")
        message = client.take_message()
        assert message.topic == ("" if expected == [1] else topic)
