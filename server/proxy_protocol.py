"""The PROXY protocol, versions 1 and 2: what a proxy says of the client in front of the client's own bytes.

    version 1:  PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\\r\\n
    version 2:  signature (12)  version and command (1)  family (1)  size (2)  addresses  TLVs
                                                                     |<------- size ------->|

See haproxy.org/download/3.0/doc/proxy-protocol.txt. A header has to come first, whole and right; one that is cut, too
long or contradicts itself ends the connection, as the document asks for. Of the TLVs those are read that tell what the
proxy found out in a TLS handshake of its own; a checksum is verified when there is one; others are passed over.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from rookery.core.structures.checksum import checksum

from .address import Address

SIZE_MAXIMUM = 16_384  # bytes of a header of version 2; a certificate in it has some 2 KiB

_TEXT_SIZE_MAXIMUM = 107  # bytes of a header of version 1, as the document says
_TEXT_START = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_SIZE = 16
_ADDRESS_SIZES = {0x1: 12, 0x2: 36, 0x3: 216}  # by family: IPv4, IPv6, Unix
_STREAM = 0x1

_TLV_AUTHORITY = 0x02
_TLV_CHECKSUM = 0x03
_TLV_TLS = 0x20
_TLV_TLS_NAME = 0x22
_TLV_TLS_CERTIFICATE = 0x28
_TLS_USED = 0x01
_TLS_CERTIFICATE_SHOWN = 0x02 | 0x04  # on this connection, or in the session that it resumed


class BadProxyHeader(Exception):
    """It is none, or not a right one; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """What a header says of the client."""

    peer: str = ""  # "host:port"; empty = nothing, the proxy speaks for itself
    server_name: str = ""  # that the client has named to the proxy (SNI), in small letters
    certificate: bytes | None = None  # DER of the client's, which the proxy has verified
    certificate_name: str | None = None  # its common name


def header_size(start: bytes) -> int | None:
    """How long the header is that begins like this; None = more is needed, and all of start belongs to it.

    Raises BadProxyHeader as soon as it can be none.
    """
    if start[:12] == _SIGNATURE[: len(start)]:
        if len(start) < _FIXED_SIZE:
            return None
        size = _FIXED_SIZE + int.from_bytes(start[14:16], "big")
        if size > SIZE_MAXIMUM:
            raise BadProxyHeader(f"the header has {size} bytes, {SIZE_MAXIMUM} are allowed")
        return size
    if start[:6] != _TEXT_START[: len(start)]:
        raise BadProxyHeader("the connection begins with no PROXY header")
    end = start.find(b"\r\n")
    if end >= 0 and end + 2 <= _TEXT_SIZE_MAXIMUM:
        return end + 2
    if end >= 0 or len(start) >= _TEXT_SIZE_MAXIMUM:
        raise BadProxyHeader(f"the header has no end within {_TEXT_SIZE_MAXIMUM} bytes")
    return None


def parse_header(header: bytes) -> Proxied:
    """What a whole header says. Raises BadProxyHeader."""
    return _parse_text(header) if header.startswith(_TEXT_START) else _parse_binary(header)


def _parse_text(header: bytes) -> Proxied:
    try:
        words = header[len(_TEXT_START) : -2].decode("ascii").split(" ")
        if words[0] == "UNKNOWN":
            return Proxied()
        family, source, destination, source_port, destination_port = words
        address = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}[family]
        address(destination)
        _port(destination_port)
        return Proxied(str(Address(str(address(source)), _port(source_port))))
    except (ValueError, KeyError) as error:
        raise BadProxyHeader(f"the header is wrong: {header[:-2]!r}") from error


def _port(text: str) -> int:
    port = int(text)
    if not (text.isdigit() and 0 <= port <= 65535):
        raise ValueError(text)
    return port


def _parse_binary(header: bytes) -> Proxied:
    version, command = header[12] >> 4, header[12] & 0x0F
    family, transport = header[13] >> 4, header[13] & 0x0F
    if version != 2 or command > 1:
        raise BadProxyHeader(f"version {version} with command {command} is unknown")
    if command == 0:
        return Proxied()  # The proxy asks for itself whether we are well; the rest does not matter.
    body = header[_FIXED_SIZE:]
    size = _ADDRESS_SIZES.get(family, 0) if family else 0
    if family > 0x3 or transport > 0x2:
        raise BadProxyHeader(f"family {family} with transport {transport} is unknown")
    if len(body) < size:
        raise BadProxyHeader(f"the addresses of family {family} have {size} bytes, there are {len(body)}")
    peer = _peer(family, body) if transport == _STREAM else ""
    server_name, certificate, certificate_name = "", None, None
    for kind, value, place in _tlvs(body, size):
        if kind == _TLV_AUTHORITY:
            server_name = value.decode("utf-8", "replace").lower()
        elif kind == _TLV_CHECKSUM:
            start = _FIXED_SIZE + place
            # Over the whole header, in which the checksum itself is zero.
            expected = checksum(header[:start] + bytes(4) + header[start + 4 :])
            if len(value) != 4 or int.from_bytes(value, "big") != expected:
                raise BadProxyHeader("the checksum is wrong")
        elif kind == _TLV_TLS:
            certificate, certificate_name = _tls_facts(value)
    return Proxied(peer, server_name, certificate, certificate_name)


def _peer(family: int, body: bytes) -> str:
    if family == 0x1:
        return str(Address(str(ipaddress.IPv4Address(body[:4])), int.from_bytes(body[8:10], "big")))
    if family == 0x2:
        return str(Address(str(ipaddress.IPv6Address(body[:16])), int.from_bytes(body[32:34], "big")))
    return "local" if family == 0x3 else ""


def _tls_facts(value: bytes) -> tuple[bytes | None, str | None]:
    """Certificate and common name of a client whose certificate the proxy has verified."""
    if len(value) < 5:
        raise BadProxyHeader("the TLS part is cut")
    if not (value[0] & _TLS_USED and value[0] & _TLS_CERTIFICATE_SHOWN) or any(value[1:5]):
        return None, None  # There is none, or it does not hold.
    parts = {kind: part for kind, part, _ in _tlvs(value, 5)}
    name = parts.get(_TLV_TLS_NAME)
    try:
        return parts.get(_TLV_TLS_CERTIFICATE), None if name is None else name.decode()
    except UnicodeDecodeError as error:
        raise BadProxyHeader("the common name is not UTF-8") from error


def _tlvs(data: bytes, start: int) -> Iterator[tuple[int, bytes, int]]:
    """Kind, value, and where in data the value begins. Raises BadProxyHeader for one that is cut."""
    while start < len(data):
        size = int.from_bytes(data[start + 1 : start + 3], "big")
        value = data[start + 3 : start + 3 + size]
        if len(data) < start + 3 + size:
            raise BadProxyHeader("a TLV is cut")
        yield data[start], value, start + 3
        start += 3 + size
