"""What is wrong for each parameter, by where it is and what it is called, and what the caller is told of it."""

from dataclasses import dataclass
from typing import Any

ABSENT = ()
NOT_UTF_8 = (b"\xff", b"caf\xe9", b"%FF", b"%ED%A0%80")
LONG = b"x" * 65_536
LONG_PAYLOAD = "x" * 262_145  # MaxUserPayloadBytes is 262144
HUGE = b"9" * 30


@dataclass(frozen=True)
class Wrong:
    """Values for one parameter, all of them at once, and the answer."""

    values: tuple[Any, ...]
    says: str
    status: int = 400


def one(says: str, *values: Any, status: int = 400) -> list[Wrong]:
    """Each of the values is told the same."""
    return [Wrong((value,), says, status) for value in values]


# Headers: the calls of BifroMQ.


def _header(name: str, *others: list[Wrong], required: bool = True, twice: bytes = b"1") -> list[Wrong]:
    missing = [Wrong(ABSENT, f"header not found: {name}")] if required else []
    return [
        *missing,
        Wrong((twice, twice), f"{name}: expected one header, got 2"),
        *one(f"{name}: expected UTF-8 or percent-encoded UTF-8", *NOT_UTF_8),
        *(wrong for each in others for wrong in each),
    ]


def _name(name: str, *, required: bool = True) -> list[Wrong]:
    return _header(
        name,
        one(f"header is empty: {name}", b""),
        one(f"{name}: expected text without U+0000", b"a%00b"),
        one(f"{name}: expected at most 65535 bytes", LONG),
        required=required,
    )


def _number(name: str, *others: list[Wrong], required: bool = True) -> list[Wrong]:
    return _header(
        name,
        one(f"{name}: expected an integer, got", b"", b"one", b"1.5", b"0x1", b"1 1"),
        *others,
        required=required,
    )


def _qos(name: str) -> list[Wrong]:
    return _number(name, one("Invalid QoS", b"-1", b"3", HUGE))


_WRONG_TOPICS = (b"", b"a/+", b"#", b"a/#/b", b"a%00b", LONG, b"/".join([b"a"] * 17))
_WRONG_FILTERS = (b"", b"a/#/b", b"a+", b"%23a", b"a%00b", LONG, b"$share/g", b"$share//a", b"$share/a+/b", b"a/" * 17)
_AGE = _number("expiry_seconds", one("expiry_seconds: expected 0 to 2147483647, got", b"-1", b"2147483648", HUGE))

_LIFE = _number(
    "expiry_seconds",
    one("Invalid expiry seconds", b"0", b"-1"),
    one("expiry_seconds: expected 1 to 2147483647, got", b"2147483648", HUGE),
    required=False,
)

HEADERS: dict[str, list[Wrong]] = {
    "tenant_id": _name("tenant_id"),
    "user_id": _name("user_id"),
    "client_id": _name("client_id"),
    "client_type": _name("client_type"),
    "topic": _header("topic", one("Unaccepted Topic", *_WRONG_TOPICS, status=403)),
    "topic_filter": _header("topic_filter", one("TOPIC_FILTER_INVALID", *_WRONG_FILTERS)),
    "qos": _qos("qos"),
    "sub_qos": _qos("sub_qos"),
    "expiry_seconds": _LIFE,
    "verbose": _header("verbose", one("verbose: expected 1 or 0, got", b"", b"2", b"-1", b"maybe"), required=False),
    "server_redirect": _header(
        "server_redirect", one("Invalid server redirect value", b"", b"perhaps", b"-1", b"NO"), required=False
    ),
    "server_reference": _header("server_reference", one("Server reference exceeds 65535 bytes", LONG), required=False),
}

# Where a header of that name means something else.
HEADERS_OF_ROUTES: dict[tuple[str, str, str], list[Wrong]] = {
    ("POST", "/retain", "topic"): _header("topic", one("topic: ", *_WRONG_TOPICS)),
    ("DELETE", "/retain", "expiry_seconds"): _AGE,
    ("DELETE", "/session", "expiry_seconds"): [wrong for wrong in _AGE if wrong.values != ABSENT],
    # Of a user alone or of nobody in particular, they may be left out; what is then meant the tests of kill say.
    ("DELETE", "/kill", "user_id"): [
        Wrong(ABSENT, "header not found: user_id (client_id alone names nobody)"),
        *_name("user_id", required=False),
    ],
    ("DELETE", "/kill", "client_id"): _name("client_id", required=False),
}

