"""A broker that is killed again and again under load, and clients that remember what they were promised.

Publishers have persistent sessions and one message on its way at a time; after a kill they connect again and go on
where the handshake was, as the standard says. Subscribers have persistent sessions, too, and keep what they have got
and the QoS 2 exchanges that are open. `check` compares: everything that was acknowledged has arrived, what is QoS 2
once, all in order.
"""

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from support.mqtt_client import Client, ConnectionClosed, open_connection
from support.packets import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
)
from support.process import Address, BrokerProcess, start_rookery

AHEAD_LIMIT = 1000
SESSION = {"clean_start": False, "session_expiry_interval": 3600}
GONE = (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError, OSError, ExceptionGroup)


class Publisher:
    """Sends numbered messages to one topic, one after the other, and knows which of them were acknowledged."""

    def __init__(self, name: str, qos: int, behind: Callable[[str], int]) -> None:
        self._behind = behind  # the last message of a topic that every subscriber has
        self.name = name
        self.qos = qos
        self.topic = f"t/{name}"
        self.acknowledged = 0  # messages 1 to this number
        self.retained = 0
        self._is_received = False  # PUBREC has come for the one that is on its way
        self._was_sent = False
        self._has_session = False

    async def run(self, address: Address) -> None:
        """Until the broker is gone."""
        async with open_connection((address.host, address.port)) as client:
            connack = await client.connect(client_id=self.name, **SESSION)
            assert connack.reason_code == 0, connack
            assert connack.session_present or not self._has_session, f"the session of {self.name} is lost"
            self._has_session = True
            while True:
                # What waits for the subscriber that is away must fit into its inbox.
                while self.acknowledged - self._behind(self.topic) > AHEAD_LIMIT:  # noqa: ASYNC110  # nothing sets an event
                    await trio.sleep(0.01)
                await self._publish(client)

    async def _publish(self, client: Client) -> None:
        number = self.acknowledged + 1
        packet_id = number % 65535 + 1
        if not self._is_received:
            message = Publish(
                topic=self.topic,
                payload=b"%d" % number,
                qos=self.qos,
                packet_id=packet_id,
                dup=self._was_sent,
                retain=number % 5 == 0,
            )
            self._was_sent = True
            await client.send(message)
            if self.qos == 1:
                await client.receive_first(Puback, packet_id)
            else:
                await client.receive_first(Pubrec, packet_id)
                self._is_received = True
        if self.qos == 2:
            await client.send(Pubrel(packet_id=packet_id))
            await client.receive_first(Pubcomp, packet_id)
        self.acknowledged = number
        if number % 5 == 0:
            self.retained = number
        self._was_sent = self._is_received = False


