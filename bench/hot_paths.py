"""What is counted of the path of a message: decode, match and deliver, each as a piece of work that repeats exactly.

    python bench/hot_paths.py FILE

runs every path once and writes to FILE which pieces lay between the calls of a marker, in their order: a JSON list of
`[path, operations]`, with null for what is only preparation. Callgrind, told to dump its counters before each call of
the marker, has a dump for each of them (`instructions.py`). The marker is a function of the C library that nothing else
here calls: it needs nothing compiled, so that a checkout from before this file can be counted, too. For the same reason
all that is needed of `rookery` is imported where it is used, and a path that a checkout does not have is left out.
(A call by ctypes would not do: libffi exchanges the stack, and callgrind does not see that call.)

Nothing here is random: hashes get a fixed key, and time stands still.
"""

import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# math.cbrt is a thin cover of the C function of this name.
MARKER = "cbrt"

PAYLOAD = bytes(64)
TOPIC = b"bench/delivery/topic"
# Messages of one piece: all of them fit into one window of packet identifiers.
MESSAGES = 500
FAN_OUT = 100
FILTER_COUNT = 50_000
COLD_COUNT = 5_000
HOT_COUNT = 200
REPEATS = 50
SEED = 7

_pieces: list[tuple[str | None, int]] = []


@contextmanager
def counted(path: str, operations: int) -> Iterator[None]:
    """What happens inside belongs to a path; the same path may be entered several times."""
    _pieces.append((None, 0))
    math.cbrt(0.0)
    yield
    _pieces.append((path, operations))
    math.cbrt(0.0)


# ------------------------------------------------------------------------------------------------- decode and encode


def _packet(first: int, body: bytes) -> bytes:
    size = len(body)
    return bytes([first, size]) + body if size < 128 else bytes([first, size & 127 | 128, size >> 7]) + body


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _publishes(qos: int, count: int = MESSAGES) -> bytes:
    return b"".join(
        _packet(0x30 | qos << 1, _text(TOPIC) + (number + 1).to_bytes(2) * (qos > 0) + PAYLOAD)
        for number in range(count)
    )


def codec() -> None:
    """PUBLISH packets as they lie in a read buffer, and back."""
    from rookery.bench.cases_wire import decode_publishes, encode_publishes

    topics = [f"site/{index % 7}/device/{index:04d}/temp".encode() for index in range(64)]
    count = len(topics) * REPEATS
    for version in (4, 5):
        for qos in (0, 1):
            tail = (b"\x00\x07" if qos else b"") + (b"\x00" if version == 5 else b"") + PAYLOAD
            stream = b"".join(_packet(0x30 | qos << 1, _text(topic) + tail) for topic in topics)
            assert decode_publishes(stream, version, 1) == len(topics)
            with counted(f"decode, version {version}, QoS {qos}", count):
                decode_publishes(stream, version, REPEATS)
    encode_publishes(topics, PAYLOAD, 1, 5, 1)
    with counted("encode, version 5, QoS 1", count):
        encode_publishes(topics, PAYLOAD, 1, 5, REPEATS)


# ------------------------------------------------------------------------------------------------------------- match


def _levels(generator: random.Random) -> list[str]:
    region, site, device, value = (generator.randrange(limit) for limit in (20, 100, 50, 100))
    return [f"r{region:02d}", f"site{site:03d}", f"dev{device:02d}", f"value{value:02d}"]