# Queries of `/v1`.


def _query(name: str, *others: list[Wrong], twice: bytes = b"1") -> list[Wrong]:
    return [
        Wrong((twice, twice), f"query.{name}: expected once"),
        *one(f"query.{name}: expected percent-encoded UTF-8", b"%FF", b"%ED%A0%80"),
        *(wrong for each in others for wrong in each),
    ]


def _query_number(name: str, low: bytes, high: bytes) -> list[Wrong]:
    return _query(
        name,
        one(f"query.{name}: Input should be a valid integer", b"", b"one", b"1.5", b"0x1"),
        one(f"query.{name}: Input should be greater than or equal to", low),
        one(f"query.{name}: Input should be less than or equal to", high, HUGE),
    )


_CURSOR = one("query.cursor: expected one that the list before gave", b"!", b"a", b"%C3%A9", b"====")
_QUERY_NAME_LONG = [Wrong((LONG,), "String should have at most 65535 characters")]

QUERIES: dict[str, list[Wrong]] = {
    "limit": [*_query_number("limit", b"0", b"1001"), *one("query.limit", b"-1")],
    "cursor": [*_query("cursor"), *_CURSOR, *one("cursor: expected one that the list before gave", b"____")],
    "payload_bytes": _query_number("payload_bytes", b"-1", b"65537"),
    "user_id": [*_query("user_id"), *_QUERY_NAME_LONG],
    "client_id": [*_query("client_id"), *_QUERY_NAME_LONG],
    "tenant_id": [*_query("tenant_id"), *_QUERY_NAME_LONG],
    "topic": [
        Wrong(ABSENT, "query.topic: "),
        *_query("topic"),
        *_QUERY_NAME_LONG,
        *one("query.topic: ", b"", b"a/%2B", b"%23", b"a%00b", b"/".join([b"a"] * 17)),
    ],
    "topic_filter": [
        *_query("topic_filter"),
        *_QUERY_NAME_LONG,
        *one("query.topic_filter: ", b"a/%23/b", b"a%2B", b"a%00b", b"$share/g/a", b"$oshare/g/a"),
    ],
}

# Names in paths of `/v1`.

_PATH_NAME = [
    Wrong((b"",), "no such path", 404),
    *(Wrong((value,), "expected percent-encoded UTF-8") for value in (b"%FF", b"%ED%A0%80")),
    Wrong((b"a%00b",), "expected text without U+0000"),
    Wrong((LONG,), "expected at most 65535 bytes"),
]
_PATH_NUMBER = [
    Wrong((b"",), "no such path", 404),
    *one("expected a number, 1 to 9007199254740992", b"one", b"0", b"-1", b"1.5", b"%FF", HUGE),
    Wrong((b"999",), "no such", 404),
]

PATHS: dict[str, list[Wrong]] = {
    "tenant_id": _PATH_NAME,
    "user_id": _PATH_NAME,
    "client_id": _PATH_NAME,
    "key_id": [*_PATH_NAME, Wrong((b"unknown",), "there is no such key", 404)],
    "name": [*_PATH_NAME, *one("there is no backup of this name", b"unknown", b"..", b"a%2Fb", status=404)],
    "ban_id": _PATH_NUMBER,
    "rule_id": _PATH_NUMBER,
}

# Fields of JSON bodies.

SURROGATE = "\ud800"


def _field(name: str, *others: list[Wrong], required: bool = False, twice: Any = "x") -> list[Wrong]:
    missing = [Wrong(ABSENT, f"{name}: Field required")] if required else []
    return [
        *missing,
        Wrong((twice, twice), f"{name}: expected once"),
        *(wrong for each in others for wrong in each),
    ]


