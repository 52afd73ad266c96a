from collections.abc import Iterable

from .outcome import Counts
from .plan import Plan, Traffic

class Load:
    """The clients of a plan, connected to one broker, driven by the thread that calls the methods.

    A run: connect, subscribe, start, run, mark, run, stop, drain, check, close. Every method that talks to the broker
    releases the GIL, handles all connections until it returns, and raises LoadError when the broker refuses, closes a
    connection or breaks the protocol. `clients` are indexes into the plan; without them all clients are meant.
    """

    def __init__(self, host: str, port: int, plan: Plan, traffic: Traffic) -> None:
        """Lay out connections and flows; nothing is sent yet. host is an IPv4 address or resolves to one."""

    # Orders, each of which waits until every client has its answer.

    def connect(
        self,
        clients: Iterable[int] | None = None,
        *,
        is_clean: bool = True,
        in_flight: int = 64,
        timeout_s: float = 60,
    ) -> None:
        """Connect those that are not; in_flight are made at a time."""

    def disconnect(self, clients: Iterable[int] | None = None, *, timeout_s: float = 60) -> None:
        """Send DISCONNECT and wait for the broker's end of the stream. Books and sessions go on."""

    def subscribe(self, clients: Iterable[int] | None = None, *, timeout_s: float = 60) -> None:
        """Subscribe to the filters of the plan, except those of clients that fetch retained messages."""

    def retain(self, *, timeout_s: float = 120) -> None:
        """Publish the retained messages of the plan, QoS 1, until all are acknowledged."""

    def fetch(self, *, timeout_s: float = 60) -> float:
        """Subscribe the fetching client, anew if it was; seconds until it had every retained message once.

        Other clients go on publishing meanwhile.
        """

    def forget_retained(self, *, timeout_s: float = 60) -> None:
        """Clear the retained messages of the plan, for a broker that lives on."""

    # The measured part.

    def start(self, *, rate: float = 0, messages: int | None = None) -> None:
        """Let publishers publish in the following calls.

        rate: messages per second of all publishers together, in turn, on a schedule that does not wait (open loop);
        0: as fast as the window allows (closed loop). messages: how many each publisher sends; None: until stop().
        """

    def run(self, seconds: float) -> None:
        """Go on for so long."""

    def publish_all(self, *, timeout_s: float = 60) -> None:
        """Go on until every publisher sent its messages and all its handshakes are complete."""

    def mark(self) -> Counts:
        """Here the steady part begins: latency is that of messages sent from now on."""

    def stop(self) -> None:
        """Publish nothing more."""

    def drain(self, *, silence_s: float = 5, timeout_s: float = 60) -> bool:
        """Wait for the last message and the last handshake; False if the broker fell silent before."""

    def ping(self, per_second: float) -> None:
        """Send so many PINGREQ per second from now on, from each client in turn; 0: none."""

    def churn(self, seconds: float, *, in_flight: int = 64) -> None:
        """Connect, get CONNACK, disconnect, wait for the end, again; in_flight at a time, at most the plan's clients.

        Latency is then the time from connect() to CONNACK.
        """

    def check(self) -> None:
        """Raise InvalidRun if anything was lost, doubled, reordered or damaged; call it after drain()."""

    def close(self) -> None:
        """Close all connections at once, without DISCONNECT."""

    # What was seen.

    @property
    def counts(self) -> Counts: ...
    def latency_ns(self, percent: float) -> int:
        """The latency that percent (0 to 100) of the messages sent since mark() did not exceed."""

    @property
    def latency_count(self) -> int: ...
