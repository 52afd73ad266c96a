"""MQTT packets in plain Python, written from the standards: 3.1, 3.1.1 and 5.0, both directions.

A packet is a frozen dataclass. Its fields are the standard's; those of 5.0 properties stand in PROPERTIES under the
name that the dataclasses use for them, and a packet may carry exactly the properties for which it has a field. None
(or an empty tuple) is an absent property, so that what is encoded and decoded again compares equal.

encode() has no opinion: it writes wildcards in topic names, packet identifier 0 or QoS 3 if a test asks for them. It
refuses only what has no form on the wire, such as a property in 3.1.1. decode() has every opinion of the standard
that can be held by looking at one packet alone: whoever gets a packet from it knows that its sender obeyed.

Sections and statement ids are those of MQTT 5.0 unless said otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, TypeAlias

MQTT_3_1: Final = 3
MQTT_3_1_1: Final = 4
MQTT_5_0: Final = 5
PROTOCOL_NAMES: Final = {MQTT_3_1: "MQIsdp", MQTT_3_1_1: "MQTT", MQTT_5_0: "MQTT"}
VARIABLE_BYTE_INTEGER_MAXIMUM: Final = 268_435_455

UserProperties: TypeAlias = tuple[tuple[str, str], ...]


class PacketError(Exception):
    """These bytes break the standard; reason_code is what their sender would be told."""

    reason_code = 0x80

    def __init__(self, detail: str, reason_code: int | None = None) -> None:
        super().__init__(detail)
        if reason_code is not None:
            self.reason_code = reason_code


class MalformedPacket(PacketError):
    """The bytes cannot be parsed (1.2, 4.13)."""

    reason_code = 0x81


class ProtocolError(PacketError):
    """The bytes can be parsed and say something that is not allowed (1.2, 4.13)."""

    reason_code = 0x82


# The packets, in the order of their types (2.1.2).


@dataclass(frozen=True, kw_only=True)
class Will:
    """The Will Message inside a CONNECT (3.1.3)."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    will_delay_interval: int | None = None
    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, kw_only=True)
class Connect:
    """CONNECT (3.1). clean_start is Clean Session in 3.1 and 3.1.1."""

    packet_type: ClassVar = 1
    version: int = MQTT_5_0
    protocol_name: str | None = None  # None: the name that belongs to the version.
    client_id: str = ""
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_packet_size: int | None = None
    topic_alias_maximum: int | None = None
    request_response_information: int | None = None
    request_problem_information: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, kw_only=True)
class Connack:
    """CONNACK (3.2). In 3.x reason_code is the return code as it is on the wire, 0 to 5."""

    packet_type: ClassVar = 2
    session_present: bool = False
    reason_code: int = 0
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    maximum_packet_size: int | None = None
    assigned_client_id: str | None = None
    topic_alias_maximum: int | None = None
    reason_string: str | None = None
    user_properties: UserProperties = ()
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None
    server_keep_alive: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Publish:
    """PUBLISH (3.3). packet_id is 0 at QoS 0, where the wire has none."""

    packet_type: ClassVar = 3
    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    topic_alias: int | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: UserProperties = ()
    subscription_ids: tuple[int, ...] = ()
    content_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """What PUBACK, PUBREC, PUBREL and PUBCOMP have in common."""

    packet_id: int
    reason_code: int = 0
    reason_string: str | None = None
    user_properties: UserProperties = ()


class Puback(Acknowledgement):
    """PUBACK (3.4)."""

    packet_type: ClassVar = 4


class Pubrec(Acknowledgement):
    """PUBREC (3.5)."""

    packet_type: ClassVar = 5


class Pubrel(Acknowledgement):
    """PUBREL (3.6)."""

    packet_type: ClassVar = 6


class Pubcomp(Acknowledgement):
    """PUBCOMP (3.7)."""

    packet_type: ClassVar = 7


