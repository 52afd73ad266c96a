"""No byte outside of a packet is ever read, whatever the packet says.

Every packet here lies against a page that the kernel lets nobody read: first the page behind its end, then the one
before its beginning. A read out of bounds ends the test run with a segmentation fault.

The same tests find reads inside of the C stack and undefined behaviour when the modules are built with the sanitizers,
apart from the usual build:

    ROOKERY_SANITIZE=1 ROOKERY_MODULES=core/wire python setup.py build --build-base build/sanitized
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \\
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 PYTHONMALLOC=malloc \\
        PYTHONPATH=build/sanitized/lib.linux-x86_64-cpython-311 python -m pytest tests/core/wire
"""

import ctypes
import mmap
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rookery.core.errors import ProtocolError
from rookery.core.wire.codec import decode_packet, is_utf8, is_utf8_payload
from rookery.core.wire.packets import Packet
from support import packets as plain
from support.packets import encode_variable_byte_integer

from .golden import ACCEPTED, REFUSED, ROWS, Row

PAGE = mmap.PAGESIZE
PROT_NONE = 0
CLIENT_TYPES = {1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15}
CLIENT_REASONS: dict[type, set[int]] = {
    plain.Disconnect: {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, *range(0x93, 0x9A)},
    plain.Auth: {0x18, 0x19},
}
SEED = 3_1_1


