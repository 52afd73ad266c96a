"""Random clients of every version do everything at once, some of it wrong: whatever happens, the broker stays sound.

What it sends is decoded by the plain twin, which refuses what the standard does not allow. Run under the address
sanitizer (ROOKERY_SANITIZE=1 at the build, libasan preloaded) this is the test that finds what outlives its memory.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from rookery.core.events import ConnectRequested
from support import packets
from support.memory_broker import Admitted, Broker, Client, Refused
from support.packets import (
    Connect,
    Disconnect,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)

MakeBroker = Callable[..., Broker]
ROUNDS = 400
LEVELS = ("a", "b", "c", "", "$x")


class Crowd:
    """Clients that come, act and go as a seed says."""

    def __init__(self, shards: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.broker = Broker(
            decide=lambda request: (
                Admitted(request.username or "none") if self.random.random() < 0.95 else Refused(0x87)
            ),
            shard_count=shards,
            session_inbox_size=20,
            min_session_expiry_seconds=1,
        )
        self.clients: list[Client] = []
        self.received = 0

    def decide(self, request: ConnectRequested) -> Admitted | Refused:
        return Admitted(request.username or "none") if self.random.random() < 0.95 else Refused(0x87)

    def topic(self) -> str:
        return "/".join(self.random.choice(LEVELS) for _ in range(self.random.randint(1, 4))) or "t"

    def topic_filter(self) -> str:
        levels = [self.random.choice((*LEVELS, "+")) for _ in range(self.random.randint(1, 3))]
        if self.random.random() < 0.3:
            levels.append("#")
        share = self.random.choice(("", "", "", "$share/g/", "$share/h/", "$oshare/g/"))
        return share + ("/".join(levels) or "+")

    def join(self) -> None:
        version = self.random.choice((3, 4, 5, 5))
        fields: dict[str, Any] = {
            "client_id": self.random.choice("pqrstuvw"),
            "clean_start": self.random.random() < 0.5,
            "keep_alive": self.random.choice((0, 0, 1, 10)),
            "username": self.random.choice(("one", "two")),
        }
        if version == 5:
            fields["session_expiry_interval"] = self.random.choice((0, 1, 100))
            fields["receive_maximum"] = self.random.choice((1, 2, 10, 65535))
            fields["maximum_packet_size"] = self.random.choice((None, None, None, 100, 1000))
        if self.random.random() < 0.4:
            delay: dict[str, Any] = {"will_delay_interval": self.random.choice((0, 1, 5))} if version == 5 else {}
            fields["will"] = Will(
                topic=self.topic(),
                payload=self.payload(),
                qos=self.random.randint(0, 2),
                retain=self.random.random() < 0.5,
                **delay,
            )
        client = self.broker.open(version)
        client.send(Connect(version=version, **fields))
        self.clients.append(client)

    def payload(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 1, 60, 2500)))

    def packet(self, client: Client) -> Any:
        packet_id = client.next_packet_id() % 50 + 1
        kind = self.random.random()
        if kind < 0.5:
            qos = self.random.randint(0, 2)
            fields: dict[str, Any] = {}
            if client.version == 5:
                fields["topic_alias"] = self.random.choice((None, None, None, 1, 10, 11))
                fields["message_expiry_interval"] = self.random.choice((None, None, 0, 1, 100))
            retain = self.random.random() < 0.3
            return Publish(
                topic=self.topic(),
                payload=self.payload(),
                qos=qos,
                retain=retain,
                packet_id=packet_id if qos else 0,
                **fields,
            )
        if kind < 0.7:
            options: dict[str, Any] = {"retain_handling": self.random.randint(0, 2)} if client.version == 5 else {}
            return Subscribe(
                packet_id=packet_id,
                subscriptions=(Subscription(self.topic_filter(), self.random.randint(0, 2), **options),),
            )
        if kind < 0.78:
            return Unsubscribe(packet_id=packet_id, topic_filters=(self.topic_filter(),))
        if kind < 0.82:
            return self.random.choice((Pingreq(), Disconnect()))
        return self.random.choice((Puback, Pubrec, Pubrel, Pubcomp))(packet_id=self.random.randint(1, 20))

    def act(self, client: Client) -> None:
        data = bytearray(packets.encode(self.packet(client), client.version))
        if self.random.random() < 0.01:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        if self.random.random() < 0.03:
            del data[self.random.randint(1, len(data)) :]
        client.send_bytes(bytes(data))

    def answer(self, client: Client) -> None:
        for packet in client.take_all():
            self.received += 1
            if isinstance(packet, Publish) and packet.qos and self.random.random() < 0.8:
                client.send((Puback if packet.qos == 1 else Pubrec)(packet_id=packet.packet_id))
            elif isinstance(packet, Pubrec) and client.is_open:
                client.send(Pubrel(packet_id=packet.packet_id))
            elif isinstance(packet, Pubrel) and client.is_open:
                client.send(Pubcomp(packet_id=packet.packet_id))

    def live(self, rounds: int) -> None:
        for _ in range(rounds):
            if len(self.clients) < 12:
                self.join()
            for client in self.random.choices(self.clients, k=3):
                if client.is_open:
                    self.act(client)
            if self.random.random() < 0.05:
                self.clients.pop(self.random.randrange(len(self.clients))).drop()
            for client in self.clients:
                self.answer(client)
            self.clients = [client for client in self.clients if client.is_open]
            if self.random.random() < 0.3:
                self.broker.now_ms += self.random.choice((1, 10, 100, 1000))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shards", [1, 3])
def test_random_traffic_leaves_nothing_behind(shards: int, seed: int) -> None:
    crowd = Crowd(shards, seed)
    crowd.live(ROUNDS)
    assert crowd.received > ROUNDS
    for client in crowd.clients:
        client.drop()
    # Beyond the longest life that a session may have, and any message.
    for _ in range(3):
        crowd.broker.now_ms += 86_400_000
        crowd.broker.settle()
    assert crowd.broker.count("connections") == 0
    assert crowd.broker.count("sessions") == 0
    assert crowd.broker.count("subscriptions") == 0
    crowd.broker.close()


def test_engine_can_be_closed_in_the_middle_of_everything() -> None:
    for seed in range(4):
        crowd = Crowd(3, seed)
        crowd.live(60)
        crowd.broker.engine.close()