@dataclass(frozen=True)
class Subscription:
    """One topic filter of a SUBSCRIBE with its options (3.8.3.1)."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, kw_only=True)
class Subscribe:
    """SUBSCRIBE (3.8)."""

    packet_type: ClassVar = 8
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    subscription_id: int | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, kw_only=True)
class Suback:
    """SUBACK (3.9): one reason code per subscription, in their order."""

    packet_type: ClassVar = 9
    packet_id: int
    reason_codes: tuple[int, ...]
    reason_string: str | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, kw_only=True)
class Unsubscribe:
    """UNSUBSCRIBE (3.10)."""

    packet_type: ClassVar = 10
    packet_id: int
    topic_filters: tuple[str, ...]
    user_properties: UserProperties = ()


@dataclass(frozen=True, kw_only=True)
class Unsuback:
    """UNSUBACK (3.11): one reason code per topic filter; none in 3.x."""

    packet_type: ClassVar = 11
    packet_id: int
    reason_codes: tuple[int, ...] = ()
    reason_string: str | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True)
class Pingreq:
    """PINGREQ (3.12)."""

    packet_type: ClassVar = 12


@dataclass(frozen=True)
class Pingresp:
    """PINGRESP (3.13)."""

    packet_type: ClassVar = 13


@dataclass(frozen=True, kw_only=True)
class Disconnect:
    """DISCONNECT (3.14)."""

    packet_type: ClassVar = 14
    reason_code: int = 0
    session_expiry_interval: int | None = None
    reason_string: str | None = None
    user_properties: UserProperties = ()
    server_reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Auth:
    """AUTH (3.15), 5.0 only."""

    packet_type: ClassVar = 15
    reason_code: int = 0
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    reason_string: str | None = None
    user_properties: UserProperties = ()


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)

# Flags of the fixed header that a packet must have (2.1.3). Those of PUBLISH are its own.
REQUIRED_FLAGS: Final = {Pubrel: 0b0010, Subscribe: 0b0010, Unsubscribe: 0b0010}

# The reason codes that 5.0 allows in a packet (2.4).
REASON_CODES: Final[dict[type[Any], frozenset[int]]] = {
    Connack: frozenset({0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F}),
    Puback: frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}),
    Pubrec: frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}),
    Pubrel: frozenset({0x00, 0x92}),
    Pubcomp: frozenset({0x00, 0x92}),
    Suback: frozenset({0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}),
    Unsuback: frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}),
    Disconnect: frozenset(
        {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3)}
    ),
    Auth: frozenset({0x00, 0x18, 0x19}),
}
RETURN_CODES: Final = frozenset(range(6))  # CONNACK [MQTT 3.1.1, 3.2.2.3]
SUBACK_RETURN_CODES: Final = frozenset({0, 1, 2, 0x80})  # [MQTT-3.9.3-2 of 3.1.1]


# Writing bytes (1.5). Whatever has no form on the wire raises ValueError or OverflowError: a mistake of the test.


def encode_variable_byte_integer(value: int) -> bytes:
    """The shortest form of value, 1 to 4 bytes (1.5.5)."""
    if not 0 <= value <= VARIABLE_BYTE_INTEGER_MAXIMUM:
        raise ValueError(f"{value} is not a variable byte integer")
    encoded = bytearray()
    while value > 127:
        encoded.append(value % 128 | 128)
        value //= 128
    return bytes((*encoded, value))


def encode_integer(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def encode_binary(value: bytes) -> bytes:
    return encode_integer(len(value), 2) + value


def encode_string(value: str) -> bytes:
    """A UTF-8 string; lone surrogates pass, for tests of [MQTT-1.5.4-1]."""
    return encode_binary(value.encode("utf-8", "surrogatepass"))


def encode_string_pair(value: tuple[str, str]) -> bytes:
    return encode_string(value[0]) + encode_string(value[1])


class Reader:
    """Takes values off the front of the bytes; what is missing or wrong raises MalformedPacket."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise MalformedPacket(f"{size} bytes expected, {len(self.data)} left")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def rest(self) -> bytes:
        return self.take(len(self.data))

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def variable_byte_integer(self, *, may_be_padded: bool = False) -> int:
        value = 0
        for position in range(4):
            byte = self.integer(1)
            value |= (byte & 127) << 7 * position
            if byte < 128:
                if byte == 0 and position > 0 and not may_be_padded:
                    raise MalformedPacket("variable byte integer is not in its shortest form [MQTT-1.5.5-1]")
                return value
        raise MalformedPacket("variable byte integer is longer than 4 bytes")

    def binary(self) -> bytes:
        return self.take(self.integer(2))

    def string(self) -> str:
        try:
            value = self.binary().decode("utf-8")  # Refuses surrogates, too [MQTT-1.5.4-1].
        except UnicodeDecodeError as error:
            raise MalformedPacket(f"string is not UTF-8: {error.reason}") from error
        if "\0" in value:
            raise MalformedPacket("string contains U+0000 [MQTT-1.5.4-2]")
        return value

    def string_pair(self) -> tuple[str, str]:
        return self.string(), self.string()

    def packet_id(self) -> int:
        packet_id = self.integer(2)
        if packet_id == 0:
            raise ProtocolError("packet identifier is 0 [MQTT-2.2.1-3]")
        return packet_id


