"""The settings of a tenant: what its clients may do, how much of it, and what happens at the limits.

One table: each field of TenantSettings is one of BifroMQ's tenant settings under BifroMQ's name, with the default of
both profiles, the valid range and its meaning. Everything else (parsing, checking, documentation, profiles) is made
from it.

Two profiles. `default` is what Rookery ships: BifroMQ's values, except where theirs cut off in silence what a device
may reasonably do (200 messages a second, ten retained messages per topic filter, topics of 255 bytes). `bifromq` has
all of theirs, for a move that must not change any limit.

The core compiles an instance into a C struct; an instance is never changed, a tenant gets another one.
"""

import difflib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, cast

from rookery.core.quotas import RESOURCES

NO_LIMIT = 0xFFFFFFFF  # of RetainMessageMatchLimit: every retained message that matches
UNLIMITED = 0  # of MsgPubPerSec, InBoundBandWidth, OutBoundBandWidth and quotas
NEVER = 0xFFFFFFFF  # of a session expiry interval [MQTT5 3.1.2.11.2]

_INT = 2**31 - 1
_LONG = 2**63 - 1
_KIB = 1024
_MIB = 1024 * 1024

ProfileName = Literal["default", "bifromq"]
Value = bool | int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one value."""

    name: str  # BifroMQ's name of the setting, or what was given for it
    message: str


class SettingError(ValueError):
    """Values that no tenant may have; names all of them at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.name}: {problem.message}" for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: a tenant setting, apart from the value that a tenant has."""

    name: str  # BifroMQ's
    field_name: str  # of TenantSettings
    minimum: int | None  # None of a switch
    maximum: int | None
    default: Value
    bifromq: Value
    meaning: str

    @property
    def is_switch(self) -> bool:
        return self.minimum is None

    @property
    def valid_range(self) -> str:
        """The values that are allowed, in words: `true or false`, `1 to 65535`."""
        return "true or false" if self.minimum is None else f"{self.minimum} to {self.maximum}"

    def check(self, value: object) -> str | None:
        """What is wrong with value; None when nothing is."""
        if self.minimum is None or self.maximum is None:
            return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
        # bool is an int to Python, `MaximumQoS = true` is a mistake to everybody else.
        if isinstance(value, bool) or not isinstance(value, int):
            return f"{value!r} is not an integer; valid is {self.valid_range}"
        if not self.minimum <= value <= self.maximum:
            return f"{value} is out of range; valid is {self.valid_range}"
        return None

    def parse(self, text: str) -> object:
        """The value that text stands for, from the environment or a header; text itself when it stands for none."""
        if self.is_switch:
            return {"true": True, "false": False}.get(text.strip().lower(), text)
        try:
            return int(text)
        except ValueError:
            return text


def _switch(name: str, default: bool, meaning: str, *, bifromq: bool | None = None) -> Any:
    theirs = default if bifromq is None else bifromq
    return field(default=default, metadata={"name": name, "bifromq": theirs, "range": None, "meaning": meaning})


def _number(name: str, default: int, bifromq: int, minimum: int, maximum: int, meaning: str) -> Any:
    metadata = {"name": name, "bifromq": bifromq, "range": (minimum, maximum), "meaning": meaning}
    return field(default=default, metadata=metadata)


