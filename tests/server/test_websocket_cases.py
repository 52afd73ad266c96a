"""The cases of the Autobahn test suite for WebSocket servers that apply to MQTT, under their numbers.

What the suite has echoed is a PUBLISH here, to a topic that its publisher has subscribed to; its payload is the
suite's. Cases of the suite with text have binary frames instead, but for 1.1, since text is forbidden [MQTT-6.0.0-1].
Left out are those about text alone (6, 9.1, 9.3, 9.5, 9.7), about fragments that the server would make (10), and
about compression (12, 13), which is not offered.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from rookery.server.address import Address
from support import packets
from support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    NO_MASK,
    PING,
    PONG,
    TEXT,
    close,
    fragments,
    frame,
)
from support.mqtt_client import DEADLINE_S, Client
from support.packets import MQTT_5_0
from support.process import BrokerProcess, rookery_only, start_broker
from support.websocket import WebSocketPipe, open_websocket

pytestmark = rookery_only

CONFIGURATION = """
[listeners.browsers]
kind = "ws"
bind = "127.0.0.1:0"
"""

TOPIC = "echo"


@dataclass(frozen=True)
class Case:
    """What a client sends behind its CONNECT, and what it gets."""

    number: str  # of the suite
    what: str
    sent: bytes
    echoes: tuple[bytes, ...] = ()  # payloads
    pongs: tuple[bytes, ...] = ()
    code: int | None = None  # of the close frame that the broker answers with; None = the connection stays open
    chop: int = 0  # bytes of one write; 0 = all at once


def publication(payload: bytes) -> bytes:
    return packets.encode(packets.Publish(topic=TOPIC, payload=payload), MQTT_5_0)


def halves(data: bytes) -> tuple[bytes, bytes]:
    return data[: len(data) // 2], data[len(data) // 2 :]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


HELLO = b"Hello, world!"
MESSAGE = publication(HELLO)
FIRST, SECOND = halves(MESSAGE)
ECHO = (HELLO,)


def messages() -> Iterator[Case]:
    for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
        payload = b"\xfe" * size
        # The size is that of the frame where a PUBLISH can be so small.
        room = max(size - len(publication(payload)) + len(payload), 0)
        yield Case(f"1.1.{number}", f"text of {size} bytes", frame(TEXT, b"*" * size), code=1003)
        yield Case(
            f"1.2.{number}",
            f"binary of {size} bytes",
            frame(BINARY) + frame(BINARY, publication(payload[:room])),
            (payload[:room],),
        )
    payload = b"\xfe" * 65536
    yield Case("1.2.8", "binary of 65536 bytes in chops", frame(BINARY, publication(payload)), (payload,), chop=997)


def pings() -> Iterator[Case]:
    binary = bytes((0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF))
    yield Case("2.1", "ping without payload", frame(PING), pongs=(b"",))
    yield Case("2.2", "ping with text", frame(PING, HELLO), pongs=(HELLO,))
    yield Case("2.3", "ping with bytes", frame(PING, binary), pongs=(binary,))
    yield Case("2.4", "ping of 125 bytes", frame(PING, b"\xfe" * 125), pongs=(b"\xfe" * 125,))
    yield Case("2.5", "ping of 126 bytes", frame(PING, b"\xfe" * 126), code=1002)
    yield Case("2.6", "ping of 125 bytes, one by one", frame(PING, b"\xfe" * 125), pongs=(b"\xfe" * 125,), chop=1)
    yield Case("2.7", "pong nobody asked for", frame(PONG))
    yield Case("2.8", "pong nobody asked for, with payload", frame(PONG, HELLO))
    yield Case("2.9", "pong nobody asked for, then a ping", frame(PONG, HELLO) + frame(PING, b"ping"), pongs=(b"ping",))
    ten = tuple(f"payload-{number}".encode() for number in range(10))
    yield Case("2.10", "ten pings", b"".join(frame(PING, ping) for ping in ten), pongs=ten)
    yield Case("2.11", "ten pings, one by one", b"".join(frame(PING, ping) for ping in ten), pongs=ten, chop=1)


def reserved_bits() -> Iterator[Case]:
    for number in range(1, 8):
        first = FIN | number << 4
        wrong = {5: frame(PING, HELLO, first=first | PING), 6: frame(CLOSE, first=first | CLOSE)}.get(
            number, frame(BINARY, MESSAGE, first=first | BINARY)
        )
        before = b"" if number == 1 else frame(BINARY, MESSAGE)
        what = f"reserved bits {number:03b}"
        yield Case(f"3.{number}", what, before + wrong + frame(PING), ECHO if before else (), code=1002)


def opcodes() -> Iterator[Case]:
    for group, reserved in ((1, range(3, 8)), (2, range(11, 16))):
        for number, opcode in enumerate(reserved, 1):
            payload = HELLO if number % 2 == 0 else b""
            before = b"" if number < 3 else frame(BINARY, MESSAGE)
            yield Case(
                f"4.{group}.{number}",
                f"opcode {opcode}",
                before + frame(opcode, payload) + frame(PING),
                ECHO if before else (),
                code=1002,
            )


def fragmentation() -> Iterator[Case]:
    start = frame(BINARY, FIRST, first=BINARY)
    middle = frame(CONTINUATION, SECOND, first=CONTINUATION)
    end = frame(CONTINUATION, SECOND)
    ping = frame(PING, b"ping")
    pong = (b"ping",)
    yield Case("5.1", "ping in two fragments", frame(PING, HELLO, first=PING) + frame(CONTINUATION, HELLO), code=1002)
    yield Case("5.2", "pong in two fragments", frame(PONG, HELLO, first=PONG) + frame(CONTINUATION, HELLO), code=1002)
    yield Case("5.3", "message in two fragments", start + end, ECHO)
    yield Case("5.4", "message in two fragments, frame by frame", start + end, ECHO, chop=len(start))
    yield Case("5.5", "message in two fragments, byte by byte", start + end, ECHO, chop=1)
    yield Case("5.6", "ping between fragments", start + ping + end, ECHO, pong)
    yield Case("5.7", "ping between fragments, frame by frame", start + ping + end, ECHO, pong, chop=len(start))
    yield Case("5.8", "ping between fragments, byte by byte", start + ping + end, ECHO, pong, chop=1)
    lonely = {
        "final": frame(CONTINUATION, MESSAGE),
        "not final": frame(CONTINUATION, MESSAGE, first=CONTINUATION),
    }
    for first, (what, wrong) in zip((9, 12), lonely.items(), strict=True):
        for number, (how, chop) in enumerate((("", 0), (", frame by frame", len(wrong)), (", byte by byte", 1)), first):
            yield Case(
                f"5.{number}",
                f"continuation of nothing, {what}{how}",
                wrong + frame(BINARY, MESSAGE),
                code=1002,
                chop=chop,
            )
    yield Case("5.15", "continuation behind a message", start + end + middle + frame(BINARY, MESSAGE), ECHO, code=1002)
    yield Case("5.16", "continuation of nothing, then a message, twice", (middle + start + end) * 2, code=1002)
    yield Case("5.17", "final continuation of nothing, then a message, twice", (end + start + end) * 2, code=1002)
    yield Case("5.18", "two first fragments", start + frame(BINARY, SECOND), code=1002)
    parts = cut(MESSAGE, 5)
    long = fragments(parts[0], parts[1] + parts[2], *parts[3:], between=ping)
    count = len(parts) - 2
    yield Case("5.19", "pings between all fragments", long, ECHO, pong * count)
    yield Case("5.20", "pings between all fragments, byte by byte", long, ECHO, pong * count, chop=1)


def closing() -> Iterator[Case]:
    over = frame(BINARY, MESSAGE)
    yield Case("7.1.1", "message, then close", over + close(1000), ECHO, code=1000)
    yield Case("7.1.2", "two closes", close(1000) * 2, code=1000)
    yield Case("7.1.3", "ping behind close", close(1000) + frame(PING, HELLO), code=1000)
    yield Case("7.1.4", "message behind close", close(1000) + over, code=1000)
    start, end = frame(BINARY, FIRST, first=BINARY), frame(CONTINUATION, SECOND)
    yield Case("7.1.5", "close between fragments", start + close(1000) + end, code=1000)
    much = frame(BINARY, publication(bytes(200_000)), mask=NO_MASK)
    yield Case("7.1.6", "long message, close, and more", much + over + close(1000) + frame(PING), code=1000)
    yield Case("7.3.1", "close without payload", frame(CLOSE), code=1005)
    yield Case("7.3.2", "close of one byte", frame(CLOSE, b"a"), code=1002)
    yield Case("7.3.3", "close with a code", close(1000), code=1000)
    yield Case("7.3.4", "close with a reason", close(1000, HELLO), code=1000)
    yield Case("7.3.5", "close with a reason of 123 bytes", close(1000, b"*" * 123), code=1000)
    yield Case("7.3.6", "close of 126 bytes", close(1000, b"*" * 124), code=1002)
    yield Case("7.5.1", "close with a reason that is no UTF-8", close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0"), code=1007)
    valid = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for number, code in enumerate(valid, 1):
        yield Case(f"7.7.{number}", f"close with {code}", close(code), code=code)
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield Case(f"7.9.{number}", f"close with {code}", close(code), code=1002)
    yield Case("7.13.1", "close with 5000", close(5000), code=1002)
    yield Case("7.13.2", "close with 65535", close(65535), code=1002)


def masks_and_lengths() -> Iterator[Case]:
    """What the suite leaves to the client's library."""
    yield Case("unmasked", "a frame without a mask", b"\x82" + bytes((len(MESSAGE),)) + MESSAGE, code=1002)
    yield Case("unmasked ping", "a ping without a mask", b"\x89\x00", code=1002)
    yield Case("zero mask", "a mask that changes nothing", frame(BINARY, MESSAGE, mask=NO_MASK), ECHO)
    yield Case("126", "a length in two bytes that fits one", b"\x82\xfe\x00\x7d" + bytes(4 + 125), code=1002)
    wrong = b"\x82\xff" + struct.pack(">Q", 65535) + bytes(4)
    yield Case("127", "a length in eight bytes that fits two", wrong, code=1002)
    yield Case("63 bits", "a length with its top bit", b"\x82\xff" + struct.pack(">Q", 1 << 63) + bytes(4), code=1002)


