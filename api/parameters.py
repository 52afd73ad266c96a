"""Parameters of requests: BifroMQ's API takes every one of them from a header.

    tenant_id: acme          the name in any letter case, with - for _ too, because proxies drop underscores
    topic: caf%C3%A9/1       UTF-8, raw or percent-encoded; a percent sign of the value itself is %25

A parameter is a row of the table below; reading one that is missing, doubled, empty or not what it should be raises
BadParameter with a text that names the header and says what was expected.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from time import time_ns
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")

CLIENT_META_PREFIX = "client_meta_"
EXPIRY_SECONDS_MAXIMUM = 2**31 - 1
TEXT_SIZE_MAXIMUM = 65535  # bytes of UTF-8: no string of MQTT is longer [MQTT5 1.5.4]
QUOTED_LENGTH = 100  # characters
_INT64_MINIMUM, _INT64_MAXIMUM = -(2**63), 2**63 - 1


class BadParameter(ValueError):
    """A header parameter that cannot be used; the text is the body of the 400."""


class Redirection(StrEnum):
    """What `server_redirect` may say: stay away, go there for good, go there for now."""

    NO = "no"
    MOVE = "move"
    TEMP_USE = "temp_use"


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """One row: the name of a header parameter and how its value is read."""

    name: str
    parse: Callable[[str, str], T]  # (name, text) -> value; raises BadParameter


@dataclass(frozen=True, slots=True)
class ActingClient:
    """Who acts through the API, as the caller names himself; not an MQTT client."""

    type: str
    metadata: dict[str, str]  # client_meta_city: Kyiv -> {"city": "Kyiv"}


def _quote(text: str) -> str:
    """A value in a message: enough of it to recognize."""
    return repr(text if len(text) <= QUOTED_LENGTH else f"{text[:QUOTED_LENGTH]}...")


def _parse_text(name: str, text: str) -> str:
    if not text:
        raise BadParameter(f"header is empty: {name}")
    if len(text.encode()) > TEXT_SIZE_MAXIMUM:
        raise BadParameter(f"{name}: expected at most {TEXT_SIZE_MAXIMUM} bytes")
    return text


def _parse_any_text(name: str, text: str) -> str:
    return text


def _parse_topic_filter(name: str, text: str) -> str:
    """What is wrong with any other is said where the tenant's limits are known, in the same words."""
    if len(text.encode()) > TEXT_SIZE_MAXIMUM:
        raise BadParameter("TOPIC_FILTER_INVALID")
    return text


def _parse_integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadParameter(f"{name}: expected an integer, got {_quote(text)}") from None


def _parse_qos(name: str, text: str) -> int:
    qos = _parse_integer(name, text)
    if qos not in (0, 1, 2):
        raise BadParameter("Invalid QoS")
    return qos


def _parse_expiry_seconds(name: str, text: str) -> int:
    expiry_seconds = _parse_integer(name, text)
    if expiry_seconds <= 0:
        raise BadParameter("Invalid expiry seconds")
    if expiry_seconds > EXPIRY_SECONDS_MAXIMUM:
        raise BadParameter(f"{name}: expected 1 to {EXPIRY_SECONDS_MAXIMUM}, got {_quote(text)}")
    return expiry_seconds


def _parse_switch(name: str, text: str) -> bool:
    value = {"1": True, "true": True, "0": False, "false": False}.get(text.lower())
    if value is None:
        raise BadParameter(f"{name}: expected 1 or 0, got {_quote(text)}")
    return value


def _parse_age_seconds(name: str, text: str) -> int:
    age_seconds = _parse_integer(name, text)
    if not 0 <= age_seconds <= EXPIRY_SECONDS_MAXIMUM:
        raise BadParameter(f"{name}: expected 0 to {EXPIRY_SECONDS_MAXIMUM}, got {_quote(text)}")
    return age_seconds