# Properties (2.2.2).


@dataclass(frozen=True)
class PropertyForm:
    """How a property looks on the wire and which values are allowed there."""

    encode: Callable[[Any], bytes]
    decode: Callable[[Reader], Any]
    is_allowed: Callable[[Any], bool] = lambda _: True


ZERO_OR_ONE: Final = PropertyForm(
    lambda value: encode_integer(value, 1), lambda reader: reader.integer(1), lambda value: value in (0, 1)
)
TWO_BYTES: Final = PropertyForm(lambda value: encode_integer(value, 2), lambda reader: reader.integer(2))
TWO_BYTES_NOT_ZERO: Final = PropertyForm(TWO_BYTES.encode, TWO_BYTES.decode, lambda value: value != 0)
FOUR_BYTES: Final = PropertyForm(lambda value: encode_integer(value, 4), lambda reader: reader.integer(4))
FOUR_BYTES_NOT_ZERO: Final = PropertyForm(FOUR_BYTES.encode, FOUR_BYTES.decode, lambda value: value != 0)
VARIABLE_NOT_ZERO: Final = PropertyForm(
    encode_variable_byte_integer, lambda reader: reader.variable_byte_integer(), lambda value: value != 0
)
BINARY: Final = PropertyForm(encode_binary, lambda reader: reader.binary())
STRING: Final = PropertyForm(encode_string, lambda reader: reader.string())
TOPIC: Final = PropertyForm(encode_string, lambda reader: reader.string(), lambda value: is_topic(value))
STRING_PAIR: Final = PropertyForm(encode_string_pair, lambda reader: reader.string_pair())