def _text(name: str, *, length: int, required: bool = False, empty: bool = False) -> list[Wrong]:
    return _field(
        name,
        one(f"{name}: Input should be a valid string", 1, [], {}),
        one(f"{name}: ", "x" * (length + 1), SURROGATE),
        [] if empty else one(f"{name}: ", ""),
        required=required,
    )


def _integer(name: str, low: Any, high: Any, *, required: bool = False) -> list[Wrong]:
    return _field(
        name,
        one(f"{name}: Input should be a valid integer", "", "one", 1.5, [], {}),
        one(f"{name}: Input should be greater than or equal to", low),
        one(f"{name}: Input should be less than or equal to", high, 10**30),
        required=required,
        twice=1,
    )


def _switch(name: str) -> list[Wrong]:
    return _field(name, one(f"{name}: Input should be a valid boolean", "", "perhaps", 2, -1, []), twice=True)


def _choice(name: str, *, required: bool = True) -> list[Wrong]:
    return _field(name, one(f"{name}: Input should be ", "", "perhaps", 1, [], None), required=required)


_TOPIC_FIELD = [
    *_field("topic", required=True),
    *one("topic: Input should be a valid string", 1, [], None),
    *one("topic: ", "", "a/+", "#", "a\0b", "x" * 65_536, SURROGATE, "/".join("a" * 17)),
]

FIELDS: dict[str, list[Wrong]] = {
    "topic": _TOPIC_FIELD,
    "payload": _field("payload", one("payload: ", 1, [], None, LONG_PAYLOAD)),
    "payload_base64": _field("payload_base64", one("payload_base64: ", 1, [], "!", "a", "é")),
    "qos": _integer("qos", -1, 3),
    "max_qos": _integer("max_qos", -1, 3),
    "retain": _switch("retain"),
    "expiry_seconds": _integer("expiry_seconds", 0, 2**31),
    "position": _integer("position", -(2**53) - 1, 2**53 + 1),
    "expires_at_s": _integer("expires_at_s", -1, 2**40 + 1),
    "name": _text("name", length=200, required=True),
    "role": _choice("role"),
    "effect": _choice("effect"),
    "kind": _choice("kind"),
    "level": _choice("level"),
    "actions": _field("actions", one("actions", "publish", [], ["fly"], 1, None, ["publish"] * 4), twice=["publish"]),
    "topic_filter": [
        *_field("topic_filter", required=True),
        *one("topic_filter: ", 1, None, "x" * 65_536, SURROGATE),
        *one("topic filter ", "", "a/#/b", "a+", "a\0b", "a/%x", "$share/g/a"),
    ],
    "tenant_id": _text("tenant_id", length=65_535),
    # Whose name is empty has one all the same.
    "user_id": _text("user_id", length=65_535, empty=True),
    "client_id": _text("client_id", length=65_535, empty=True),
    "value": _text("value", length=65_535, required=True),
    "reason": _text("reason", length=1000, empty=True),
    "password": _text("password", length=1024),
    "attributes": _field("attributes", one("attributes", "x", 1, [], {"a": 1}, {"a": None}), twice={}),
    "is_enabled": _switch("is_enabled"),
}

FIELDS_OF_ROUTES: dict[tuple[str, str, str], list[Wrong]] = {
    ("POST", "/v1/tenants/{tenant_id}/publish/batch", "topic"): [
        wrong for wrong in FIELDS["topic"] if wrong.values != (SURROGATE,)
    ],
    # A body that holds no more than a payload is refused as a whole.
    ("POST", "/v1/tenants/{tenant_id}/publish", "payload"): [
        *(wrong for wrong in FIELDS["payload"] if wrong.values != (LONG_PAYLOAD,)),
        Wrong((LONG_PAYLOAD,), "the body is larger than 262144 bytes", 413),
    ],
    ("POST", "/v1/backups", "name"): _field(
        "name", one("name: ", 1, None, "..", ".a", "a/b", "a b", "x" * 101, SURROGATE)
    ),
    ("POST", "/v1/bans", "tenant_id"): [
        # A user is one of a tenant.
        *_text("tenant_id", length=65_535),
        Wrong(ABSENT, "tenant_id: "),
    ],
}
