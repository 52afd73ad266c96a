"""Who sends what to whom: the clients of a run and the flows between them.

A plan is data. `pairs(100)` or `fan_out(1000)` say which client subscribes to which filters, which flows (the messages
of one publisher) it has to receive, and on which topics it publishes; the load generator does what the plan says and
holds the broker to it.

Topics are short and of equal length within a plan, like those of a real installation with numbered devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# Topics are named by so many digits; a million of them is more than any plan has.
DIGITS = 6


@dataclass(frozen=True)
class Client:
    """One connection of a run."""

    topic_filters: tuple[str, ...] = ()
    # Flows of which it gets messages, as a range of flow indexes: flow i is what the i-th publishing client sends.
    receives: range = range(0)
    # Where the topics of these flows are parted among clients: the topics (indexes) that come to this one.
    owns: range = range(0)
    # Topics that it publishes on; none for a client that only listens.
    topics: Sequence[str] = ()
    # What it publishes is to be retained, one message per topic in their order, and reaches nobody at that time.
    is_retaining: bool = False
    # What it receives are retained messages.
    is_fetching: bool = False


@dataclass(frozen=True)
class Plan:
    """The clients of a run, and how the messages of a flow are divided among those that receive it."""

    clients: tuple[Client, ...]
    # True: each message goes to exactly one of the clients that list the flow. False: to each of them.
    is_parted: bool = False
    receivers: range = range(0)
    publishers: range = range(0)

    @property
    def flow_count(self) -> int:
        return sum(1 for client in self.clients if client.topics)


def _topic(prefix: str, number: int) -> str:
    return f"{prefix}/{number:0{DIGITS}d}"


def _listeners(prefix: str, count: int) -> tuple[Client, ...]:
    """Clients that are subscribed to something of their own that nobody publishes."""
    return tuple(Client(topic_filters=(_topic(f"{prefix}/quiet", number),)) for number in range(count))


def pairs(count: int, *, prefix: str) -> Plan:
    """Publisher i sends to subscriber i."""
    subscribers = tuple(
        Client(topic_filters=(_topic(prefix, number),), receives=range(number, number + 1)) for number in range(count)
    )
    publishers = tuple(Client(topics=(_topic(prefix, number),)) for number in range(count))
    return Plan(subscribers + publishers, receivers=range(count), publishers=range(count, 2 * count))


def fan_out(subscribers: int, *, prefix: str) -> Plan:
    """One publisher, and many subscribers that each get all of it."""
    topic = _topic(prefix, 0)
    listeners = (Client(topic_filters=(topic,), receives=range(1)),) * subscribers
    return Plan(
        (*listeners, Client(topics=(topic,))),
        receivers=range(subscribers),
        publishers=range(subscribers, subscribers + 1),
    )


def fan_in(publishers: int, *, prefix: str) -> Plan:
    """Many publishers, each with its own topic, and one subscriber with a wildcard that gets everything."""
    listener = Client(topic_filters=(f"{prefix}/+",), receives=range(publishers))
    senders = tuple(Client(topics=(_topic(prefix, number),)) for number in range(publishers))
    return Plan((listener, *senders), receivers=range(1), publishers=range(1, 1 + publishers))


def trickle(clients: int, *, prefix: str, bystanders: int = 0) -> Plan:
    """A ring: each client is subscribed to its own topic and publishes on that of its neighbour.

    Bystanders are connected and subscribed and get nothing.
    """
    ring = tuple(
        Client(
            topic_filters=(_topic(prefix, number),),
            receives=range((number - 1) % clients, (number - 1) % clients + 1),
            topics=(_topic(prefix, (number + 1) % clients),),
        )
        for number in range(clients)
    )
    return Plan(ring + _listeners(prefix, bystanders), receivers=range(clients + bystanders), publishers=range(clients))


def shared(publishers: int, members: int, *, prefix: str) -> Plan:
    """Publishers with a topic each; the members of one shared subscription part the messages among them."""
    member = Client(topic_filters=(f"$share/{prefix}/{prefix}/+",), receives=range(publishers))
    senders = tuple(Client(topics=(_topic(prefix, number),)) for number in range(publishers))
    return Plan(
        (member,) * members + senders,
        is_parted=True,
        receivers=range(members),
        publishers=range(members, members + publishers),
    )


def filters(publishers: int, subscribers: int, filters_each: int, *, prefix: str) -> Plan:
    """Publishers that pick topics at random, and subscribers with many filters, half of them with wildcards.

    Each topic is matched by exactly one filter, so that the number of deliveries is known:

        topic      prefix/07/000107/value
        filter     prefix/07/000107/value   |  prefix/07/000107/+  |  prefix/+/000107/value  |  prefix/07/000107/#
    """
    topics = []
    topic_filters = []
    for number in range(subscribers * filters_each):
        area, device = f"{number % 100:02d}", f"{number:0{DIGITS}d}"
        topic = f"{prefix}/{area}/{device}/value"
        wild = (f"{prefix}/{area}/{device}/+", f"{prefix}/+/{device}/value", f"{prefix}/{area}/{device}/#")
        topics.append(topic)
        topic_filters.append(wild[number // 2 % len(wild)] if number % 2 else topic)
    listeners = tuple(
        Client(
            topic_filters=tuple(topic_filters[first : first + filters_each]),
            receives=range(publishers),
            owns=range(first, first + filters_each),
        )
        for first in range(0, len(topics), filters_each)
    )
    return Plan(
        listeners + (Client(topics=topics),) * publishers,
        is_parted=True,
        receivers=range(subscribers),
        publishers=range(subscribers, subscribers + publishers),
    )


def retained(topics: int, others: int, *, prefix: str) -> Plan:
    """One client retains a message on each of many topics, one fetches them all by a wildcard, others trickle on.

    The fetching client is the first, the retaining one the second; the flow of retained messages is flow 0.
    """
    fetcher = Client(topic_filters=(f"{prefix}/kept/#",), receives=range(1), is_fetching=True)
    keeper = Client(topics=[_topic(f"{prefix}/kept", number) for number in range(topics)], is_retaining=True)
    ring = tuple(
        Client(
            topic_filters=(_topic(f"{prefix}/live", number),),
            receives=range(1 + (number - 1) % others, 2 + (number - 1) % others),
            topics=(_topic(f"{prefix}/live", (number + 1) % others),),
        )
        for number in range(others)
    )
    return Plan((fetcher, keeper, *ring), receivers=range(2, 2 + others), publishers=range(2, 2 + others))


def idle(count: int, *, prefix: str) -> Plan:
    """Clients that connect and stay; they have no topics, whatever the prefix."""
    del prefix
    return Plan((Client(),) * count)


class Transport(StrEnum):
    """What MQTT is carried by."""

    TCP = "tcp"
    TLS = "tls"
    WEBSOCKET = "websocket"


@dataclass(frozen=True)
class Traffic:
    """How the messages of a plan are sent."""

    transport: Transport = Transport.TCP
    # TLS: what clients offer to agree on keys by, so that all brokers do the same work; "" is what OpenSSL would offer.
    groups: str = "X25519"

    qos: int = 0
    # Bytes; at least 24, which the stamp of the generator takes.
    payload_size: int = 64
    # Messages of one flow that may be on their way at once: sent, and not yet received by all receivers. 0: no bound.
    window: int = 100
    # 4 is MQTT 3.1.1.
    version: int = 4
    # Every message carries PUBLISH_PROPERTIES of packets.py; 5.0 only.
    has_properties: bool = False
    client_id_prefix: str = "load"
    username: str | None = None
    password: str | None = None
    # Connections start from 127.0.0.1 to 127.0.0.sources, each good for some 28 000 to one broker. 0: kernel's choice.
    sources: int = 0
    # Seconds; 0 switches it off.
    keep_alive_s: int = 0