PROPERTIES: Final[dict[str, tuple[int, PropertyForm]]] = {
    "payload_format_indicator": (0x01, ZERO_OR_ONE),
    "message_expiry_interval": (0x02, FOUR_BYTES),
    "content_type": (0x03, STRING),
    "response_topic": (0x08, TOPIC),
    "correlation_data": (0x09, BINARY),
    "subscription_id": (0x0B, VARIABLE_NOT_ZERO),  # SUBSCRIBE: at most one.
    "subscription_ids": (0x0B, VARIABLE_NOT_ZERO),  # PUBLISH: one per matching subscription that has one.
    "session_expiry_interval": (0x11, FOUR_BYTES),
    "assigned_client_id": (0x12, STRING),
    "server_keep_alive": (0x13, TWO_BYTES),
    "authentication_method": (0x15, STRING),
    "authentication_data": (0x16, BINARY),
    "request_problem_information": (0x17, ZERO_OR_ONE),
    "will_delay_interval": (0x18, FOUR_BYTES),
    "request_response_information": (0x19, ZERO_OR_ONE),
    "response_information": (0x1A, STRING),
    "server_reference": (0x1C, STRING),
    "reason_string": (0x1F, STRING),
    "receive_maximum": (0x21, TWO_BYTES_NOT_ZERO),
    "topic_alias_maximum": (0x22, TWO_BYTES),
    "topic_alias": (0x23, TWO_BYTES_NOT_ZERO),
    "maximum_qos": (0x24, ZERO_OR_ONE),
    "retain_available": (0x25, ZERO_OR_ONE),
    "user_properties": (0x26, STRING_PAIR),
    "maximum_packet_size": (0x27, FOUR_BYTES_NOT_ZERO),
    "wildcard_subscription_available": (0x28, ZERO_OR_ONE),
    "subscription_identifier_available": (0x29, ZERO_OR_ONE),
    "shared_subscription_available": (0x2A, ZERO_OR_ONE),
}
REPEATABLE: Final = {"user_properties", "subscription_ids"}


def property_names(packet_class: type[Any]) -> dict[int, str]:
    """Property identifier -> field, for the properties that this packet (or Will) may carry."""
    return {PROPERTIES[field.name][0]: field.name for field in fields(packet_class) if field.name in PROPERTIES}


def encode_properties(packet: object, version: int) -> bytes:
    """Length and properties (2.2.2); nothing before 5.0."""
    encoded = b""
    for identifier, name in property_names(type(packet)).items():
        value = getattr(packet, name)
        values = value if name in REPEATABLE else () if value is None else (value,)
        for each in values:
            encoded += encode_variable_byte_integer(identifier) + PROPERTIES[name][1].encode(each)
    if version < MQTT_5_0:
        if encoded:
            raise ValueError(f"{packet} has properties, which exist in 5.0 only")
        return b""
    return encode_variable_byte_integer(len(encoded)) + encoded


def decode_properties(reader: Reader, packet_class: type[Any], version: int) -> dict[str, Any]:
    """The properties as arguments for packet_class."""
    if version < MQTT_5_0:
        return {}
    names = property_names(packet_class)
    block = Reader(reader.take(reader.variable_byte_integer()))
    values: dict[str, Any] = {}
    while block.data:
        identifier = block.variable_byte_integer()
        if identifier not in names:
            raise MalformedPacket(f"{packet_class.__name__} has no property 0x{identifier:02X}")
        name = names[identifier]
        form = PROPERTIES[name][1]
        value = form.decode(block)
        if not form.is_allowed(value):
            raise ProtocolError(f"{name} is {value!r}")
        if name in REPEATABLE:
            values[name] = (*values.get(name, ()), value)
        elif name in values:
            raise ProtocolError(f"{name} is given twice")
        else:
            values[name] = value
    if "authentication_data" in values and "authentication_method" not in values:
        raise ProtocolError("authentication_data without authentication_method")
    return values


def is_topic(value: str) -> bool:
    """Is this a topic name: not empty, no wildcards (4.7)?"""
    return value != "" and "+" not in value and "#" not in value


# Encoding: one function per shape of packet.


def encode(packet: Packet, version: int) -> bytes:
    """The packet as bytes of this protocol version."""
    body = ENCODERS[type(packet)](packet, version)
    flags = publish_flags(packet) if isinstance(packet, Publish) else REQUIRED_FLAGS.get(type(packet), 0)
    return bytes((packet.packet_type << 4 | flags,)) + encode_variable_byte_integer(len(body)) + body


def publish_flags(packet: Publish) -> int:
    return packet.dup << 3 | packet.qos << 1 | packet.retain


