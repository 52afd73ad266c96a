"""Slow answers for those who guess: each wrong password of an address or of a user makes the next answer later.

Only refusals wait. Whoever has the right password is let in at once, whatever others tried from his address or by his
name. What is kept is bounded: the oldest address or user is forgotten when the table is full.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode

from .authenticator import Decision, Refused

FREE_FAILURES = 3  # A person mistypes, a device is set up wrong: these are answered at once.
FIRST_DELAY_S = 0.25  # of the failure after those; each that follows doubles it
DELAY_MAXIMUM_S = 4.0  # less than what the shard gives a connection for its CONNECT
FORGOTTEN_AFTER_S = 60.0  # without a failure
TABLE_LIMIT = 10_000  # addresses, and users as many
WAITING_LIMIT = 4096  # refusals that wait at once; more are told at once, because each holds a connection


def host_of(peer: str) -> str:
    """The address in "host:port", IPv6 without its brackets; an IPv4 address that came as IPv6 is that of IPv4."""
    host = peer.rpartition(":")[0].removeprefix("[").removesuffix("]")
    return host.removeprefix("::ffff:") if "." in host else host


def network_of(peer: str) -> str:
    """What a stranger cannot change at will: the address, of IPv6 its first 64 bits."""
    host = host_of(peer)
    if ":" not in host:
        return host
    try:
        return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host


class FailureTable:
    """How often each of some keys failed of late."""

    def __init__(self, limit: int = TABLE_LIMIT) -> None:
        self._limit = limit
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # key -> count, last time; oldest first

    def __len__(self) -> int:
        return len(self._failures)

    def add(self, key: str) -> int:
        """One failure more; how many there are now."""
        now = trio.current_time()
        count, last = self._failures.get(key, (0, now))
        count = 1 if now - last >= FORGOTTEN_AFTER_S else count + 1
        self._failures[key] = (count, now)
        self._failures.move_to_end(key)
        if len(self._failures) > self._limit:
            self._failures.popitem(last=False)
        return count


class Penalties:
    """How long a refusal of bad credentials waits before it is told."""

    def __init__(self) -> None:
        self._addresses = FailureTable()
        self._users = FailureTable()
        self._waiting_count = 0

    def delay_of(self, request: ConnectRequested, decision: Decision) -> float:
        """Seconds that this decision waits; 0 for all but refusals of bad credentials. Counts the failure."""
        if not isinstance(decision, Refused) or not (
            decision.is_guess or decision.reason_code is ReasonCode.BAD_USER_NAME_OR_PASSWORD
        ):
            return 0.0
        count = self._addresses.add(network_of(request.peer))
        username = decision.username or request.tenant_and_user
        if username:
            count = max(count, self._users.add(username))
        if count <= FREE_FAILURES or self._waiting_count >= WAITING_LIMIT:
            return 0.0
        doublings = min(count - FREE_FAILURES - 1, 16)
        return min(FIRST_DELAY_S * 2.0**doublings, DELAY_MAXIMUM_S)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait of a refusal."""
        self._waiting_count += 1
        try:
            yield
        finally:
            self._waiting_count -= 1
