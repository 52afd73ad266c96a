"""Control packets for Python callers: one frozen dataclass each, named as the standard names them [3].

codec.decode_packet makes those that a client sends, codec.encode_packet takes those that a server sends. The shard
has its C structs instead (packets.pxd); these are for tests and for tracing.

Fields have the standard's names. What a version lacks keeps the value that the standard gives to its absence; where
absence means something of its own it is None. Acknowledgements show their reason code only: the core neither reads
nor writes their properties.
"""

from dataclasses import dataclass

from .spec import RECEIVE_MAXIMUM_DEFAULT, ProtocolVersion, QoS, ReasonCode, RetainHandling

UserProperties = tuple[tuple[str, str], ...]  # in the order of the wire, repeats kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """The Will Message of a CONNECT [3.1.3.2 to 3.1.3.4]."""

    topic: str
    payload: bytes = b""
    qos: QoS = QoS.AT_MOST_ONCE
    retain: bool = False
    will_delay_interval: int = 0  # seconds
    message_expiry_interval: int | None = None  # seconds
    payload_format_indicator: int = 0
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """[3.1] Clean Session of 3.x is clean_start with a session expiry of 0 or SESSION_EXPIRY_NEVER."""

    protocol_version: ProtocolVersion = ProtocolVersion.MQTT_5_0
    client_id: str = ""
    clean_start: bool = True
    keep_alive: int = 0  # seconds; 0 = none
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    session_expiry_interval: int = 0  # seconds
    receive_maximum: int = RECEIVE_MAXIMUM_DEFAULT
    maximum_packet_size: int | None = None  # bytes; None = no limit
    topic_alias_maximum: int = 0
    request_response_information: bool = False
    request_problem_information: bool = True
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connack:
    """[3.2] The reason code is that of 5.0 in every version; the encoder maps it to a 3.x return code."""

    session_present: bool = False
    reason_code: ReasonCode = ReasonCode.SUCCESS
    session_expiry_interval: int | None = None  # seconds
    receive_maximum: int = RECEIVE_MAXIMUM_DEFAULT
    maximum_qos: QoS = QoS.EXACTLY_ONCE
    retain_available: bool = True
    maximum_packet_size: int | None = None  # bytes; None = no limit
    assigned_client_id: str | None = None
    topic_alias_maximum: int = 0
    reason_string: str | None = None
    user_properties: UserProperties = ()
    wildcard_subscription_available: bool = True
    subscription_identifier_available: bool = True
    shared_subscription_available: bool = True
    server_keep_alive: int | None = None  # seconds
    response_information: str | None = None
    server_reference: str | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """[3.3] subscription_ids come from a server only, topic may be empty with a topic_alias."""

    topic: str
    payload: bytes = b""
    qos: QoS = QoS.AT_MOST_ONCE
    retain: bool = False
    dup: bool = False
    packet_id: int = 0  # 0 at QoS 0
    topic_alias: int | None = None
    message_expiry_interval: int | None = None  # seconds
    payload_format_indicator: int = 0
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: UserProperties = ()
    subscription_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Puback:
    """[3.4]"""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@dataclass(frozen=True, slots=True)
class Pubrec:
    """[3.5]"""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@dataclass(frozen=True, slots=True)
class Pubrel:
    """[3.6]"""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """[3.7]"""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """A topic filter of a SUBSCRIBE with its options [3.8.3.1]."""

    topic_filter: str
    qos: QoS = QoS.AT_MOST_ONCE
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: RetainHandling = RetainHandling.SEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """[3.8]"""

    packet_id: int
    requests: tuple[SubscriptionRequest, ...]
    subscription_id: int | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suback:
    """[3.9] One reason code per topic filter, in their order."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...]
    reason_string: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """[3.10]"""

    packet_id: int
    topic_filters: tuple[str, ...]
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsuback:
    """[3.11] One reason code per topic filter, in their order; 3.x does not send them."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...] = ()
    reason_string: str | None = None


@dataclass(frozen=True, slots=True)
class Pingreq:
    """[3.12]"""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """[3.13]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """[3.14] The session expiry interval comes from a client only."""

    reason_code: ReasonCode = ReasonCode.NORMAL_DISCONNECTION
    session_expiry_interval: int | None = None  # seconds
    reason_string: str | None = None
    server_reference: str | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """[3.15]"""

    reason_code: ReasonCode
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    reason_string: str | None = None
    user_properties: UserProperties = ()


Packet = (
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