def encode_connect(packet: Connect, version: int) -> bytes:
    if packet.version != version:
        raise ValueError(f"CONNECT of version {packet.version} encoded as version {version}")
    name = PROTOCOL_NAMES.get(version, "MQTT") if packet.protocol_name is None else packet.protocol_name
    will = packet.will
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    if will is not None:
        flags |= 1 << 2 | will.qos << 3 | will.retain << 5
    body = encode_string(name) + bytes((version, flags)) + encode_integer(packet.keep_alive, 2)
    body += encode_properties(packet, version) + encode_string(packet.client_id)
    if will is not None:
        body += encode_properties(will, version) + encode_string(will.topic) + encode_binary(will.payload)
    if packet.username is not None:
        body += encode_string(packet.username)
    if packet.password is not None:
        body += encode_binary(packet.password)
    return body


def encode_connack(packet: Connack, version: int) -> bytes:
    return bytes((packet.session_present, packet.reason_code)) + encode_properties(packet, version)


def encode_publish(packet: Publish, version: int) -> bytes:
    packet_id = encode_integer(packet.packet_id, 2) if packet.qos else b""
    return encode_string(packet.topic) + packet_id + encode_properties(packet, version) + packet.payload


def encode_acknowledgement(packet: Acknowledgement, version: int) -> bytes:
    return encode_integer(packet.packet_id, 2) + encode_reason(packet, packet.reason_code, version)


def encode_reason(packet: object, reason_code: int, version: int) -> bytes:
    """Reason code and properties, left out where success without properties allows it."""
    properties = encode_properties(packet, version)
    if version < MQTT_5_0 and reason_code:
        raise ValueError(f"{packet} has a reason code, which exists in 5.0 only")
    if reason_code == 0 and properties in (b"", b"\0"):
        return b""
    return bytes((reason_code,)) + (b"" if properties == b"\0" else properties)


def encode_subscribe(packet: Subscribe, version: int) -> bytes:
    body = encode_integer(packet.packet_id, 2) + encode_properties(packet, version)
    for subscription in packet.subscriptions:
        options = (
            subscription.qos
            | subscription.no_local << 2
            | subscription.retain_as_published << 3
            | subscription.retain_handling << 4
        )
        if version < MQTT_5_0 and options > 3:
            raise ValueError(f"{subscription} has options that exist in 5.0 only")
        body += encode_string(subscription.topic_filter) + bytes((options,))
    return body


def encode_suback(packet: Suback | Unsuback, version: int) -> bytes:
    if version < MQTT_5_0 and isinstance(packet, Unsuback) and packet.reason_codes:
        raise ValueError(f"{packet} has reason codes, which exist in 5.0 only")
    return encode_integer(packet.packet_id, 2) + encode_properties(packet, version) + bytes(packet.reason_codes)


def encode_unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    body = encode_integer(packet.packet_id, 2) + encode_properties(packet, version)
    return body + b"".join(map(encode_string, packet.topic_filters))


def encode_ping(packet: Pingreq | Pingresp, version: int) -> bytes:
    return b""


def encode_disconnect(packet: Disconnect, version: int) -> bytes:
    return encode_reason(packet, packet.reason_code, version)


def encode_auth(packet: Auth, version: int) -> bytes:
    """Unlike the others AUTH leaves out both of reason code and property length or none (3.15.2.1)."""
    if version < MQTT_5_0:
        raise ValueError("AUTH exists in 5.0 only")
    properties = encode_properties(packet, version)
    return b"" if packet.reason_code == 0 and properties == b"\0" else bytes((packet.reason_code,)) + properties


ENCODERS: Final[dict[type[Any], Callable[[Any, int], bytes]]] = {
    Connect: encode_connect,
    Connack: encode_connack,
    Publish: encode_publish,
    Puback: encode_acknowledgement,
    Pubrec: encode_acknowledgement,
    Pubrel: encode_acknowledgement,
    Pubcomp: encode_acknowledgement,
    Subscribe: encode_subscribe,
    Suback: encode_suback,
    Unsubscribe: encode_unsubscribe,
    Unsuback: encode_suback,
    Pingreq: encode_ping,
    Pingresp: encode_ping,
    Disconnect: encode_disconnect,
    Auth: encode_auth,
}


