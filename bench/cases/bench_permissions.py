"""What permission rules cost per PUBLISH: one shard, connections without sockets, no threads.

Each round feeds 1000 messages of 64 bytes, QoS 0, without a subscriber, to a client with 100 rules of which the last
one matches, and to one without rules; the difference is what the rules cost. One topic: the
verdict about it is remembered while messages come in one piece. 100 and 1000 topics in turn: the rules are walked for
every message.

    pytest --benchmark-enable -s bench/cases/bench_permissions.py
"""

import time
from statistics import median

import pytest

from rookery.core.engine import Engine
from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule import EVERY_ACTION, Action, Effect, Rule
from rookery.core.permissions.rule_set import Permissions

MESSAGES = 1000
RULES = 100
ROUNDS = 200
PAYLOAD = bytes(64)


def rules(count: int) -> list[Rule]:
    """Rules for a device: its own topics come last, behind those of other parts of the site."""
    filters = [f"site/%t/part-{number}/+/state" for number in range(count - 1)] + ["site/%t/device/%c/#"]
    return [Rule(effect=Effect.ALLOW, actions=EVERY_ACTION, topic_filter=text) for text in filters]


def packet(first: int, body: bytes) -> bytes:
    size = len(body)
    return bytes([first, size]) + body if size < 128 else bytes([first, size & 127 | 128, size >> 7]) + body


def text(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def publishes(topic_count: int) -> bytes:
    topics = [f"site/bench/device/writer/channel/{number}".encode() for number in range(topic_count)]
    return b"".join(packet(0x30, text(topics[number % topic_count]) + PAYLOAD) for number in range(MESSAGES))


class Bench:
    """An engine of one shard with one client."""

    def __init__(self, permissions: Permissions | None) -> None:
        self.engine = Engine()
        self.link = self.engine.connect_memory(0)
        self.engine.feed(self.link, packet(0x10, text(b"MQTT") + b"\x04\x02\x00\x00" + text(b"writer")))
        for _ in range(4):
            self.engine.turn(0, 1000)
            for event in self.engine.take_events(0):
                if isinstance(event, ConnectRequested):
                    self.engine.admit(event.connection, tenant_id="bench", user_id="bench", permissions=permissions)
        assert self.engine.collect(self.link) == b"\x20\x02\x00\x00"

    def publish(self, data: bytes) -> float:
        """Nanoseconds per message."""
        self.engine.feed(self.link, data)
        begin = time.perf_counter_ns()
        for _ in range(len(data) // 16384 + 2):
            self.engine.turn(0, 1000)
        took = time.perf_counter_ns() - begin
        assert self.engine.is_link_open(self.link)  # A denied publication would have closed it.
        return took / MESSAGES


@pytest.mark.parametrize("topic_count", [1, 100, 1000])
def test_rules_per_publish(request: pytest.FixtureRequest, topic_count: int) -> None:
    free, limited = Bench(None), Bench(Permissions(rules(RULES)))
    data = publishes(topic_count)
    is_measured = bool(request.config.getoption("--benchmark-enable"))
    # In turn, so that whatever else the machine does falls on both.
    pairs = [(free.publish(data), limited.publish(data)) for _ in range(ROUNDS if is_measured else 2)]
    for bench in (free, limited):
        bench.engine.close()
    if is_measured:
        without, with_rules = (sorted(times) for times in zip(*pairs, strict=True))
        cost, cost_median = with_rules[0] - without[0], median(with_rules) - median(without)
        print(
            f"\n{topic_count} topics: {without[0]:.0f} ns without rules, {with_rules[0]:.0f} ns with {RULES}; "
            f"rules cost {cost:.0f} ns (minima), {cost_median:.0f} ns (medians)"
        )


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_check_and_memory(request: pytest.FixtureRequest, count: int) -> None:
    permissions = Permissions(rules(count))
    assert permissions.check(Action.PUBLISH, "site/t/device/c/x", tenant_id="t", client_id="c") is not None
    begin = time.perf_counter_ns()
    for _ in range(ROUNDS):
        permissions.check(Action.PUBLISH, "site/t/device/c/x", tenant_id="t", client_id="c")
    took = (time.perf_counter_ns() - begin) / ROUNDS
    if request.config.getoption("--benchmark-enable"):
        print(
            f"\n{count} rules: {took:.0f} ns for a check from Python; {permissions.memory_bytes / count:.0f} B a rule"
        )