def _parse_redirection(name: str, text: str) -> Redirection:
    try:
        return Redirection(text)
    except ValueError:
        raise BadParameter("Invalid server redirect value") from None


def _parse_server_reference(name: str, text: str) -> str:
    if len(text.encode()) > TEXT_SIZE_MAXIMUM:
        raise BadParameter(f"Server reference exceeds {TEXT_SIZE_MAXIMUM} bytes")
    return text


TENANT_ID = Parameter("tenant_id", _parse_text)
USER_ID = Parameter("user_id", _parse_text)
CLIENT_ID = Parameter("client_id", _parse_text)
TOPIC = Parameter("topic", _parse_any_text)  # An empty topic is refused as a topic: 403.
QOS = Parameter("qos", _parse_qos)
EXPIRY_SECONDS = Parameter("expiry_seconds", _parse_expiry_seconds)
CLIENT_TYPE = Parameter("client_type", _parse_text)
AGE_SECONDS = Parameter("expiry_seconds", _parse_age_seconds)
TOPIC_FILTER = Parameter("topic_filter", _parse_topic_filter)  # An empty one is refused as a topic filter.
SUB_QOS = Parameter("sub_qos", _parse_qos)
SERVER_REDIRECT = Parameter("server_redirect", _parse_redirection)
SERVER_REFERENCE = Parameter("server_reference", _parse_server_reference)
VERBOSE = Parameter("verbose", _parse_switch)


class Parameters:
    """The parameters of one request."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """headers as they came: names and values in bytes, in order, repeats kept."""
        self._values: dict[str, list[bytes]] = {}
        for name, value in headers:
            self._values.setdefault(name.decode("latin-1").lower().replace("-", "_"), []).append(value)

    def require(self, parameter: Parameter[T]) -> T:
        """The value of a parameter that must be there."""
        text = self._text(parameter.name)
        if text is None:
            raise BadParameter(f"header not found: {parameter.name}")
        return parameter.parse(parameter.name, text)

    def find(self, parameter: Parameter[T]) -> T | None:
        """The value of a parameter that may be left out."""
        text = self._text(parameter.name)
        return None if text is None else parameter.parse(parameter.name, text)

    def acting_client(self) -> ActingClient:
        """client_type, which must be there, and all of client_meta_*."""
        metadata = {
            name.removeprefix(CLIENT_META_PREFIX): self._text(name) or ""
            for name in self._values
            if name.startswith(CLIENT_META_PREFIX) and name != CLIENT_META_PREFIX
        }
        return ActingClient(self.require(CLIENT_TYPE), metadata)

    def request_id(self) -> int:
        """The req_id of the caller, or a new one where there is none that fits into 64 bits."""
        values = self._values.get("req_id", [])
        try:
            request_id = int(values[0]) if len(values) == 1 else None
        except ValueError:
            request_id = None
        if request_id is None or not _INT64_MINIMUM <= request_id <= _INT64_MAXIMUM:
            return make_request_id()
        return request_id

    def text(self, name: str) -> str | None:
        """A header as text, whatever it is for. Raises BadParameter when it is doubled or no text."""
        return self._text(name)

    def _text(self, name: str) -> str | None:
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise BadParameter(f"{name}: expected one header, got {len(values)}")
        try:
            text = unquote_to_bytes(values[0]).decode("utf-8")
        except UnicodeDecodeError:
            raise BadParameter(f"{name}: expected UTF-8 or percent-encoded UTF-8") from None
        if "\0" in text and name not in (
            TOPIC.name,
            TOPIC_FILTER.name,
        ):  # No name in MQTT has one [MQTT-1.5.4-2]; topics have rules of their own.
            raise BadParameter(f"{name}: expected text without U+0000")
        return text


_request_numbers = count()


def make_request_id() -> int:
    """A number that no other request of this process has: milliseconds of the epoch, then a counter of 16 bits."""
    return (time_ns() // 1_000_000 << 16) | (next(_request_numbers) & 0xFFFF)