# Decoding: a function per packet takes (reader, flags of the fixed header, version).


def decode(stream: bytes, version: int) -> tuple[Packet | None, bytes]:
    """The first packet of the stream and the bytes behind it; (None, stream) while it is not whole.

    A CONNECT says itself which version it is, so version is without meaning for it.
    """
    frame = split_frame(stream, version)
    if frame is None:
        return None, stream
    first_byte, body, rest = frame
    packet_class = PACKET_CLASSES.get(first_byte >> 4)
    flags = first_byte & 0b1111
    if packet_class is None or (packet_class is Auth and version < MQTT_5_0):
        raise MalformedPacket(f"packet type {first_byte >> 4} does not exist")
    # 3.1 gives these bits no meaning outside of PUBLISH (and lets DUP mark repeated PUBREL and SUBSCRIBE).
    has_fixed_flags = packet_class is not Publish and (version > MQTT_3_1 or packet_class is Connect)
    if has_fixed_flags and flags != REQUIRED_FLAGS.get(packet_class, 0):
        raise MalformedPacket(f"{packet_class.__name__} has flags {flags:04b} [MQTT-2.1.3-1]")
    reader = Reader(body)
    packet = DECODERS[packet_class](reader, flags, version)
    if reader.data:
        raise MalformedPacket(f"{len(reader.data)} bytes behind the end of {packet_class.__name__}")
    return packet, rest


def split_frame(stream: bytes, version: int) -> tuple[int, bytes, bytes] | None:
    """First byte, body and what is behind; None while the packet is not whole."""
    length_bytes = stream[1:5]
    if len(length_bytes) < 4 and all(byte >= 128 for byte in length_bytes):
        return None
    reader = Reader(stream[1:])
    body_size = reader.variable_byte_integer(may_be_padded=version < MQTT_5_0)  # Only 5.0 forbids it.
    if len(reader.data) < body_size:
        return None
    return stream[0], reader.take(body_size), reader.data


def decode_all(stream: bytes, version: int) -> tuple[Packet, ...]:
    """All packets of a stream that ends with a whole one."""
    packets: list[Packet] = []
    while stream:
        packet, stream = decode(stream, version)
        if packet is None:
            raise MalformedPacket(f"the stream ends inside a packet: {stream[:16].hex(' ')}")
        packets.append(packet)
    return tuple(packets)


def decode_connect(reader: Reader, flags: int, version: int) -> Connect:
    name, version = reader.string(), reader.integer(1)
    if name not in PROTOCOL_NAMES.values():
        raise ProtocolError(f"protocol name is {name!r} [MQTT-3.1.2-1]", 0x84)
    if PROTOCOL_NAMES.get(version) != name:
        raise ProtocolError(f"protocol {name} has no version {version} [MQTT-3.1.2-2]", 0x84)
    connect_flags, keep_alive = reader.integer(1), reader.integer(2)
    has_will, will_qos, will_retain = connect_flags & 4, connect_flags >> 3 & 3, bool(connect_flags & 32)
    if connect_flags & 1:
        raise MalformedPacket("reserved flag of CONNECT is set [MQTT-3.1.2-3]")
    if will_qos == 3:
        raise MalformedPacket("Will QoS is 3 [MQTT-3.1.2-12]")
    if not has_will and (will_qos or will_retain):
        raise MalformedPacket("Will QoS or Will Retain without a Will [MQTT-3.1.2-11] [MQTT-3.1.2-13]")
    if version < MQTT_5_0 and connect_flags & 0b1100_0000 == 0b0100_0000:
        raise MalformedPacket("password without user name [MQTT-3.1.2-22 of 3.1.1]")
    properties = decode_properties(reader, Connect, version)
    client_id = reader.string()
    will = None
    if has_will:
        will_properties = decode_properties(reader, Will, version)
        topic, payload = reader.string(), reader.binary()
        if not is_topic(topic):
            raise ProtocolError(f"Will Topic is {topic!r}", 0x90)
        will = Will(topic=topic, payload=payload, qos=will_qos, retain=will_retain, **will_properties)
    return Connect(
        version=version,
        client_id=client_id,
        clean_start=bool(connect_flags & 2),
        keep_alive=keep_alive,
        username=reader.string() if connect_flags & 128 else None,
        password=reader.binary() if connect_flags & 64 else None,
        will=will,
        **properties,
    )