class GuardedPage:
    """A page of memory between two that may not be read."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 3 * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (self.address, self.address + 2 * PAGE):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def at_end(self, data: bytes) -> memoryview:
        return self.place(data, PAGE - len(data))

    def at_start(self, data: bytes) -> memoryview:
        return self.place(data, 0)

    def place(self, data: bytes, offset: int) -> memoryview:
        assert 0 <= offset <= PAGE - len(data)
        start = PAGE + offset
        self.memory[start : start + len(data)] = data
        return memoryview(self.memory)[start : start + len(data)]


@pytest.fixture(scope="module")
def page() -> GuardedPage:
    return GuardedPage()


def decode_at_both_ends(page: GuardedPage, raw: bytes, version: int) -> Packet | ProtocolError | None:
    """What decode_packet makes of raw: a packet, a refusal, or None while it is not whole."""
    outcomes: list[Packet | ProtocolError | None] = []
    for data in (page.at_end(raw), page.at_start(raw)):
        try:
            packet, size = decode_packet(data, version)
        except ProtocolError as refusal:
            outcomes.append(refusal)
        except EOFError:
            outcomes.append(None)
        else:
            assert size <= len(raw)
            outcomes.append(packet)
    assert repr(outcomes[0]) == repr(outcomes[1])
    return outcomes[0]


def is_judged_alike(raw: bytes, version: int, outcome: Packet | ProtocolError | None) -> bool:
    """Do both codecs take raw, or both refuse it? The plain one judges packets from both sides, ours from clients."""
    # Ours lets pass what 3.1 lets pass in a CONNECT, and knows a second kind of shared subscription.
    if raw[0] >> 4 not in CLIENT_TYPES or b"MQIsdp" in raw or b"$oshare/" in raw:
        return True
    try:
        packet, _ = plain.decode(raw, version)
    except plain.PacketError:
        return isinstance(outcome, ProtocolError)
    match packet:
        case plain.Publish():
            is_from_client = not packet.subscription_ids
        case plain.Disconnect() | plain.Auth():
            is_from_client = version < 5 or packet.reason_code in CLIENT_REASONS[type(packet)]
        case plain.Connect():
            is_from_client = packet.version != 4 or packet.client_id != "" or packet.clean_start
        case _:
            is_from_client = True
    return isinstance(outcome, ProtocolError) != is_from_client


def with_body(row: Row, body: bytes) -> bytes:
    return row.raw[:1] + encode_variable_byte_integer(len(body)) + body


def body_of(row: Row) -> bytes:
    header_size = next(index for index in range(1, 5) if row.raw[index] < 128) + 1
    return row.raw[header_size:]


def test_guard_pages_cannot_be_read(page: GuardedPage) -> None:
    """The proof that the tests below could fail."""
    permissions: dict[int, str] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, flags, *_ = line.split()
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        permissions |= {
            address: flags[:2]
            for address in range(page.address, page.address + 3 * PAGE, PAGE)
            if start <= address < end
        }
    assert list(permissions.values()) == ["--", "rw", "--"]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_whole_packet(page: GuardedPage, row: Row) -> None:
    outcome = decode_at_both_ends(page, row.raw, row.version)
    if "client" in row.senders:
        meaning = outcome.reason_code if isinstance(outcome, ProtocolError) else outcome
        assert meaning == row.meaning


@pytest.mark.parametrize("row", ACCEPTED, ids=str)
def test_stream_that_ends_at_every_byte(page: GuardedPage, row: Row) -> None:
    for size in range(len(row.raw)):
        assert decode_at_both_ends(page, row.raw[:size], row.version) is None


@pytest.mark.parametrize("row", ACCEPTED, ids=str)
def test_packet_that_ends_at_every_byte(page: GuardedPage, row: Row) -> None:
    """The body is cut and Remaining Length says so: what is left is judged, never what is missing."""
    body = body_of(row)
    for size in range(len(body)):
        raw = with_body(row, body[:size])
        outcome = decode_at_both_ends(page, raw, row.version)
        assert outcome is not None
        assert is_judged_alike(raw, row.version, outcome)


@pytest.mark.parametrize("row", [row for row in ACCEPTED + REFUSED if len(row.raw) > 2], ids=str)
def test_every_byte_with_every_bit_flipped(page: GuardedPage, row: Row) -> None:
    body = body_of(row) if row.raw[1] < 128 else row.raw[2:]
    for index in range(len(body)):
        for bit in range(8):
            flipped = bytes((*body[:index], body[index] ^ 1 << bit, *body[index + 1 :]))
            raw = with_body(row, flipped)
            outcome = decode_at_both_ends(page, raw, row.version)
            assert outcome is not None
            assert is_judged_alike(raw, row.version, outcome), raw.hex(" ")


@given(data=st.binary(max_size=80), version=st.sampled_from([3, 4, 5]))
@settings(max_examples=500, deadline=None)
def test_any_bytes(page: GuardedPage, data: bytes, version: int) -> None:
    decode_at_both_ends(page, data, version)


@given(
    first=st.sampled_from([0x10, 0x30, 0x33, 0x3D, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0]),
    body=st.binary(max_size=80),
    version=st.sampled_from([3, 4, 5]),
)
@settings(max_examples=1000, deadline=None)
def test_any_body(page: GuardedPage, first: int, body: bytes, version: int) -> None:
    raw = bytes((first, len(body))) + body
    outcome = decode_at_both_ends(page, raw, version)
    assert outcome is not None
    assert is_judged_alike(raw, version, outcome)


def test_mutated_packets_are_judged_as_the_plain_codec_judges_them(page: GuardedPage) -> None:
    """Packets with a few bytes replaced, removed, doubled or spliced: both codecs take them or both refuse them."""
    chance = random.Random(SEED)
    rows = [row for row in ACCEPTED if len(row.raw) > 2 and row.raw[1] < 128]
    for _ in range(20_000):
        row = chance.choice(rows)
        body = bytearray(body_of(row))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(body) + 1)
            match chance.randrange(4):
                case 0 if place < len(body):
                    body[place] = chance.choice((0, 1, 2, 0x23, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                case 1:
                    del body[place : place + chance.randint(1, 4)]
                case 2:
                    body[place:place] = body[place : place + chance.randint(1, 8)]
                case _:
                    body[place:place] = body_of(chance.choice(rows))[: chance.randint(1, 12)]
        raw = with_body(row, bytes(body))
        outcome = decode_at_both_ends(page, raw, row.version)
        assert is_judged_alike(raw, row.version, outcome), raw.hex(" ")


@pytest.mark.parametrize("size", range(40))
def test_utf8_check(page: GuardedPage, size: int) -> None:
    for text in (b"a" * size, "é".encode() * (size // 2), "😀".encode() * (size // 4), b"a" * (size - 1) + b"\xf0"):
        for data in (page.at_end(text), page.at_start(text)):
            assert is_utf8(data) == is_utf8_payload(data) == (not text.endswith(b"\xf0"))
