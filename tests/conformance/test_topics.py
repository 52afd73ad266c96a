"""Topic names and topic filters [MQTT5 4.7], and what begins with $."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, Client, expel
from support.packets import MQTT_5_0, Publish, Will
from support.raw import STANDARDS

# Topic filter, topics that match, topics that do not.
MATCHES = [
    ("sport/tennis/player1/#", ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/a/b"],
     ["sport/tennis/player2", "sport/tennis"]),
    ("#", ["a", "/", "a/b/c", "/a"], ["$a", "$SYS/a", "$"]),
    ("sport/tennis/+", ["sport/tennis/player1", "sport/tennis/"], ["sport/tennis", "sport/tennis/player1/ranking"]),
    ("sport/+", ["sport/", "sport/a"], ["sport"]),
    ("+/+", ["/finance", "a/b"], ["$a/b", "a", "a/b/c"]),
    ("/+", ["/finance"], ["finance", "a/finance"]),
    ("+", ["finance"], ["/finance", "$finance"]),
    ("+/tennis/#", ["a/tennis", "/tennis/b"], ["$a/tennis", "tennis"]),
    ("/", ["/"], ["", "//", "a/"][1:]),
    ("a//b", ["a//b"], ["a/b", "a/x/b"]),
    ("$a/#", ["$a", "$a/b"], ["a", "a/b"]),
    ("$a/+/#", ["$a/b"], ["$a"]),
    ("a b/€", ["a b/€"], ["a b", "a  b/€"]),
]  # fmt: skip


@pytest.mark.parametrize(("topic_filter", "matching", "others"), MATCHES, ids=[row[0] for row in MATCHES])
@pytest.mark.parametrize("version", STANDARDS)
def test_filters_match_as_the_standard_says(
    broker: Broker, version: int, topic_filter: str, matching: list[str], others: list[str]
) -> None:
    """Messages as they come, and those that were retained before."""
    writer = broker.connect("writer")
    for topic in [*matching, *others]:
        if not topic.startswith("$SYS/"):
            writer.publish(topic, topic.encode(), retain=True)
    client = broker.connect("client", version=version)
    assert client.subscribe(topic_filter).reason_codes == (0,)
    assert sorted(message.topic for message in client.take_messages()) == sorted(matching)
    for topic in [*others, *matching]:
        if not topic.startswith("$SYS/"):
            writer.publish(topic)
    assert [message.topic for message in client.take_messages()] == matching


def _refused(client: Client, *topic_filters: str) -> bool:
    """Is none of these filters accepted?"""
    reason_codes = client.subscribe(*topic_filters).reason_codes
    assert client.is_open
    return set(reason_codes) == {0x8F if client.version == MQTT_5_0 else 0x80}


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_7_1_1_mqtt311_4_7_1_2_a_multi_level_wildcard_fills_the_last_level(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    assert client.subscribe("#", "a/#", "a/b/#", "/#").reason_codes == (0,) * 4
    assert _refused(client, "a#", "a/b#", "#/a", "a/#/b", "##", "a/##", "#a", "+#", "$share/g/a#", "$share/g/#/a")


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_7_1_2_mqtt311_4_7_1_3_a_single_level_wildcard_fills_a_level(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    assert client.subscribe("+", "a/+", "+/a", "a/+/b", "+/+/#", "/+/").reason_codes == (0,) * 6
    assert _refused(client, "a+", "+a", "a/b+", "a/+b/c", "++", "a/++/b", "$share/g/a+")


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_7_2_1_mqtt311_4_7_2_1_leading_wildcards_do_not_match_topics_of_the_server(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("#", "+/a", "+/#", "$share/g/#", "$a/a", "$a/+", "$a/#")
    writer = broker.connect("writer")
    writer.publish("$a/a", b"x", qos=1, retain=True)
    assert len(client.take_messages()) == 1
    client.unsubscribe("$a/a", "$a/+", "$a/#")
    writer.publish("$a/a", b"y", retain=True)
    client.subscribe("#", "+/a", "+/#")
    client.expect_nothing()
    client.subscribe("$a/+")
    assert client.take_message().payload == b"y"


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_7_3_1_mqtt311_4_7_3_1_topics_and_filters_have_a_character(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    assert client.subscribe("/", "a", " ").reason_codes == (0, 0, 0)
    client.publish("/", b"x")
    assert client.take_message().topic == "/"
    assert _refused(client, "", "$share/g/")
    client.disconnect()
    expel(broker, raw.publish(b"", version=version), version=version, reason_code=0x82)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_7_3_2_mqtt311_4_7_3_2_topics_and_filters_have_no_null_character(broker: Broker, version: int) -> None:
    for content in (b"\0", b"a/\0", b"a\0b/c"):
        expel(broker, raw.publish(content, version=version), version=version)
        expel(broker, raw.subscribe((content, 0), version=version), version=version)
        expel(broker, raw.unsubscribe(content, version=version), version=version)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_7_3_3_mqtt311_4_7_3_3_topics_and_filters_have_at_most_65535_bytes(
    broker: Broker, version: int
) -> None:
    longest = "€" * 21844 + "abc"
    assert len(longest.encode()) == 65535
    client = broker.connect("client", version=version)
    assert client.subscribe(longest).reason_codes == (0,)
    client.publish(longest, b"x", qos=0)
    message = client.take_message()
    assert (message.topic, message.payload) == (longest, b"x")
    assert client.unsubscribe(longest).reason_codes == ((0,) if version == MQTT_5_0 else ())


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_4_7_3_4_mqtt311_4_7_3_4_nothing_is_normalized(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    # The same letter composed and decomposed, upper and lower case, unassigned and private characters, spaces.
    topics = ["é", "e\u0301", "É", "a", "A", "\u0378", "\ue000", " a", "a ", "a/", "/a", "a//b", "a/b", "./a", "a/../b"]
    for number, topic in enumerate(topics):
        client.subscribe(topic)
        for other in topics:
            client.publish(other)
        assert {message.topic for message in client.take_messages()} == set(topics[: number + 1])


# Limits and names that the server keeps to itself.


@pytest.mark.parametrize(
    ("settings", "fine", "wrong"),
    [
        ({"max_topic_levels": 3}, "a/b/c", "a/b/c/d"),
        ({"max_topic_length": 5}, "abcde", "abcdef"),
        ({"max_topic_level_length": 3}, "abc/abc", "abc/abcd"),
    ],
)
@pytest.mark.parametrize("version", STANDARDS)
def test_limits_of_topics_hold_for_names_and_filters(
    make_broker: Callable[..., Broker], version: int, settings: dict[str, int], fine: str, wrong: str
) -> None:
    broker = make_broker(**settings)
    client = broker.connect("client", version=version)
    assert client.subscribe(fine, f"$share/group/{fine}").reason_codes == (0, 0)
    assert _refused(client, wrong, f"$share/group/{wrong}")
    client.unsubscribe(f"$share/group/{fine}")
    client.publish(fine, qos=1)
    assert client.take_message().topic == fine
    if version == MQTT_5_0:
        assert client.publish(wrong, qos=1) == 0x90
        assert client.publish(wrong, qos=2) == 0x90
    client.send(Publish(topic=wrong))
    farewell = client.expect_closed()
    assert (farewell.reason_code if farewell else None) == (0x90 if version == MQTT_5_0 else None)


@pytest.mark.parametrize("topic", ["$SYS/a", "$SYS/", "$SYS"])
@pytest.mark.parametrize("qos", [1, 2])
def test_clients_do_not_speak_for_the_server(broker: Broker, topic: str, qos: int) -> None:
    client = broker.connect("client")
    client.subscribe("$SYS/#", "$SYS")
    assert client.publish(topic, b"x", qos=qos, retain=True) == 0x87
    client.expect_nothing()
    assert broker.count("retained_messages") == 0


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_whoever_cannot_be_told_that_it_does_not_is_disconnected(broker: Broker, version: int, qos: int) -> None:
    witness = broker.connect("witness")
    witness.subscribe("$SYS/#")
    client = broker.connect("client", version=version)
    client.send(Publish(topic="$SYS/a", payload=b"x", qos=qos, packet_id=1 if qos else 0))
    if version == MQTT_5_0 and qos > 0:
        client.take_all()
        client.ping()
    else:
        farewell = client.expect_closed()
        assert (farewell.reason_code if farewell else None) == (0x87 if version == MQTT_5_0 else None)
    witness.expect_nothing()


def test_a_topic_alias_is_no_way_round_it(broker: Broker) -> None:
    client = broker.connect("client")
    client.subscribe("$SYS/#")
    for topic in ("$SYS/a", ""):
        assert client.publish(topic, b"x", qos=1, topic_alias=1) == 0x87
    client.expect_nothing()


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("topic", ["$SYS", "$SYS/a"])
def test_a_will_is_no_way_round_it(broker: Broker, version: int, topic: str) -> None:
    witness = broker.connect("witness")
    witness.subscribe("$SYS/#", "$SYS")
    client = broker.open(version)
    connack = client.connect(client_id="client", will=Will(topic=topic, payload=b"x"))
    assert connack.reason_code == (0x87 if version == MQTT_5_0 else 5)
    assert client.expect_closed() is None
    witness.expect_nothing()


@pytest.mark.parametrize("topic", ["$share/g/a", "$oshare/g/a", "$share", "$oshare/"])
def test_a_shared_subscription_is_no_topic(broker: Broker, topic: str) -> None:
    assert broker.connect("client").publish(topic, b"x", qos=1) == 0x90


@pytest.mark.parametrize("topic", ["$a", "$system/a", "$SYSTEM", "$sys/a", "$shared/a", "a/$SYS/b"])
def test_other_topics_with_a_dollar_are_for_everybody(broker: Broker, topic: str) -> None:
    client = broker.connect("client")
    client.subscribe(topic)
    assert client.publish(topic, b"x", qos=1) == 0
    assert client.take_message().topic == topic