MEBIBYTE = 1 << 20


def long_stream(size: int) -> bytes:
    """Packets of size bytes in all, of which only the last comes back."""
    elsewhere = packets.encode(packets.Publish(topic="elsewhere", payload=bytes(65_000)), MQTT_5_0)
    stream = elsewhere * (size // len(elsewhere))
    return stream + MESSAGE


def limits() -> Iterator[Case]:
    """One frame or message may hold any number of packets: only those are limited."""
    for number, size in enumerate((65536, 262144, MEBIBYTE, 4 * MEBIBYTE, 8 * MEBIBYTE, 16 * MEBIBYTE), 1):
        yield Case(f"9.2.{number}", f"frame of {size} bytes", frame(BINARY, long_stream(size), mask=NO_MASK), ECHO)
    for number, size in enumerate((64, 256, 1024, 4096, 16384, 65536, 262144, MEBIBYTE, 4 * MEBIBYTE), 1):
        sent = fragments(*cut(long_stream(4 * MEBIBYTE), size), mask=NO_MASK)
        yield Case(f"9.4.{number}", f"message of 4 MiB in fragments of {size} bytes", sent, ECHO)
    for number, chop in enumerate((64, 128, 256, 512, 1024, 2048), 1):
        sent = frame(BINARY, long_stream(MEBIBYTE), mask=NO_MASK)
        yield Case(f"9.6.{number}", f"frame of 1 MiB in chops of {chop} bytes", sent, ECHO, chop=chop)
    for number, size in enumerate((0, 16, 64, 256, 1024, 16384), 1):
        payload = bytes(size)
        sent = frame(BINARY, publication(payload), mask=NO_MASK) * 100
        yield Case(f"9.8.{number}", f"100 messages of {size} bytes", sent, (payload,) * 100)


def name(case: Case) -> str:
    return f"{case.number} {case.what}"


CASES: Iterable[Case] = (
    *messages(),
    *pings(),
    *reserved_bits(),
    *opcodes(),
    *fragmentation(),
    *closing(),
    *masks_and_lengths(),
    *limits(),
)


@pytest.fixture(scope="module")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The listener."""
    file: Path = tmp_path_factory.mktemp("websocket") / "rookery.toml"
    file.write_text(CONFIGURATION, encoding="utf-8")
    with start_broker("--config", str(file)) as broker:
        yield listener_of(broker)


def listener_of(broker: BrokerProcess) -> Address:
    host, port = broker.addresses["browsers"]
    return Address(host, port)


@pytest.mark.parametrize("case", CASES, ids=name)
async def test_case(browsers: Address, case: Case) -> None:
    async with open_websocket(browsers) as (pipe, _):
        client = Client(pipe)
        await client.connect(client_id=case.number.replace(" ", "-"))
        await client.subscribe(TOPIC)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, pipe, case)
            for payload in case.echoes:
                assert (await client.receive_message()).payload == payload
        if case.code is None:
            await client.ping()
            assert tuple(pipe.pongs) == case.pongs
            pipe.protocol.send_close(1000)
            await pipe.flush()
        await _read_to_the_end(pipe)
    assert pipe.protocol.close_rcvd is not None
    assert pipe.protocol.close_rcvd.code == (1000 if case.code is None else case.code)


async def _send(pipe: WebSocketPipe, case: Case) -> None:
    try:
        for piece in cut(case.sent, case.chop) if case.chop else [case.sent]:
            await pipe.stream.send_all(piece)
    except trio.BrokenResourceError:
        assert case.code is not None, "the broker closed"


async def _read_to_the_end(pipe: WebSocketPipe) -> None:
    with trio.fail_after(DEADLINE_S):
        try:
            while await pipe.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # It ended with bytes of ours unread.
