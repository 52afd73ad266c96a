"""One face for MQTT client libraries that were written by strangers.

The facts in test_*.py are stated once and hold for every library and version. An adapter translates the few words
below into its library's own, as a user of that library would write it, and adds nothing: the library decides what
goes over the wire. All calls wait, up to a deadline, until the library says that it is done.
"""

import queue
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from support.process import Address

DEADLINE_S: Final = 10.0
MQTT_3_1_1: Final = 4
MQTT_5_0: Final = 5


@dataclass(frozen=True, kw_only=True)
class Message:
    """An Application Message as a library takes it and hands it out. Everything below retain is of 5.0."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    subscription_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tls:
    """PEM files."""

    authority_file: str
    certificate_file: str  # with its key


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to connect."""

    address: Address
    version: int
    websocket_path: str | None = None  # MQTT over WebSocket there instead of TCP
    tls: Tls | None = None
    client_id: str
    clean_start: bool = True
    session_expiry_interval: int | None = None  # seconds; 5.0 only
    keep_alive: int = 60
    username: str | None = None
    will: Message | None = None
    will_delay_interval: int | None = None  # seconds; 5.0 only


class Refused(Exception):
    """The broker did not accept the connection."""


@dataclass(frozen=True)
class Closed:
    """The connection has ended; reason_code is that of the broker's DISCONNECT, if there was one."""

    reason_code: int | None = None


@dataclass
class Mailbox:
    """What a library has handed out from threads of its own, in its order."""

    _arrived: "queue.Queue[Message | Closed]" = field(default_factory=queue.Queue)

    def put(self, arrived: Message | Closed) -> None:
        self._arrived.put(arrived)

    def receive(self) -> Message:
        arrived = self._next()
        assert isinstance(arrived, Message), f"expected a message: {arrived}"
        return arrived

    def expect_closed(self) -> int | None:
        arrived = self._next()
        assert isinstance(arrived, Closed), f"expected the end of the connection: {arrived}"
        return arrived.reason_code

    def _next(self) -> Message | Closed:
        try:
            return self._arrived.get(timeout=DEADLINE_S)
        except queue.Empty:
            raise AssertionError(f"nothing arrived within {DEADLINE_S:g} s") from None


class Stranger(ABC):
    """One connection of a foreign library. The constructor connects or raises Refused."""

    session_present: bool

    @abstractmethod
    def __init__(self, options: Options) -> None: ...

    @abstractmethod
    def subscribe(self, topic_filter: str, qos: int = 0, *, subscription_id: int | None = None) -> int:
        """The reason code of the SUBACK: the granted QoS, or a failure from 0x80."""

    @abstractmethod
    def unsubscribe(self, topic_filter: str) -> None: ...

    @abstractmethod
    def publish(self, *messages: Message) -> None:
        """Hand all messages to the library at once; every handshake is complete on return."""

    @abstractmethod
    def receive(self) -> Message:
        """The next message."""

    @abstractmethod
    def expect_closed(self) -> int | None:
        """The broker ends the connection; the reason code of its DISCONNECT, None if it sent none."""

    @abstractmethod
    def disconnect(self) -> None:
        """Say goodbye and close. Does nothing on a connection that has ended."""

    @abstractmethod
    def drop(self) -> None:
        """Break the connection without a DISCONNECT."""

    def receive_payloads(self, count: int) -> list[bytes]:
        return [self.receive().payload for _ in range(count)]


# What the fixture `connect` gives to a test, and for which versions the test runs if not for both.
Connect = Callable[..., Stranger]
only_3_1_1 = pytest.mark.parametrize("version", [MQTT_3_1_1], ids=["3.1.1"])
only_5_0 = pytest.mark.parametrize("version", [MQTT_5_0], ids=["5.0"])