def _quota(name: str, meaning: str) -> Any:
    return _number(name, UNLIMITED, UNLIMITED, 0, _LONG, f"{meaning}; 0 = unlimited")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSettings:
    """The settings of one tenant. TenantSettings() is Rookery's default profile; every instance is valid.

    Raises SettingError for values out of range and for an expiry minimum above the maximum.
    """

    # Switches: BifroMQ's name, default of both profiles, meaning.
    mqtt3_enabled: bool = _switch("MQTT3Enabled", True, "clients of MQTT 3.1 may connect")
    mqtt4_enabled: bool = _switch("MQTT4Enabled", True, "clients of MQTT 3.1.1 may connect")
    mqtt5_enabled: bool = _switch("MQTT5Enabled", True, "clients of MQTT 5.0 may connect")
    no_lwt_when_server_shutting_down: bool = _switch(
        "NoLWTWhenServerShuttingDown", True, "no will is published because the server stops"
    )
    debug_mode_enabled: bool = _switch("DebugModeEnabled", False, "events of single messages are reported")
    force_transient: bool = _switch("ForceTransient", False, "every session ends with its connection")
    by_pass_perm_check_error: bool = _switch(
        "ByPassPermCheckError", True, "a permission check that fails by an error grants; authentication never does"
    )
    payload_format_validation_enabled: bool = _switch(
        "PayloadFormatValidationEnabled", True, "payloads announced as UTF-8 are checked"
    )
    retain_enabled: bool = _switch("RetainEnabled", True, "messages may be retained")
    wildcard_subscription_enabled: bool = _switch("WildcardSubscriptionEnabled", True, "topic filters may hold + and #")
    subscription_identifier_enabled: bool = _switch(
        "SubscriptionIdentifierEnabled", True, "subscriptions may carry an identifier"
    )
    shared_subscription_enabled: bool = _switch("SharedSubscriptionEnabled", True, "$share and $oshare may be used")
    qos0_drop_oldest: bool = _switch(
        "QoS0DropOldest", False, "a full inbox drops its oldest QoS 0 message, not the new one"
    )

    disconnect_for_pub_rate: bool = _switch(
        "DisconnectForPubRate",
        False,
        "a 5.0 client above MsgPubPerSec is disconnected, of a 3.x client the message discarded",
        bifromq=True,
    )

    # Numbers: BifroMQ's name, default, BifroMQ's default, minimum, maximum, meaning.
    maximum_qos: int = _number("MaximumQoS", 2, 2, 0, 2, "highest QoS of publications and subscriptions")
    max_topic_level_length: int = _number("MaxTopicLevelLength", 65535, 40, 1, _INT, "bytes of one topic level")
    max_topic_levels: int = _number("MaxTopicLevels", 128, 16, 1, _INT, "levels of a topic")
    max_topic_length: int = _number(
        "MaxTopicLength", 65535, 255, 1, 65535, "bytes of a topic; the share prefix is not counted"
    )
    max_topic_alias: int = _number("MaxTopicAlias", 10, 10, 0, 65535, "topic aliases of a connection; 0 = none")
    max_shared_group_members: int = _number("MaxSharedGroupMembers", 200, 200, 1, _INT, "sessions in one shared group")
    max_topic_filters_per_inbox: int = _number(
        "MaxTopicFiltersPerInbox", 10_000, 100, 1, _INT, "subscriptions of a session"
    )
    max_topic_filters_per_sub: int = _number(
        "MaxTopicFiltersPerSub", 100, 10, 1, 100, "topic filters of one SUBSCRIBE or UNSUBSCRIBE"
    )
    msg_pub_per_sec: int = _number(
        "MsgPubPerSec", UNLIMITED, 200, 0, _INT, "publications per second of a connection; 0 = unlimited"
    )
    receiving_maximum: int = _number(
        "ReceivingMaximum", 200, 200, 1, 65535, "unacknowledged publications that a client may have on their way to us"
    )
    in_bound_bandwidth: int = _number(
        "InBoundBandWidth", UNLIMITED, 512 * _KIB, 0, _LONG, "bytes per second read from a connection; 0 = unlimited"
    )
    out_bound_bandwidth: int = _number(
        "OutBoundBandWidth", UNLIMITED, 512 * _KIB, 0, _LONG, "bytes per second written to a connection; 0 = unlimited"
    )
    max_last_will_bytes: int = _number(
        "MaxLastWillBytes", 64 * _KIB, 128, 1, 250 * _MIB, "payload of a will; MaxUserPayloadBytes caps it"
    )
    max_user_payload_bytes: int = _number(
        "MaxUserPayloadBytes", 256 * _KIB, 256 * _KIB, 1, 256 * _MIB, "bytes of an MQTT packet or of an HTTP body"
    )
    min_send_per_sec: int = _number(
        "MinSendPerSec", 8, 8, 1, _INT, "least window of unacknowledged messages towards a client"
    )
    max_resend_times: int = _number(
        "MaxResendTimes", 0, 3, 0, _INT, "resends on a live 3.x connection; never for 5.0 [MQTT-4.4.0-1]"
    )
    resend_timeout_seconds: int = _number(
        "ResendTimeoutSeconds", 10, 10, 1, _INT, "wait for an acknowledgement before a resend"
    )
    max_group_fanout: int = _number("MaxGroupFanout", 100, 100, 1, _INT, "shared groups that one publication reaches")
    max_persistent_fanout: int = _number(
        "MaxPersistentFanout", _INT, _INT, 1, _INT, "persistent sessions that one publication reaches"
    )
    max_persistent_fanout_bytes: int = _number(
        "MaxPersistentFanoutBytes", _LONG, _LONG, 1, _LONG, "bytes that one publication puts into persistent sessions"
    )
    max_session_expiry_seconds: int = _number(
        "MaxSessionExpirySeconds", 86_400, 86400, 1, NEVER, "longest life of a session without a connection"
    )
    min_session_expiry_seconds: int = _number(
        "MinSessionExpirySeconds", 60, 60, 1, NEVER, "shortest life of a persistent session without a connection"
    )
    min_keep_alive_seconds: int = _number(
        "MinKeepAliveSeconds", 1, 60, 1, 65534, "least keep alive; a shorter one is raised, and a 5.0 client told"
    )
    session_inbox_size: int = _number(
        "SessionInboxSize", 10_000, 1000, 1, 65535, "messages that wait for a session; QoS 0 and the others apart"
    )
    retain_message_match_limit: int = _number(
        "RetainMessageMatchLimit",
        NO_LIMIT,
        10,
        0,
        NO_LIMIT,
        "retained messages per topic filter of a SUBSCRIBE; 4294967295 = all",
    )

    # Quotas of the tenant, over all its clients: docs/quotas.md. BifroMQ's tenant resource types.
    total_connections: int = _quota("TotalConnections", "connections at the same time")
    total_session_memory_bytes: int = _quota(
        "TotalSessionMemoryBytes", "bytes of sessions, their subscriptions and the messages that they hold"
    )
    total_persistent_sessions: int = _quota("TotalPersistentSessions", "persistent sessions")
    total_persistent_session_space_bytes: int = _quota(
        "TotalPersistentSessionSpaceBytes", "TotalSessionMemoryBytes of persistent sessions"
    )
    total_transient_subscriptions: int = _quota("TotalTransientSubscriptions", "subscriptions of transient sessions")
    total_persistent_subscriptions: int = _quota("TotalPersistentSubscriptions", "subscriptions of persistent sessions")
    total_shared_subscriptions: int = _quota("TotalSharedSubscriptions", "shared subscriptions")
    total_retain_topics: int = _quota("TotalRetainTopics", "retained messages")
    total_retain_message_space_bytes: int = _quota("TotalRetainMessageSpaceBytes", "bytes of retained messages")
    total_connect_per_second: int = _quota("TotalConnectPerSecond", "connects per second")
    total_inbound_bytes_per_second: int = _quota(
        "TotalInboundBytesPerSecond", "bytes per second read from all connections"
    )
    total_transient_subscribe_per_second: int = _quota(
        "TotalTransientSubscribePerSecond", "topic filters per second subscribed to by transient sessions"
    )
    total_persistent_subscribe_per_second: int = _quota(
        "TotalPersistentSubscribePerSecond", "topic filters per second subscribed to by persistent sessions"
    )
    total_transient_unsubscribe_per_second: int = _quota(
        "TotalTransientUnsubscribePerSecond", "topic filters per second unsubscribed from by transient sessions"
    )
    total_persistent_unsubscribe_per_second: int = _quota(
        "TotalPersistentUnsubscribePerSecond", "topic filters per second unsubscribed from by persistent sessions"
    )
    total_retained_messages_per_seconds: int = _quota(
        "TotalRetainedMessagesPerSeconds", "messages per second that are retained"
    )
    total_retained_bytes_per_second: int = _quota("TotalRetainedBytesPerSecond", "bytes per second that are retained")
    total_retain_match_per_seconds: int = _quota(
        "TotalRetainMatchPerSeconds", "topic filters per second that look for retained messages"
    )
    total_retain_match_bytes_per_second: int = _quota(
        "TotalRetainMatchBytesPerSecond", "payload bytes per second of retained messages for new subscriptions"
    )
    total_transient_fan_out_bytes_per_seconds: int = _quota(
        "TotalTransientFanOutBytesPerSeconds",
        "bytes per second to transient sessions, of publications that reach several",
    )
    total_persistent_fan_out_bytes_per_seconds: int = _quota(
        "TotalPersistentFanOutBytesPerSeconds",
        "bytes per second to persistent sessions, of publications that reach several",
    )

    # Their shadows: what they would refuse is counted, and nothing is refused.
    shadow_total_connections: int = _quota("ShadowTotalConnections", "shadow of TotalConnections")
    shadow_total_session_memory_bytes: int = _quota(
        "ShadowTotalSessionMemoryBytes", "shadow of TotalSessionMemoryBytes"
    )
    shadow_total_persistent_sessions: int = _quota("ShadowTotalPersistentSessions", "shadow of TotalPersistentSessions")
    shadow_total_persistent_session_space_bytes: int = _quota(
        "ShadowTotalPersistentSessionSpaceBytes", "shadow of TotalPersistentSessionSpaceBytes"
    )
    shadow_total_transient_subscriptions: int = _quota(
        "ShadowTotalTransientSubscriptions", "shadow of TotalTransientSubscriptions"
    )
    shadow_total_persistent_subscriptions: int = _quota(
        "ShadowTotalPersistentSubscriptions", "shadow of TotalPersistentSubscriptions"
    )
    shadow_total_shared_subscriptions: int = _quota(
        "ShadowTotalSharedSubscriptions", "shadow of TotalSharedSubscriptions"
    )
    shadow_total_retain_topics: int = _quota("ShadowTotalRetainTopics", "shadow of TotalRetainTopics")
    shadow_total_retain_message_space_bytes: int = _quota(
        "ShadowTotalRetainMessageSpaceBytes", "shadow of TotalRetainMessageSpaceBytes"
    )
    shadow_total_connect_per_second: int = _quota("ShadowTotalConnectPerSecond", "shadow of TotalConnectPerSecond")
    shadow_total_inbound_bytes_per_second: int = _quota(
        "ShadowTotalInboundBytesPerSecond", "shadow of TotalInboundBytesPerSecond"
    )
    shadow_total_transient_subscribe_per_second: int = _quota(
        "ShadowTotalTransientSubscribePerSecond", "shadow of TotalTransientSubscribePerSecond"
    )
    shadow_total_persistent_subscribe_per_second: int = _quota(
        "ShadowTotalPersistentSubscribePerSecond", "shadow of TotalPersistentSubscribePerSecond"
    )
    shadow_total_transient_unsubscribe_per_second: int = _quota(
        "ShadowTotalTransientUnsubscribePerSecond", "shadow of TotalTransientUnsubscribePerSecond"
    )
    shadow_total_persistent_unsubscribe_per_second: int = _quota(
        "ShadowTotalPersistentUnsubscribePerSecond", "shadow of TotalPersistentUnsubscribePerSecond"
    )
    shadow_total_retained_messages_per_seconds: int = _quota(
        "ShadowTotalRetainedMessagesPerSeconds", "shadow of TotalRetainedMessagesPerSeconds"
    )
    shadow_total_retained_bytes_per_second: int = _quota(
        "ShadowTotalRetainedBytesPerSecond", "shadow of TotalRetainedBytesPerSecond"
    )
    shadow_total_retain_match_per_seconds: int = _quota(
        "ShadowTotalRetainMatchPerSeconds", "shadow of TotalRetainMatchPerSeconds"
    )
    shadow_total_retain_match_bytes_per_second: int = _quota(
        "ShadowTotalRetainMatchBytesPerSecond", "shadow of TotalRetainMatchBytesPerSecond"
    )
    shadow_total_transient_fan_out_bytes_per_seconds: int = _quota(
        "ShadowTotalTransientFanOutBytesPerSeconds", "shadow of TotalTransientFanOutBytesPerSeconds"
    )
    shadow_total_persistent_fan_out_bytes_per_seconds: int = _quota(
        "ShadowTotalPersistentFanOutBytesPerSeconds", "shadow of TotalPersistentFanOutBytesPerSeconds"
    )

    def __post_init__(self) -> None:
        problems = [
            Problem(setting.name, message)
            for setting in SETTINGS
            if (message := setting.check(getattr(self, setting.field_name))) is not None
        ]
        if not problems and self.min_session_expiry_seconds > self.max_session_expiry_seconds:
            message = f"{self.min_session_expiry_seconds} exceeds MaxSessionExpirySeconds"
            problems.append(
                Problem("MinSessionExpirySeconds", f"{message}, which is {self.max_session_expiry_seconds}")
            )
        if problems:
            raise SettingError(problems)

    @classmethod
    def from_names(cls, values: Mapping[str, object], base: "TenantSettings | None" = None) -> "TenantSettings":
        """The settings of base, or of the default profile, with some set by BifroMQ's names.

        Text is parsed, so that values from the environment and from headers can come as they are. Raises SettingError
        with every unknown name (and the name that was probably meant) and every value out of range.

        A MaxSessionExpirySeconds below the inherited MinSessionExpirySeconds lowers that too: only a contradiction
        between two given values is an error.
        """
        changes: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, value in values.items():
            setting = SETTINGS_BY_NAME.get(name)
            if setting is None:
                problems.append(Problem(name, f"unknown setting{suggest(name, SETTINGS_BY_NAME)}"))
                continue
            parsed = setting.parse(value) if isinstance(value, str) else value
            message = setting.check(parsed)
            if message is not None:
                problems.append(Problem(name, message))
            changes[setting.field_name] = parsed
        if problems:
            raise SettingError(problems)
        inherited = {setting.field_name: getattr(base or DEFAULT, setting.field_name) for setting in SETTINGS}
        expiry_maximum = changes.get("max_session_expiry_seconds")
        if expiry_maximum is not None and "min_session_expiry_seconds" not in changes:
            changes["min_session_expiry_seconds"] = min(inherited["min_session_expiry_seconds"], expiry_maximum)
        return cls(**{**inherited, **changes})

    def quota_limits(self) -> tuple[int, ...]:
        """The limits of all RESOURCES, then those of their shadows; 0 = none."""
        return tuple(getattr(self, field_name) for field_name in _QUOTA_FIELDS)

    def to_names(self) -> dict[str, Value]:
        """All values under BifroMQ's names."""
        return {setting.name: getattr(self, setting.field_name) for setting in SETTINGS}


def suggest(name: str, known: Mapping[str, object]) -> str:
    """`; did you mean X?` with the known name nearest to name, or nothing. Letter case does not count."""
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return f"; did you mean {by_lower_case[nearest[0]]}?" if nearest else ""


def _read_row(row: Field[Any]) -> Setting:
    minimum, maximum = row.metadata["range"] or (None, None)
    return Setting(
        name=row.metadata["name"],
        field_name=row.name,
        minimum=minimum,
        maximum=maximum,
        default=cast(Value, row.default),
        bifromq=row.metadata["bifromq"],
        meaning=row.metadata["meaning"],
    )


SETTINGS: tuple[Setting, ...] = tuple(_read_row(row) for row in fields(TenantSettings))
SETTINGS_BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
_QUOTA_FIELDS = tuple(SETTINGS_BY_NAME[prefix + name].field_name for prefix in ("", "Shadow") for name in RESOURCES)

DEFAULT = TenantSettings()
BIFROMQ = TenantSettings(**cast(dict[str, Any], {setting.field_name: setting.bifromq for setting in SETTINGS}))
PROFILES: dict[ProfileName, TenantSettings] = {"default": DEFAULT, "bifromq": BIFROMQ}