def decode_connack(reader: Reader, flags: int, version: int) -> Connack:
    acknowledge_flags, reason_code = reader.integer(1), reader.integer(1)
    if version == MQTT_3_1:
        acknowledge_flags = 0  # A reserved byte: Session Present came with 3.1.1.
    if acknowledge_flags > 1:
        raise MalformedPacket("reserved flags of CONNACK are set [MQTT-3.2.2-1]")
    if acknowledge_flags and reason_code:
        raise ProtocolError("Session Present on a refused connection [MQTT-3.2.2-6]")
    check_reason_code(Connack, reason_code, version, RETURN_CODES)
    properties = decode_properties(reader, Connack, version)
    return Connack(session_present=bool(acknowledge_flags), reason_code=reason_code, **properties)


def decode_publish(reader: Reader, flags: int, version: int) -> Publish:
    dup, qos, retain = bool(flags & 8), flags >> 1 & 3, bool(flags & 1)
    if qos == 3:
        raise MalformedPacket("QoS is 3 [MQTT-3.3.1-4]")
    if dup and qos == 0 and version > MQTT_3_1:
        raise ProtocolError("DUP at QoS 0 [MQTT-3.3.1-2]")
    topic = reader.string()
    packet_id = reader.packet_id() if qos else 0
    properties = decode_properties(reader, Publish, version)
    if not is_topic(topic) and not (topic == "" and "topic_alias" in properties):
        raise ProtocolError(f"topic is {topic!r} [MQTT-3.3.2-1] [MQTT-3.3.2-2]", 0x90 if topic else 0x82)
    payload = reader.rest()
    return Publish(topic=topic, payload=payload, qos=qos, retain=retain, dup=dup, packet_id=packet_id, **properties)


def decode_acknowledgement(packet_class: type[Any]) -> Callable[[Reader, int, int], Any]:
    def decode_body(reader: Reader, flags: int, version: int) -> Any:
        return packet_class(packet_id=reader.packet_id(), **decode_reason(reader, packet_class, version))

    return decode_body


def decode_reason(reader: Reader, packet_class: type[Any], version: int) -> dict[str, Any]:
    """Reason code and properties, each of which may be left out at the end (3.4.2.1, 3.14.2.1)."""
    if version < MQTT_5_0 or not reader.data:
        return {}
    reason_code = reader.integer(1)
    check_reason_code(packet_class, reason_code, version)
    properties = decode_properties(reader, packet_class, version) if reader.data else {}
    return {"reason_code": reason_code, **properties}


def check_reason_code(
    packet_class: type[Any], reason_code: int, version: int, return_codes: frozenset[int] = frozenset()
) -> None:
    allowed = REASON_CODES[packet_class] if version == MQTT_5_0 else return_codes
    if reason_code not in allowed:
        raise ProtocolError(f"{packet_class.__name__} has reason code 0x{reason_code:02X}")


def decode_subscribe(reader: Reader, flags: int, version: int) -> Subscribe:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, Subscribe, version)
    subscriptions = []
    while reader.data:
        subscriptions.append(decode_subscription(reader, version))
    if not subscriptions:
        raise ProtocolError("SUBSCRIBE without topic filters [MQTT-3.8.3-2]")
    return Subscribe(packet_id=packet_id, subscriptions=tuple(subscriptions), **properties)


