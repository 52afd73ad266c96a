"""The PROXY protocol: what headers say, and what listeners do with those that are wrong."""

import contextlib
import ipaddress
import logging
import struct
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rookery.core.structures.checksum import checksum
from rookery.server.events import ClientConnected, ClientEvent
from rookery.server.proxy_protocol import SIZE_MAXIMUM, BadProxyHeader, Proxied, header_size, parse_header
from support import packets, tls
from support.mqtt_client import DEADLINE_S, Client
from support.own_broker import broker_with
from support.tls import Authority
from support.waiting import eventually

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TEXT = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\r\n"


def binary(command: int = 0x21, family: int = 0x11, addresses: bytes | None = None, tlvs: bytes = b"") -> bytes:
    """A header of version 2; by default a client 192.0.2.7:40000."""
    if addresses is None:
        source, destination = (ipaddress.IPv4Address(text).packed for text in ("192.0.2.7", "198.51.100.1"))
        addresses = source + destination + struct.pack("!HH", 40000, 1883)
    body = addresses + tlvs
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def tls_tlv(client: int = 0x07, verify: int = 0, *parts: bytes) -> bytes:
    return tlv(0x20, struct.pack("!BI", client, verify) + b"".join(parts))


def with_checksum(header: bytes) -> bytes:
    """The header with a checksum at its end."""
    size = struct.unpack("!H", header[14:16])[0] + 7
    unsealed = header[:14] + struct.pack("!H", size) + header[16:] + tlv(0x03, bytes(4))
    return unsealed[:-4] + struct.pack("!I", checksum(unsealed))


IPV6 = ipaddress.IPv6Address("2001:db8::7").packed + ipaddress.IPv6Address("::1").packed + struct.pack("!HH", 40000, 1)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (TEXT, Proxied("192.0.2.7:40000")),
        (b"PROXY TCP6 2001:db8::7 ::1 40000 1883\r\n", Proxied("[2001:db8::7]:40000")),
        (b"PROXY UNKNOWN\r\n", Proxied()),
        (b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", Proxied()),
        (binary(), Proxied("192.0.2.7:40000")),
        (binary(family=0x21, addresses=IPV6), Proxied("[2001:db8::7]:40000")),
        (binary(family=0x31, addresses=bytes(216)), Proxied("local")),
        (binary(family=0x12), Proxied()),
        (binary(family=0x00, addresses=b""), Proxied()),
        (binary(command=0x20), Proxied()),
        (binary(command=0x20, family=0x00, addresses=b"whatever"), Proxied()),
        (binary(tlvs=tlv(0x02, b"Broker.Example.ORG")), Proxied("192.0.2.7:40000", "broker.example.org")),
        (binary(tlvs=tlv(0x05, b"unique") + tlv(0xE0, bytes(300))), Proxied("192.0.2.7:40000")),
        (with_checksum(binary(tlvs=tlv(0x05, b"unique"))), Proxied("192.0.2.7:40000")),
        (
            binary(tlvs=tls_tlv(0x07, 0, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"car"))),
            Proxied("192.0.2.7:40000", certificate_name="car"),
        ),
        (binary(tlvs=tls_tlv(0x05, 0, tlv(0x28, b"DER"))), Proxied("192.0.2.7:40000", certificate=b"DER")),
        (binary(tlvs=tls_tlv(0x07, 19, tlv(0x22, b"thief"))), Proxied("192.0.2.7:40000")),
        (binary(tlvs=tls_tlv(0x01, 0, tlv(0x22, b"nobody"))), Proxied("192.0.2.7:40000")),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\x10\x0c"])
def test_header_tells_who_the_client_is(header: bytes, expected: Proxied, behind: bytes) -> None:
    for cut in range(1, len(header)):
        assert header_size(header[:cut]) in (None, len(header))
    assert header_size(header + behind) == len(header)
    assert parse_header(header) == expected


WRONG = {
    "untold family": b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "no address": b"PROXY TCP4 192.0.2.700 198.51.100.1 1 2\r\n",
    "address of the other family": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "port out of range": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
    "negative port": b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n",
    "word too few": b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
    "word too many": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
    "other bytes": b"PROXY TCP4 \xff 198.51.100.1 1 2\r\n",
    "too long": b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
    "without an end": b"PROXY UNKNOWN " + b"x" * 100,
    "MQTT": b"\x10\x0c\x00\x04MQTT\x04",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "HTTP": b"POST /mqtt HTTP/1.1\r\n\r\n",
    "version 3": binary(command=0x31),
    "command 2": binary(command=0x22),
    "family 4": binary(family=0x41),
    "transport 3": binary(family=0x13),
    "addresses cut": binary(addresses=bytes(11)),
    "TLV cut": binary(tlvs=b"\x05\x00\x09unique"),
    "TLV without size": binary(tlvs=b"\x05\x00"),
    "TLS part cut": binary(tlvs=tlv(0x20, b"\x07\x00")),
    "TLV of the TLS part cut": binary(tlvs=tls_tlv(0x07, 0, b"\x22\x00\x09car")),
    "name that is no text": binary(tlvs=tls_tlv(0x07, 0, tlv(0x22, b"\xff"))),
    "wrong checksum": with_checksum(binary())[:-1] + b"\x00",
    "short checksum": binary(tlvs=tlv(0x03, b"\x00")),
    "too large": SIGNATURE + struct.pack("!BBH", 0x21, 0x11, SIZE_MAXIMUM) + bytes(SIZE_MAXIMUM),
}