class Subscriber:
    """Takes everything at QoS 2, with pauses, and keeps its side of the exchanges over all connections."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self.received: dict[str, list[int]] = {}  # by topic
        self._unreleased: set[int] = set()
        self._has_session = False
        self._chance = chance

    async def run(self, address: Address) -> None:
        async with self._connect(address) as client:
            while True:
                await self._take(client)

    @asynccontextmanager
    async def _connect(self, address: Address) -> AsyncIterator[Client]:
        async with open_connection((address.host, address.port)) as client:
            connack = await client.connect(client_id=self.name, receive_maximum=20, **SESSION)
            assert connack.session_present or not self._has_session, f"the session of {self.name} is lost"
            if not self._has_session:
                await client.send(Subscribe(packet_id=1, subscriptions=(Subscription("t/+", 2),)))
                await client.receive_first(Suback)
                self._has_session = True  # Only now has it been promised anything.
            client.deadline_s = 30
            yield client

    async def _take(self, client: Client) -> None:
        packet = await client.receive()
        if isinstance(packet, Publish):
            if packet.qos != 2 or packet.packet_id not in self._unreleased:
                self.received.setdefault(packet.topic, []).append(int(packet.payload))
            if packet.qos == 1:
                await client.send(Puback(packet_id=packet.packet_id))
            elif packet.qos == 2:
                self._unreleased.add(packet.packet_id)
                await client.send(Pubrec(packet_id=packet.packet_id))
        elif isinstance(packet, Pubrel):
            self._unreleased.discard(packet.packet_id)
            await client.send(Pubcomp(packet_id=packet.packet_id))

    async def subscribe(self, address: Address) -> None:
        """Connect for the first time, subscribe, and go."""
        async with self._connect(address):
            pass

    async def take_until(self, address: Address, last: dict[str, int]) -> None:
        """Take what is left, up to these numbers by topic."""
        async with self._connect(address) as client:
            with trio.fail_after(30):
                while any(max(self.received.get(topic, [0])) < number for topic, number in last.items()):
                    await self._take(client)


class Crowd:
    """Publishers and subscribers of one broker."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.publishers = [Publisher(f"p{number}", 1 + number % 2, self._behind) for number in range(6)]
        self.subscribers = [Subscriber(f"s{number}", self.chance) for number in range(3)]

    def _behind(self, topic: str) -> int:
        return min(subscriber.received.get(topic, [0])[-1] for subscriber in self.subscribers)

    async def begin(self, broker: BrokerProcess) -> None:
        """All subscriptions are there before the first message."""
        for subscriber in self.subscribers:
            await subscriber.subscribe(broker.mqtt)

    async def live(self, broker: BrokerProcess, kill_after_s: float) -> None:
        """Do everything at once until the broker is killed."""
        # One subscriber is away each time, so that messages wait for it.
        present = self.chance.sample(self.subscribers, 2)
        clients: list[Publisher | Subscriber] = [*self.publishers, *present]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(self._live, client, broker.mqtt)
            await trio.sleep(kill_after_s)
            broker.kill()
            # Not everybody is looking at his connection. What was not taken from it counts as not received.
            nursery.cancel_scope.cancel()

    async def _live(self, client: Publisher | Subscriber, address: Address) -> None:
        try:
            await client.run(address)
        except GONE as error:
            if isinstance(error, AssertionError) and not isinstance(error, ConnectionClosed):
                raise

    async def check(self, broker: BrokerProcess) -> None:
        """Let all subscribers take the rest; then nothing that was acknowledged may be missing or doubled."""
        last = {publisher.topic: publisher.acknowledged for publisher in self.publishers if publisher.acknowledged}
        for subscriber in self.subscribers:
            await subscriber.take_until(broker.mqtt, last)
        for publisher in self.publishers:
            for subscriber in self.subscribers:
                self._check(publisher, subscriber.received.get(publisher.topic, []))

    def _check(self, publisher: Publisher, numbers: list[int]) -> None:
        what = f"{publisher.topic} at QoS {publisher.qos}"
        missing = set(range(1, publisher.acknowledged + 1)) - set(numbers)
        assert not missing, f"{what}: acknowledged and lost: {sorted(missing)[:10]}"
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts), f"{what}: out of order"
        if publisher.qos == 2:
            doubled = len(numbers) - len(set(numbers))
            assert doubled == 0, f"{what}: {doubled} messages came twice"


async def check_retained(broker: BrokerProcess, crowd: Crowd) -> None:
    """What is retained is the last that was acknowledged, or the one that was on its way."""
    async with open_connection((broker.mqtt.host, broker.mqtt.port)) as client:
        await client.connect(client_id="retained")
        await client.send(Subscribe(packet_id=1, subscriptions=(Subscription("t/#", 0),)))
        await client.receive_first(Suback)
        for publisher in crowd.publishers:
            if publisher.retained == 0:
                continue
            message = await client._receive_matching(
                lambda packet, topic=publisher.topic: (  # type: ignore[misc]  # bound in the loop
                    packet if isinstance(packet, Publish) and packet.topic == topic else None
                ),
                f"the retained message of {publisher.topic}",
            )
            assert int(message.payload) in (publisher.retained, publisher.retained + 5)


@contextmanager
def serving(folder: Path, shards: int, *arguments: str) -> Iterator[BrokerProcess]:
    """The broker on this data directory."""
    with start_rookery(
        *("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data", str(folder), "--shards", str(shards)), *arguments
    ) as broker:
        yield broker


async def crash_rounds(folder: Path, seed: int, rounds: int, shards: list[int]) -> Crowd:
    """Kill the broker so many times; then check."""
    crowd = Crowd(seed)
    for number in range(rounds):
        with serving(folder, shards[number % len(shards)]) as broker:
            if number == 0:
                await crowd.begin(broker)
            await crowd.live(broker, crowd.chance.uniform(0.05, 0.6))
    with serving(folder, shards[0]) as broker:
        await crowd.check(broker)
        await check_retained(broker, crowd)
        broker.stop()
    return crowd