def decode_subscription(reader: Reader, version: int) -> Subscription:
    topic_filter, options = reader.string(), reader.integer(1)
    qos, no_local, retain_as_published, retain_handling = options & 3, options & 4, options & 8, options >> 4 & 3
    if options >> 6 or (version < MQTT_5_0 and options > 3):
        raise MalformedPacket("reserved bits of the subscription options are set [MQTT-3.8.3-5]")
    if qos == 3:
        raise MalformedPacket("requested QoS is 3")
    if retain_handling == 3:
        raise ProtocolError("Retain Handling is 3")
    if no_local and topic_filter.startswith("$share/"):
        raise ProtocolError("No Local on a shared subscription [MQTT-3.8.3-4]")
    return Subscription(topic_filter, qos, bool(no_local), bool(retain_as_published), retain_handling)


def decode_suback(reader: Reader, flags: int, version: int) -> Suback:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, Suback, version)
    reason_codes = tuple(reader.rest())
    if not reason_codes:
        raise ProtocolError("SUBACK without reason codes [MQTT-3.9.3-1]")
    for reason_code in reason_codes:
        check_reason_code(Suback, reason_code, version, SUBACK_RETURN_CODES)
    return Suback(packet_id=packet_id, reason_codes=reason_codes, **properties)


def decode_unsubscribe(reader: Reader, flags: int, version: int) -> Unsubscribe:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, Unsubscribe, version)
    topic_filters = []
    while reader.data:
        topic_filters.append(reader.string())
    if not topic_filters:
        raise ProtocolError("UNSUBSCRIBE without topic filters [MQTT-3.10.3-2]")
    return Unsubscribe(packet_id=packet_id, topic_filters=tuple(topic_filters), **properties)


def decode_unsuback(reader: Reader, flags: int, version: int) -> Unsuback:
    packet_id = reader.packet_id()
    if version < MQTT_5_0:
        return Unsuback(packet_id=packet_id)
    properties = decode_properties(reader, Unsuback, version)
    reason_codes = tuple(reader.rest())
    if not reason_codes:
        raise ProtocolError("UNSUBACK without reason codes [MQTT-3.11.3-1]")
    for reason_code in reason_codes:
        check_reason_code(Unsuback, reason_code, version)
    return Unsuback(packet_id=packet_id, reason_codes=reason_codes, **properties)


def decode_disconnect(reader: Reader, flags: int, version: int) -> Disconnect:
    return Disconnect(**decode_reason(reader, Disconnect, version))


def decode_auth(reader: Reader, flags: int, version: int) -> Auth:
    if not reader.data:
        return Auth()
    reason_code = reader.integer(1)
    check_reason_code(Auth, reason_code, version)
    properties = decode_properties(reader, Auth, version)
    if "authentication_method" not in properties:
        raise ProtocolError("AUTH without authentication_method")
    return Auth(reason_code=reason_code, **properties)


DECODERS: Final[dict[type[Any], Callable[[Reader, int, int], Packet]]] = {
    Connect: decode_connect,
    Connack: decode_connack,
    Publish: decode_publish,
    Puback: decode_acknowledgement(Puback),
    Pubrec: decode_acknowledgement(Pubrec),
    Pubrel: decode_acknowledgement(Pubrel),
    Pubcomp: decode_acknowledgement(Pubcomp),
    Subscribe: decode_subscribe,
    Suback: decode_suback,
    Unsubscribe: decode_unsubscribe,
    Unsuback: decode_unsuback,
    Pingreq: lambda reader, flags, version: Pingreq(),
    Pingresp: lambda reader, flags, version: Pingresp(),
    Disconnect: decode_disconnect,
    Auth: decode_auth,
}
PACKET_CLASSES: Final[dict[int, type[Any]]] = {packet_class.packet_type: packet_class for packet_class in DECODERS}
