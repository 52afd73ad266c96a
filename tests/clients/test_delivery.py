"""Messages from one foreign client to another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients.stranger import DEADLINE_S, Connect, Message, Stranger, only_3_1_1

from support.process import fails_on_mosquitto

BIG_PAYLOAD_SIZE = 200 * 1024  # bytes: many reads and writes of the broker, below its default limit of 256 KiB.
BURST_COUNT = 200


@pytest.mark.parametrize("subscribed", [0, 1, 2])
def test_message_arrives_at_the_lower_qos_of_publication_and_subscription(
    connect: Connect, unique: str, subscribed: int
) -> None:
    writer, reader = connect("writer"), connect("reader")
    assert reader.subscribe(f"{unique}/a", subscribed) == subscribed
    for published in (0, 1, 2):
        message = Message(topic=f"{unique}/a", payload=b"payload", qos=published)
        writer.publish(message)
        assert reader.receive() == Message(topic=f"{unique}/a", payload=b"payload", qos=min(published, subscribed))


@pytest.mark.parametrize(
    ("topic_filter", "matching", "others"),
    [
        ("a/+/c", ["a/b/c", "a//c"], ["a/b", "a/b/c/d", "x/b/c"]),
        ("a/#", ["a", "a/b", "a/b/c"], ["b", "aa/b"]),
        ("+/b", ["a/b", "/b"], ["b", "a/b/c"]),
    ],
)
def test_wildcards_match_whole_levels(
    connect: Connect, unique: str, topic_filter: str, matching: list[str], others: list[str]
) -> None:
    client = connect("client")
    client.subscribe(f"{unique}/{topic_filter}", 1)
    for topic in (*others, *matching):
        client.publish(Message(topic=f"{unique}/{topic}", qos=1))
    assert [client.receive().topic for _ in matching] == [f"{unique}/{topic}" for topic in matching]


def test_unsubscribed_topic_filter_brings_nothing(connect: Connect, unique: str) -> None:
    client = connect("client")
    client.subscribe(f"{unique}/a", 1)
    client.subscribe(f"{unique}/end", 1)
    client.unsubscribe(f"{unique}/a")
    client.publish(Message(topic=f"{unique}/a", qos=1))
    client.publish(Message(topic=f"{unique}/end", qos=1))
    assert client.receive().topic == f"{unique}/end"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_big_payload_arrives_whole(connect: Connect, unique: str, qos: int) -> None:
    payload = bytes(index * 31 % 251 for index in range(BIG_PAYLOAD_SIZE))
    writer, reader = connect("writer"), connect("reader")
    reader.subscribe(f"{unique}/big", qos)
    writer.publish(Message(topic=f"{unique}/big", payload=payload, qos=qos))
    assert reader.receive() == Message(topic=f"{unique}/big", payload=payload, qos=qos)


def test_empty_payload_arrives(connect: Connect, unique: str) -> None:
    client = connect("client")
    client.subscribe(f"{unique}/a")
    client.publish(Message(topic=f"{unique}/a"))
    assert client.receive() == Message(topic=f"{unique}/a")


def test_every_subscriber_gets_its_own_copy(connect: Connect, unique: str) -> None:
    writer = connect("writer")
    readers = [connect(f"reader{index}") for index in range(5)]
    for index, reader in enumerate(readers):
        reader.subscribe(f"{unique}/a", index % 3)
    writer.publish(Message(topic=f"{unique}/a", payload=b"x", qos=2))
    assert [reader.receive().qos for reader in readers] == [0, 1, 2, 0, 1]


@only_3_1_1
@fails_on_mosquitto("it takes no more than 20 messages of QoS 2 at once, which 3.1.1 has no word to tell a client")
def test_burst_of_qos_2_messages_is_delivered_whole_and_in_order(connect: Connect, unique: str) -> None:
    payloads = [b"%d" % number for number in range(BURST_COUNT)]
    writer, reader = connect("writer"), connect("reader")
    reader.subscribe(f"{unique}/burst", 2)
    writer.publish(*(Message(topic=f"{unique}/burst", payload=payload, qos=2) for payload in payloads))
    assert reader.receive_payloads(BURST_COUNT) == payloads


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_shared_subscription_gives_each_message_to_one_member(connect: Connect, unique: str, qos: int) -> None:
    writer, members = connect("writer"), [connect(f"member{index}") for index in range(2)]
    for member in members:
        member.subscribe(f"$share/group/{unique}/work", qos)
        member.subscribe(f"{unique}/end", qos)
    payloads = {b"%d" % number for number in range(20)}
    received: list[bytes] = []
    has_all = threading.Event()

    def collect(member: Stranger) -> None:
        while not (message := member.receive()).topic.endswith("/end"):
            received.append(message.payload)
            if len(received) == len(payloads):
                has_all.set()

    with ThreadPoolExecutor() as pool:
        collectors = [pool.submit(collect, member) for member in members]
        for payload in payloads:
            writer.publish(Message(topic=f"{unique}/work", payload=payload, qos=qos))
        # The end has another topic: it must not set out before all the work has arrived.
        has_all.wait(DEADLINE_S)
        writer.publish(Message(topic=f"{unique}/end", qos=qos))
        for collector in collectors:
            collector.result()
    assert sorted(received) == sorted(payloads)
