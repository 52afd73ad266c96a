"""A shared group whose members come and go at random: every job reaches somebody, at QoS 2 never two [MQTT5 4.8.2].

Jobs are numbered. A job of QoS 1 must be acknowledged by somebody in the end, and is seen again only after a member
that had it ended its session without PUBACK. A job of QoS 2 is seen exactly once: what a member had in flight when its
session ended counts as seen.
"""

import random
from collections import defaultdict

import pytest

from support.memory_broker import Broker, Client
from support.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel, Unsubscribe

ROUNDS = 250


class Group:
    """Members of $share/g/jobs as a seed says, one of which always stays."""

    def __init__(self, shards: int, seed: int, share: str) -> None:
        self.random = random.Random(seed)
        self.broker = Broker(shard_count=shards, session_inbox_size=10_000, min_session_expiry_seconds=1)
        self.filter = f"{share}/g/jobs"
        self.publisher = self.broker.connect("publisher")
        self.members: list[Client] = []
        self.unacknowledged: dict[Client, set[int]] = defaultdict(set)
        self.seen: dict[int, int] = defaultdict(int)  # job -> how often
        self.may_be_seen_again: dict[int, int] = defaultdict(int)
        self.acknowledged: set[int] = set()
        self.qos: list[int] = []  # of each job
        self.names = 0
        self.join()

    def join(self) -> None:
        self.names += 1
        member = self.broker.connect(
            f"m{self.names}",
            receive_maximum=self.random.choice((1, 3, 100)),
            session_expiry_interval=self.random.choice((0, 100)),
        )
        member.subscribe(self.filter, qos=2)
        self.members.append(member)

    def publish(self) -> None:
        qos = self.random.randint(1, 2)
        self.publisher.publish("jobs", b"%d" % len(self.qos), qos=qos)
        self.qos.append(qos)

    def receive(self, acknowledge: float) -> None:
        for member in self.members:
            for packet in member.take_all():
                if isinstance(packet, Publish):
                    job = int(packet.payload)
                    assert packet.qos == self.qos[job]
                    self.seen[job] += 1
                    if packet.qos == 2:
                        member.send(Pubrec(packet_id=packet.packet_id))
                    elif self.random.random() < acknowledge:
                        self.acknowledged.add(job)
                        member.send(Puback(packet_id=packet.packet_id))
                    else:
                        self.unacknowledged[member].add(packet.packet_id << 32 | job)
                elif isinstance(packet, Pubrel):
                    member.send(Pubcomp(packet_id=packet.packet_id))

    def acknowledge_all(self) -> None:
        for member in self.members:
            for entry in self.unacknowledged.pop(member, ()):
                self.acknowledged.add(entry & 0xFFFFFFFF)
                member.send(Puback(packet_id=entry >> 32))

    def leave(self) -> None:
        if len(self.members) < 2:
            return
        member = self.members.pop(self.random.randrange(len(self.members)))
        # What it has got stays its own while it only unsubscribes, and goes back when its session ends.
        if self.random.random() < 0.3:
            member.send(Unsubscribe(packet_id=member.next_packet_id(), topic_filters=(self.filter,)))
            self.retire(member)
            return
        for packet in member.take_all():
            if isinstance(packet, Publish):
                self.seen[int(packet.payload)] += 1
                self.may_be_seen_again[int(packet.payload)] += packet.qos == 1
        for entry in self.unacknowledged.pop(member, ()):
            self.may_be_seen_again[entry & 0xFFFFFFFF] += 1
        member.disconnect(session_expiry_interval=0)

    def retire(self, member: Client) -> None:
        """It has unsubscribed; it takes all that it still gets, and goes."""
        others, self.members = self.members, [member]
        for _ in range(200):
            self.receive(1.0)
            self.acknowledge_all()
        member.disconnect(session_expiry_interval=0)
        self.members = others


@pytest.mark.parametrize("share", ["$share", "$oshare"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shards", [1, 3])
def test_every_job_is_done_and_qos_2_once(shards: int, seed: int, share: str) -> None:
    group = Group(shards, seed, share)
    for _ in range(ROUNDS):
        act = group.random.random()
        if act < 0.75:
            group.publish()
        elif act < 0.87:
            group.receive(0.5)
        elif act < 0.93 and len(group.members) < 8:
            group.join()
        else:
            group.leave()
    quiet = 0
    while quiet < 3:
        before = dict(group.seen)
        group.receive(1.0)
        group.acknowledge_all()
        quiet = quiet + 1 if group.seen == before else 0
    assert len(group.qos) > ROUNDS // 2
    for job, qos in enumerate(group.qos):
        if qos == 2:
            assert group.seen[job] == 1, job
        else:
            assert job in group.acknowledged, job
            assert group.seen[job] <= 1 + group.may_be_seen_again[job], job
    assert sum(group.may_be_seen_again.values()) > 0
    assert group.broker.count("messages_dropped") == 0
    group.broker.close()