def _parse(data: bytes) -> Proxied | None:
    """What the header in front of data says; None when it is not whole."""
    size = header_size(data)
    return parse_header(data[:size]) if size is not None and size <= len(data) else None


@pytest.mark.parametrize("header", WRONG.values(), ids=WRONG)
def test_wrong_header_is_refused(header: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        _parse(header)


@given(start=st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, binary()[:16]]), rest=st.binary(max_size=300))
def test_any_bytes_are_a_header_or_refused(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(BadProxyHeader):
        _parse(start + rest)


def listener(**keys: Any) -> dict[str, Any]:
    return {"kind": "tcp", "bind": "127.0.0.1:0", "proxy_protocol": True, **keys}


async def test_real_address_is_that_of_events() -> None:
    async with broker_with(listeners={"proxied": listener()}) as broker:
        address = broker.addresses["proxied"]
        for header, peer in ((TEXT, "192.0.2.7:40000"), (binary(family=0x21, addresses=IPV6), "[2001:db8::7]:40000")):
            with broker.events.subscribe(ClientConnected) as events:
                async with await trio.open_tcp_stream(address.host, address.port) as stream:
                    await stream.send_all(header)
                    await Client(stream).connect(client_id="c")
                    with trio.fail_after(DEADLINE_S):
                        event = await anext(events)
            assert isinstance(event, ClientEvent)
            assert event.peer == peer  # type: ignore[attr-defined]


async def test_header_and_packets_in_any_pieces_are_taken_apart() -> None:
    sent = TEXT + packets.encode(packets.Connect(client_id="c"), packets.MQTT_5_0)
    async with broker_with(listeners={"proxied": listener()}) as broker:
        address = broker.addresses["proxied"]
        for piece_size in (1, 7, len(TEXT), len(sent)):
            async with await trio.open_tcp_stream(address.host, address.port) as stream:
                for start in range(0, len(sent), piece_size):
                    await stream.send_all(sent[start : start + piece_size])
                    await trio.lowlevel.checkpoint()
                assert (await Client(stream).receive_first(packets.Connack)).reason_code == 0


async def test_proxy_that_asks_how_we_are_is_served_under_its_own_address() -> None:
    async with (
        broker_with(listeners={"proxied": listener()}) as broker,
        await trio.open_tcp_stream("127.0.0.1", broker.addresses["proxied"].port) as stream,
    ):
        with broker.events.subscribe(ClientConnected) as events:
            await stream.send_all(binary(command=0x20))
            await Client(stream).connect(client_id="c")
            with trio.fail_after(DEADLINE_S):
                event = await anext(events)
        assert event.peer.startswith("127.0.0.1:")  # type: ignore[attr-defined]


async def test_tls_follows_the_header(authority: Authority, certificate: str) -> None:
    section = listener(kind="tls", certificate_files=[certificate])
    async with (
        broker_with(listeners={"proxied": section}) as broker,
        await trio.open_tcp_stream("127.0.0.1", broker.addresses["proxied"].port) as stream,
    ):
        await stream.send_all(TEXT)
        secure = trio.SSLStream(stream, tls.client_context(authority), server_hostname="localhost")
        with broker.events.subscribe(ClientConnected) as events:
            await Client(secure).connect(client_id="c")
            with trio.fail_after(DEADLINE_S):
                event = await anext(events)
        assert event.peer == "192.0.2.7:40000"  # type: ignore[attr-defined]


async def test_name_of_a_certificate_that_the_proxy_has_verified_authenticates() -> None:
    async with (
        broker_with(
            listeners={"proxied": listener()}, authentication={"chain": ["certificate"]}, certificate={"tenant": "acme"}
        ) as broker,
        await trio.open_tcp_stream("127.0.0.1", broker.addresses["proxied"].port) as stream,
    ):
        await stream.send_all(binary(tlvs=tls_tlv(0x07, 0, tlv(0x22, b"car"))))
        assert (await Client(stream).connect(client_id="c")).reason_code == 0
        assert await broker.sessions.find("acme", "car", "c") is not None


@pytest.mark.parametrize(
    ("keys", "sent", "reason"),
    [
        ({"proxy_trusted": ["192.0.2.0/24"]}, TEXT, "127.0.0.1 is no trusted proxy"),
        ({}, WRONG["MQTT"], "the connection begins with no PROXY header"),
        ({}, WRONG["TLS"], "the connection begins with no PROXY header"),
        ({}, WRONG["port out of range"], "the header is wrong"),
        ({}, TEXT[:20], "the connection ended within the header"),
        ({}, binary()[:20], "the connection ended within the header"),
        ({"handshake_timeout_s": 0.05}, None, "too slow"),
    ],
)
async def test_what_lies_or_is_cut_is_closed_logged_and_counted(
    keys: dict[str, Any], sent: bytes | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with broker_with(listeners={"proxied": listener(**keys)}) as broker:
        counts = broker.entrances["proxied"].counts
        async with await trio.open_tcp_stream("127.0.0.1", broker.addresses["proxied"].port) as stream:
            # Broken: closed while bytes of ours were unread.
            with trio.fail_after(DEADLINE_S), contextlib.suppress(trio.BrokenResourceError):
                if sent is not None:
                    await stream.send_all(sent)
                    await stream.send_eof()
                assert await stream.receive_some() == b""
        await eventually(lambda: counts.failed == 1)
        assert counts.admitted == 0
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    (line,) = [each for each in lines if each["event"] == "proxy_refused"]
    assert reason in line["reason"]
    assert line["peer"].startswith("127.0.0.1:")
