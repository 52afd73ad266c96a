"""The frame walker of the shards against plain sentences, against ten slow lines, and against all ways to be wrong."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.core.streams.websocket import FrameWalk
from support.frames import BINARY, CLOSE, CONTINUATION, FIN, MASK, PING, PONG, TEXT, close, frame

payloads = st.binary(max_size=300) | st.integers(0, 70_000).map(lambda size: bytes(i * 31 & 255 for i in range(size)))
control = st.builds(
    frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), mask=st.binary(min_size=4, max_size=4)
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """What a client may send, and the payload bytes in it."""
    sent = payload = b""
    for message in draw(st.lists(st.lists(payloads, min_size=1, max_size=3), max_size=4)):
        for number, part in enumerate(message):
            sent += b"".join(draw(st.lists(control, max_size=2)))
            is_last = number == len(message) - 1
            opcode = CONTINUATION if number else BINARY
            mask = draw(st.binary(min_size=4, max_size=4))
            sent += frame(opcode, part, first=opcode | (FIN if is_last else 0), mask=mask)
            payload += part
    return sent, payload


@given(streams(), st.data())
def test_payloads_come_out_whole_however_the_stream_is_cut(stream: tuple[bytes, bytes], data: st.DataObject) -> None:
    sent, payload = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    walk = FrameWalk()
    taken = b"".join(walk.take(sent[start:end]) for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True))
    assert (taken, walk.is_over) == (payload, False)


def test_every_single_byte_may_come_alone() -> None:
    sent = frame(BINARY, b"x" * 200, first=BINARY) + frame(PING, b"now") + frame(CONTINUATION, b"y" * 9)
    walk = FrameWalk()
    assert b"".join(walk.take(sent[at : at + 1]) for at in range(len(sent))) == b"x" * 200 + b"y" * 9


@given(st.binary(max_size=400))
def test_no_bytes_break_the_walker(data: bytes) -> None:
    walk = FrameWalk()
    assert len(walk.take(data)) <= len(data)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(TEXT, b"x"), 1003, id="text"),
        pytest.param(b"\x82\x01x", 1002, id="unmasked"),
        pytest.param(frame(BINARY, first=FIN | 0x40 | BINARY), 1002, id="reserved bit 1"),
        pytest.param(frame(BINARY, first=FIN | 0x20 | BINARY), 1002, id="reserved bit 2"),
        pytest.param(frame(BINARY, first=FIN | 0x10 | BINARY), 1002, id="reserved bit 3"),
        *(pytest.param(frame(opcode), 1002, id=f"opcode {opcode}") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        pytest.param(frame(CONTINUATION, b"x"), 1002, id="continuation of nothing"),
        pytest.param(frame(BINARY, first=BINARY) + frame(BINARY), 1002, id="a message inside a message"),
        pytest.param(frame(PING, b"x", first=PING), 1002, id="fragmented ping"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="ping of 126 bytes"),
        pytest.param(frame(CLOSE, first=CLOSE), 1002, id="fragmented close"),
        pytest.param(frame(CLOSE, b"x" * 126), 1002, id="close of 126 bytes"),
        pytest.param(b"\x82\xfe\x00\x7d" + MASK, 1002, id="length in two bytes that fits one"),
        pytest.param(b"\x82\xff" + struct.pack(">Q", 65535) + MASK, 1002, id="length in eight bytes that fits two"),
        pytest.param(b"\x82\xff" + struct.pack(">Q", 1 << 63) + MASK, 1002, id="length with its top bit"),
        pytest.param(frame(CLOSE), 1005, id="close without a code"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="close with half a code"),
        pytest.param(close(1000, b"bye"), 1000, id="close"),
        pytest.param(close(1000, b"\xce\xba\xe1"), 1007, id="close with a reason that is no UTF-8"),
        *(pytest.param(close(code), code, id=f"close {code}") for code in (1001, 1003, 1007, 1011, 3000, 3999, 4999)),
        *(
            pytest.param(close(code), 1002, id=f"close {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ),
    ],
)
def test_walker_ends_with_the_code_that_rfc_6455_asks_for(sent: bytes, code: int) -> None:
    walk = FrameWalk()
    assert walk.take(frame(BINARY, b"before") + sent + frame(BINARY, b"after")) in (b"before", b"beforex")
    assert (walk.is_over, walk.close_code) == (True, code)
    assert walk.close() == (b"\x88\x00" if code == 1005 else b"\x88\x02" + struct.pack(">H", code))
    assert (walk.close(), walk.give(b"late")) == (b"", b"")


@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_ping_is_answered_with_its_payload(size: int) -> None:
    walk = FrameWalk()
    walk.take(frame(PING, b"p" * size))
    assert walk.give(b"") == bytes((FIN | PONG, size)) + b"p" * size
    assert walk.give(b"") == b""


def test_pings_are_answered_in_order_in_front_of_what_waits() -> None:
    walk = FrameWalk()
    walk.take(frame(PING, b"1") + frame(PING, b"2"))
    assert walk.give(b"mqtt") == b"\x8a\x011\x8a\x012\x82\x04mqtt"


@given(st.lists(st.binary(max_size=125), min_size=1, max_size=40))
def test_last_of_many_pings_are_answered(pings: list[bytes]) -> None:
    walk = FrameWalk()
    walk.take(b"".join(frame(PING, ping) for ping in pings))
    answer = walk.give(bytes(70_000))
    pongs = [bytes((FIN | PONG, len(ping))) + ping for ping in pings]
    header = b"\x82\x7f" + struct.pack(">Q", 70_000)
    assert any(answer == b"".join(pongs[first:]) + header + bytes(70_000) for first in range(len(pongs)))


def test_pong_nobody_asked_for_is_ignored() -> None:
    walk = FrameWalk()
    assert (walk.take(frame(PONG, b"x")), walk.give(b""), walk.is_over) == (b"", b"", False)


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (1, b"\x82\x01"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f" + struct.pack(">Q", 65536)),
    ],
)
def test_what_waits_goes_out_as_one_binary_frame(size: int, header: bytes) -> None:
    assert FrameWalk().give(bytes(size)) == header + bytes(size)