def match() -> None:
    """Topics through a tree of 50 000 filters: without wildcards, with a tenth of them, and through the cache."""
    from rookery.bench.topic_loops import Texts, add_all, match_all, match_all_cached, remove_all
    from rookery.core.topics.cache import TopicMatcher
    from rookery.core.topics.tree import TopicFilters

    generator = random.Random(SEED)
    exact = list(dict.fromkeys("/".join(_levels(generator)) for _ in range(FILTER_COUNT)))
    wild = []
    for number in range(FILTER_COUNT // 10):
        levels = _levels(generator)
        place = number % 5
        wild.append("/".join([*levels[:2], "#"] if place == 4 else [*levels[:place], "+", *levels[place + 1 :]]))
    wild = list(dict.fromkeys(wild))
    cold, hot = Texts(exact[:COLD_COUNT]), Texts(exact[:HOT_COUNT])
    filters = TopicFilters()
    add_all(filters, Texts(exact))
    match_all(filters, cold)
    with counted("match, cold", len(cold)):
        match_all(filters, cold)
    added = Texts(wild)
    with counted("add a filter", len(added)):
        ids = add_all(filters, added)
    match_all(filters, cold)
    with counted("match, wildcards", len(cold)):
        match_all(filters, cold)
    matcher = TopicMatcher(filters)
    match_all_cached(matcher, hot)
    with counted("match, hot", len(hot) * REPEATS):
        match_all_cached(matcher, hot, REPEATS)
    with counted("remove a filter", len(added)):
        remove_all(filters, ids)


# ----------------------------------------------------------------------------------------------------------- deliver


class Bench:
    """An engine with connections that have no sockets; the first shard reads, whoever owns the session."""

    def __init__(self, shard_count: int = 1) -> None:
        from rookery.core.engine import Engine

        self.shards = range(shard_count)
        self.engine = Engine(shard_count=shard_count)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            for shard in self.shards:
                self.engine.turn(shard, 1000)

    def connections(self) -> list[int]:
        """Clients of each shard."""
        from rookery.core.events import Reply, ShardStatistics

        counts = []
        for shard in self.shards:
            self.engine.statistics(1, shard)
            self.turn()
            for event in self.engine.take_events(shard):
                if isinstance(event, Reply) and isinstance(event.value, ShardStatistics):
                    counts.append(event.value.connections)
        return counts

    def connect(self, client_id: str, qos: int | None = None) -> int:
        """A client that was admitted; with a QoS it has subscribed to the topic of all messages."""
        from rookery.core.events import ConnectRequested

        link = self.engine.connect_memory(0)
        self.engine.feed(link, _packet(0x10, _text(b"MQTT") + b"\x04\x02\x00\x00" + _text(client_id.encode())))
        if qos is not None:
            self.engine.feed(link, _packet(0x82, b"\x00\x01" + _text(TOPIC) + bytes([qos])))
        for _ in range(4):
            self.turn()
            for shard in self.shards:
                for event in self.engine.take_events(shard):
                    if isinstance(event, ConnectRequested):
                        self.engine.admit(event.connection, tenant_id="bench", user_id="bench")
        answer = self.engine.collect(link)
        assert answer.startswith(b"\x20\x02\x00\x00"), answer
        return link

    def exchange(self, link: int, data: bytes) -> None:
        """Feed one connection and turn until all of it is read; 16 KiB are read per turn."""
        self.engine.feed(link, data)
        self.turn(len(data) // 16384 + 2)


def _acknowledgements(data: bytes, first: int) -> bytes:
    """One packet of four bytes for every packet identifier in data: of PUBLISH packets, or of packets of four bytes."""
    if data[0] >> 4 == 3:
        size = len(_publishes(1, 1))
        places = range(size - len(PAYLOAD) - 2, len(data), size)
    else:
        size = 4
        places = range(2, len(data), size)
    assert len(data) % size == 0
    return b"".join(bytes((first, 2)) + data[place : place + 2] for place in places)


def deliver() -> None:
    """A message from the read buffer of its publisher to the out-buffers of its subscribers, with its handshakes."""
    for qos in (0, 1, 2):
        bench = Bench()
        reader = bench.connect("reader", qos)
        writer = bench.connect("writer")
        data = _publishes(qos)
        path = f"deliver, QoS {qos}"
        for is_counted in (False, False, True):
            _deliver(bench, writer, reader, data, qos, path if is_counted else None)
        bench.engine.close()
    bench = Bench()
    readers = [bench.connect(f"reader {number}", 0) for number in range(FAN_OUT)]
    writer = bench.connect("writer")
    data = _publishes(0, 100)
    for is_counted in (False, True):
        if is_counted:
            with counted("deliver, fan-out 1 to 100", 100 * FAN_OUT):
                bench.exchange(writer, data)
        else:
            bench.exchange(writer, data)
        for each in readers:
            assert len(bench.engine.collect(each)) == len(data)
    bench.engine.close()


def cross() -> None:
    """A message whose subscriber belongs to another shard than its publisher."""
    bench = Bench(2)
    writer = bench.connect("writer")
    before = bench.connections()
    number = 0
    # Its name decides where a session lives; those that live with the writer leave again.
    while True:
        reader = bench.connect(f"reader {number}", 0)
        after = bench.connections()
        if before.index(1) != next(shard for shard in bench.shards if after[shard] > before[shard]):
            break
        bench.engine.hang_up(reader)
        bench.turn(4)
        assert bench.connections() == before
        number += 1
    data = _publishes(0)
    for is_counted in (False, False, True):
        if is_counted:
            with counted("deliver, QoS 0, to another shard", MESSAGES):
                bench.exchange(writer, data)
        else:
            bench.exchange(writer, data)
        bench.turn(2)
        assert len(bench.engine.collect(reader)) == len(data)
    bench.engine.close()


def _deliver(bench: Bench, writer: int, reader: int, data: bytes, qos: int, path: str | None) -> None:
    """One piece from end to end; making the acknowledgements is no part of what is counted."""

    def exchange(link: int, packets: bytes, operations: int = 0) -> None:
        if path is None:
            bench.exchange(link, packets)
        else:
            with counted(path, operations):
                bench.exchange(link, packets)

    exchange(writer, data, MESSAGES)
    sent = bench.engine.collect(reader)
    assert len(sent) == len(data)
    answered = bench.engine.collect(writer)
    if qos == 1:
        exchange(reader, _acknowledgements(sent, 0x40))
    elif qos == 2:
        exchange(reader, _acknowledgements(sent, 0x50))
        exchange(reader, _acknowledgements(bench.engine.collect(reader), 0x70))
        exchange(writer, _acknowledgements(answered, 0x62))
        answered = bench.engine.collect(writer)
    assert len(answered) == (4 * MESSAGES if qos else 0)


PATHS: tuple[Callable[[], None], ...] = (codec, match, deliver, cross)


def main(file: Path) -> None:
    os.urandom = lambda size: bytes(range(size))  # The keys of the hash tables: what collides, collides each time.
    for path in PATHS:
        before = len(_pieces)
        try:
            path()
        except (ImportError, AttributeError) as error:
            print(f"{path.__name__}: {error}", file=sys.stderr)
            # The marker was called as often as the list has entries, whatever they would have been.
            _pieces[before:] = [(None, 0)] * (len(_pieces) - before)
    import rookery.core.engine

    file.write_text(json.dumps({"engine": rookery.core.engine.__file__, "pieces": _pieces}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
