"""A broker that errs on purpose: the generator has to notice, and to name what it saw."""

import copy
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from rookery.bench import plan
from rookery.bench.load import Load
from rookery.bench.outcome import InvalidRun, LoadError
from rookery.bench.packets import encode_length, encode_text
from rookery.bench.plan import Plan, Traffic

MESSAGES = 20


@dataclass(frozen=True)
class Message:
    """One PUBLISH on its way to a subscriber."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    dup: bool = False
    # Member of a shared group, or pair, that gets it; None: whoever is subscribed.
    subscriber: str | None = None


Mischief = Callable[[int, Message], list[Message]]


def honest(number: int, message: Message) -> list[Message]:
    return [message]


def read_packet(stream: socket.socket) -> tuple[int, bytes]:
    """First byte and body of the next packet; EOFError at the end."""
    first, length, shift = _read(stream, 1)[0], 0, 0
    while True:
        byte = _read(stream, 1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return first, _read(stream, length)


def _read(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + encode_length(len(body)) + body


@dataclass
class FakeBroker:
    """Enough of a broker for a load: exact filters, $share, QoS 0 to 2, versions 4 and 5. One thread per connection.

    mischief turns the n-th message (from 0) that is to be delivered into what is delivered instead.
    """

    mischief: Mischief = honest
    connack: bytes = b"\x20\x02\x00\x00"
    suback_code: int | None = None
    # Sent when the first PUBLISH comes, instead of anything else; then the connection is closed.
    outburst: bytes | None = None
    puback_count: int = 1
    # Messages are kept back until released; acknowledgements are not.
    is_holding: bool = False
    is_withholding_pubacks: bool = False
    most_unacknowledged: int = 0
    version: int = 4

    lock: threading.RLock = field(default_factory=threading.RLock)
    subscribers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    streams: dict[str, socket.socket] = field(default_factory=dict)
    held: list[Message] = field(default_factory=list)
    unacknowledged: list[bytes] = field(default_factory=list)
    delivered: int = 0
    packet_ids: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "FakeBroker":
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self.listener.getsockname()[1]
        self.start(self.accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()

    def start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self.threads.append(thread)
        thread.start()

    def accept(self) -> None:
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            self.start(self.serve, stream)

    def serve(self, stream: socket.socket) -> None:
        with stream:
            try:
                _, body = read_packet(stream)
                client = body[-8:].decode()
                self.streams[client] = stream
                stream.sendall(self.connack)
                while True:
                    self.take(client, stream, *read_packet(stream))
            except (EOFError, OSError):
                return

    def take(self, client: str, stream: socket.socket, first: int, body: bytes) -> None:
        kind, properties = first >> 4, b"\0" if self.version == 5 else b""
        if kind == 8:
            length = struct.unpack_from("!H", body, 2 + len(properties))[0]
            start = 4 + len(properties)
            topic_filter = body[start : start + length].decode()
            code = body[start + length] if self.suback_code is None else self.suback_code
            with self.lock:
                self.subscribers[topic_filter.rpartition("$share/t/")[2]].append(client)
            stream.sendall(packet(0x90, body[:2] + properties + bytes([code])))
        elif kind == 3:
            self.take_publish(stream, first, body)
        elif kind in (5, 6):
            stream.sendall(packet(0x62 if kind == 5 else 0x70, body[:2]))

    def take_publish(self, stream: socket.socket, first: int, body: bytes) -> None:
        if self.outburst is not None:
            stream.sendall(self.outburst)
            stream.shutdown(socket.SHUT_RDWR)
            return
        qos = first >> 1 & 3
        length = struct.unpack_from("!H", body)[0]
        start = 2 + length + (2 if qos else 0) + (1 if self.version == 5 else 0)
        packet_id = body[2 + length : 4 + length]
        with self.lock:
            if qos:
                answer = packet(0x40 if qos == 1 else 0x50, packet_id)
                if self.is_withholding_pubacks:
                    self.unacknowledged.append(answer)
                    self.most_unacknowledged = max(self.most_unacknowledged, len(self.unacknowledged))
                else:
                    stream.sendall(answer * self.puback_count)
            message = Message(body[2 : 2 + length].decode(), body[start:], qos)
            if self.is_holding:
                self.held.append(message)
            else:
                self.deliver(message)

    def release(self) -> None:
        """Deliver what was held back."""
        with self.lock:
            self.is_holding = False
            for message in self.held:
                self.deliver(message)

    def deliver(self, message: Message) -> None:
        with self.lock:
            number, self.delivered = self.delivered, self.delivered + 1
            # In one go: whoever has got all that he waits for does not see what comes a moment later.
            packets: dict[str, bytes] = defaultdict(bytes)
            for changed in self.mischief(number, message):
                # A shared group takes turns.
                clients = self.subscribers[message.topic] or [self.subscribers["t/+"][number % 2]]
                for client in [changed.subscriber] if changed.subscriber else clients:
                    packets[client] += self.encode(client, changed)
            for client, encoded in packets.items():
                self.streams[client].sendall(encoded)

    def encode(self, client: str, message: Message) -> bytes:
        body = encode_text(message.topic)
        if message.qos:
            self.packet_ids[client] += 0 if message.dup else 1
            body += struct.pack("!H", self.packet_ids[client])
        body += (b"\0" if self.version == 5 else b"") + message.payload
        return packet(0x30 | message.dup << 3 | message.qos << 1 | message.retain, body)


def drops(which: int) -> Mischief:
    return lambda number, message: [] if number == which else [message]


def doubles(which: int, *, dup: bool = False) -> Mischief:
    return lambda number, message: [message, replace(message, dup=dup)] if number == which else [message]


def changes(which: int, change: Callable[[Message], Message]) -> Mischief:
    return lambda number, message: [change(message) if number == which else message]


@dataclass
class Delays:
    """Delivers a message late, after one of its successors."""

    which: int
    by: int = 1
    kept: list[Message] = field(default_factory=list)

    def __call__(self, number: int, message: Message) -> list[Message]:
        if number == self.which:
            self.kept = [message]
            return []
        return [message, *self.kept] if number == self.which + self.by else [message]


@dataclass
class Misleads:
    """Delivers the first message on a topic to a subscriber of another."""

    topic: str
    subscriber: str
    is_done: bool = False

    def __call__(self, number: int, message: Message) -> list[Message]:
        if self.is_done or message.topic != self.topic:
            return [message]
        self.is_done = True
        return [replace(message, subscriber=self.subscriber)]


def flip(payload: bytes, index: int) -> bytes:
    return payload[:index] + bytes([payload[index] ^ 1]) + payload[index + 1 :]


def run_to_the_end(broker: FakeBroker, whole: Plan, traffic: Traffic) -> Load:
    """A load that has sent its messages and waited a moment for the last one."""
    load = Load("127.0.0.1", broker.port, whole, traffic)
    load.connect()
    load.subscribe()
    load.start(messages=MESSAGES)
    load.publish_all()
    load.drain(silence_s=0.1)
    load.close()
    return load


@pytest.fixture(params=[0, 1, 2])
def qos(request: pytest.FixtureRequest) -> int:
    level: int = request.param
    return level


@pytest.mark.parametrize("version", [4, 5])
def test_an_honest_broker_has_nothing_to_fear(qos: int, version: int) -> None:
    connack = b"\x20\x02\x00\x00" if version == 4 else b"\x20\x03\x00\x00\x00"
    with FakeBroker(version=version, connack=connack) as broker:
        load = run_to_the_end(broker, plan.pairs(1, prefix="t"), Traffic(qos=qos, version=version))
        load.check()
        assert load.counts.delivered == MESSAGES


@pytest.mark.parametrize(
    ("mischief", "problems"),
    [
        (drops(7), {"lost": 1}),
        (drops(0), {"lost": 1}),
        (drops(MESSAGES - 1), {"lost": 1}),
        (lambda number, message: [message] if number % 3 else [], {"lost": 7}),
        (doubles(7), {"doubled": 1}),
        (doubles(MESSAGES - 1), {"doubled": 1}),
        (Delays(7), {"out of order": 1}),
        (Delays(0), {"out of order": 1}),
        (changes(7, lambda message: replace(message, payload=message.payload[:-1])), {"lost": 1, "damaged": 1}),
        (changes(7, lambda message: replace(message, payload=message.payload + b"x")), {"lost": 1, "damaged": 1}),
        # Message 0 is one of those that are compared byte for byte.
        (changes(0, lambda message: replace(message, payload=flip(message.payload, 63))), {"lost": 1, "damaged": 1}),
        # The first bytes tell the run, the next four the flow, then comes the number.
        (
            changes(7, lambda message: replace(message, payload=flip(message.payload, 0))),
            {"lost": 1, "at the wrong subscriber": 1},
        ),
        (
            changes(7, lambda message: replace(message, payload=flip(message.payload, 4))),
            {"lost": 1, "at the wrong subscriber": 1},
        ),
        (changes(7, lambda message: replace(message, payload=flip(message.payload, 14))), {"lost": 1, "never sent": 1}),
        (changes(7, lambda message: replace(message, retain=True)), {"with the wrong QoS or retain flag": 1}),
    ],
)
def test_a_broker_that_errs_is_found_out(qos: int, mischief: Mischief, problems: dict[str, int]) -> None:
    with FakeBroker(copy.deepcopy(mischief)) as broker:
        load = run_to_the_end(broker, plan.pairs(1, prefix="t"), Traffic(qos=qos, window=MESSAGES))
        with pytest.raises(InvalidRun) as invalid:
            load.check()
    assert invalid.value.problems == problems
    assert invalid.value.delivered == load.counts.delivered == MESSAGES - problems.get("lost", 0)
    assert all(f"{count} {name}" in str(invalid.value) for name, count in problems.items())


def test_a_message_at_the_neighbours_is_found_out(qos: int) -> None:
    with FakeBroker(Misleads("t/000001", subscriber="00000000")) as broker:
        load = run_to_the_end(broker, plan.pairs(2, prefix="t"), Traffic(qos=qos, window=MESSAGES))
        with pytest.raises(InvalidRun) as invalid:
            load.check()
    assert invalid.value.problems == {"lost": 1, "at the wrong subscriber": 1}


def test_a_message_at_the_subscriber_of_another_filter_is_found_out() -> None:
    """All subscribers of this plan receive from the same publisher, but each owns its own topics."""
    whole = plan.pairs(1, prefix="t")
    first, second = (
        replace(whole.clients[0], topic_filters=(f"t/00000{number}",), owns=range(number, number + 1))
        for number in range(2)
    )
    publisher = replace(whole.clients[1], topics=("t/000000", "t/000001"))
    parted = Plan((first, second, publisher), is_parted=True)
    for mischief, is_wrong in ((honest, False), (Misleads("t/000001", subscriber="00000000"), True)):
        with FakeBroker(mischief) as broker:
            load = run_to_the_end(broker, parted, Traffic(window=MESSAGES))
            if is_wrong:
                with pytest.raises(InvalidRun, match="1 lost, 1 at the wrong subscriber"):
                    load.check()
            else:
                load.check()


def test_a_downgraded_message_is_found_out() -> None:
    with FakeBroker(changes(7, lambda message: replace(message, qos=0))) as broker:
        load = run_to_the_end(broker, plan.pairs(1, prefix="t"), Traffic(qos=1))
        with pytest.raises(InvalidRun, match="1 with the wrong QoS"):
            load.check()


def test_a_marked_redelivery_at_qos_1_is_counted_and_is_no_error() -> None:
    with FakeBroker(doubles(7, dup=True)) as broker:
        load = run_to_the_end(broker, plan.pairs(1, prefix="t"), Traffic(qos=1))
        load.check()
        assert load.counts.redelivered == 1
        assert load.counts.delivered == MESSAGES


def test_a_marked_redelivery_at_qos_2_is_an_error() -> None:
    with FakeBroker(doubles(7, dup=True)) as broker:
        load = run_to_the_end(broker, plan.pairs(1, prefix="t"), Traffic(qos=2))
        with pytest.raises(InvalidRun) as invalid:
            load.check()
    assert invalid.value.problems["doubled"] == 1


@pytest.mark.parametrize(
    ("mischief", "problems"),
    [
        (drops(3), {"lost": 1}),
        (doubles(3), {"doubled": 1}),
        # Both members get it: no member can see that alone.
        (
            lambda number, message: [
                replace(message, subscriber=f"0000000{member}") for member in ((0, 1) if number == 3 else (number % 2,))
            ],
            {"doubled": 1},
        ),
        # Members take turns: numbers 4 and 6 go to the same one.
        (Delays(4, by=2), {"out of order": 1}),
    ],
)
def test_errors_in_a_shared_subscription_are_found_out(mischief: Mischief, problems: dict[str, int]) -> None:
    with FakeBroker(copy.deepcopy(mischief)) as broker:
        load = run_to_the_end(broker, plan.shared(1, 2, prefix="t"), Traffic(window=MESSAGES))
        with pytest.raises(InvalidRun) as invalid:
            load.check()
    assert invalid.value.problems == problems


def test_one_of_many_subscribers_that_misses_a_message_is_found_out() -> None:
    def skips_the_third(number: int, message: Message) -> list[Message]:
        if number != 7:
            return [message]
        return [replace(message, subscriber=f"0000000{client}") for client in range(4) if client != 2]

    with FakeBroker(skips_the_third) as broker:
        load = run_to_the_end(broker, plan.fan_out(4, prefix="t"), Traffic(window=5))
        with pytest.raises(InvalidRun, match=r"^1 lost"):
            load.check()


@pytest.mark.parametrize(("count", "problem"), [(0, "handshakes unfinished"), (2, "acknowledgements out of step")])
@pytest.mark.parametrize("qos", [1, 2])
def test_missing_and_surplus_acknowledgements_are_found_out(count: int, problem: str, qos: int) -> None:
    with FakeBroker(puback_count=count) as broker:
        load = Load("127.0.0.1", broker.port, plan.pairs(1, prefix="t"), Traffic(qos=qos))
        load.connect()
        load.subscribe()
        load.start(messages=1)
        load.run(0.05)
        load.drain(silence_s=0.1)
        with pytest.raises(InvalidRun) as invalid:
            load.check()
        load.close()
    assert invalid.value.problems == {problem: 1}


@pytest.mark.parametrize(
    ("connack", "version", "complaint"),
    [
        (b"\x20\x02\x00\x05", 4, "client 0: CONNECT refused with code 0x05"),
        (b"\x20\x03\x00\x87\x00", 5, "client 0: CONNECT refused with code 0x87"),
        (b"\x20\x01\x00", 4, "first byte 0x20"),
        (b"\x20\x05\x00\x00\x02\x7f\x00", 5, "first byte 0x20"),
        (b"\x90\x03\x00\x01\x00", 4, "first byte 0x90"),
        (b"\xd0\x00", 4, "first byte 0xD0"),
        (b"\x20\xff\xff\xff\xff\x7f", 4, "first byte 0x20"),
        (b"\x30\xff\xff\xff\x7f", 4, "packet of 268435455 bytes"),
    ],
)
def test_a_broker_that_answers_connect_wrongly_ends_the_run(connack: bytes, version: int, complaint: str) -> None:
    with FakeBroker(connack=connack, version=version) as broker:
        load = Load("127.0.0.1", broker.port, plan.idle(1, prefix=""), Traffic(version=version))
        with pytest.raises(LoadError, match=complaint):
            load.connect(timeout_s=5)
        load.close()


@pytest.mark.parametrize("code", [0x80, 0, 2])
def test_a_subscription_at_another_qos_ends_the_run(code: int) -> None:
    with FakeBroker(suback_code=code) as broker:
        load = Load("127.0.0.1", broker.port, plan.pairs(1, prefix="t"), Traffic(qos=1))
        load.connect()
        with pytest.raises(LoadError, match=f"client 0: SUBSCRIBE answered with code 0x{code:02X}"):
            load.subscribe()
        load.close()


@pytest.mark.parametrize(
    ("outburst", "version", "complaint"),
    [
        (b"", 4, "client 1: closed by the broker"),
        (b"\xe0\x01\x93", 5, "client 1: DISCONNECT from the broker with code 0x93"),
        (b"\x40\x03\x00\x01\x97", 5, "client 1: PUBLISH refused with code 0x97"),
        (b"\x40\x01\x00", 4, "client 1: malformed or unexpected packet, first byte 0x40"),
        (b"\xf0\x00", 4, "client 1: malformed or unexpected packet, first byte 0xF0"),
        (b"\x30\x01\x00", 4, "client 1: malformed or unexpected packet, first byte 0x30"),
        (b"\x36\x05\x00\x01a\x00\x01", 4, "client 1: malformed or unexpected packet, first byte 0x36"),
    ],
)
def test_a_broker_that_ends_a_connection_ends_the_run(outburst: bytes, version: int, complaint: str) -> None:
    connack = b"\x20\x02\x00\x00" if version == 4 else b"\x20\x03\x00\x00\x00"
    with FakeBroker(outburst=outburst, version=version, connack=connack) as broker:
        load = Load("127.0.0.1", broker.port, plan.pairs(1, prefix="t"), Traffic(qos=1, version=version))
        load.connect()
        load.subscribe()
        load.start()
        with pytest.raises(LoadError, match=complaint):
            load.run(5)
        load.close()


def test_pings_without_an_answer_are_found_out() -> None:
    with FakeBroker() as broker:
        load = Load("127.0.0.1", broker.port, plan.idle(2, prefix=""), Traffic())
        load.connect()
        load.ping(1000)
        load.run(0.01)
        load.ping(0)
        assert not load.drain(silence_s=0.1)
        with pytest.raises(InvalidRun, match="pings unanswered"):
            load.check()
        load.close()


def test_a_window_holds_while_nothing_arrives(qos: int) -> None:
    with FakeBroker(is_holding=True) as broker:
        load = Load("127.0.0.1", broker.port, plan.pairs(3, prefix="t"), Traffic(qos=qos, window=7))
        load.connect()
        load.subscribe()
        load.start()
        load.run(0.1)
        assert load.counts.sent == 3 * 7
        load.stop()
        broker.release()
        assert load.drain()
        load.check()
        load.close()


def test_the_slowest_of_many_subscribers_moves_the_window() -> None:
    def starves_the_last(number: int, message: Message) -> list[Message]:
        return [replace(message, subscriber=f"0000000{client}") for client in range(3)]

    with FakeBroker(starves_the_last) as broker:
        load = Load("127.0.0.1", broker.port, plan.fan_out(4, prefix="t"), Traffic(window=5))
        load.connect()
        load.subscribe()
        load.start()
        load.run(0.1)
        assert load.counts.sent == 5
        load.close()


def test_receive_maximum_of_the_broker_holds() -> None:
    with FakeBroker(version=5, connack=b"\x20\x06\x00\x00\x03\x21\x00\x03", is_withholding_pubacks=True) as broker:
        load = Load("127.0.0.1", broker.port, plan.pairs(1, prefix="t"), Traffic(qos=1, version=5, window=100))
        load.connect()
        load.subscribe()
        load.start()
        load.run(0.1)
        load.close()
    assert broker.most_unacknowledged == 3


def test_latency_in_an_open_loop_counts_from_when_a_message_was_due() -> None:
    with FakeBroker(is_holding=True) as broker:
        load = Load("127.0.0.1", broker.port, plan.pairs(1, prefix="t"), Traffic(window=0))
        load.connect()
        load.subscribe()
        load.mark()
        load.start(rate=1000)
        load.run(0.2)
        load.stop()
        broker.release()
        assert load.drain()
        load.check()
        load.close()
    # Those that were due evenly in 200 ms waited 100 ms in the middle, and the first one all the time.
    assert load.latency_count > 100
    assert load.latency_ns(50) >= 98e6
    assert load.latency_ns(100) >= 199e6


def test_a_broker_that_is_silent_makes_connect_end_at_its_deadline() -> None:
    with FakeBroker(connack=b"") as broker:
        load = Load("127.0.0.1", broker.port, plan.idle(2, prefix=""), Traffic())
        with pytest.raises(LoadError, match="2 clients got no CONNACK"):
            load.connect(timeout_s=0.05)
        load.close()


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
