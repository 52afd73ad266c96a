"""What the control plane remembers of connections that it accepted itself, until they close.

The core knows such a connection by its ticket: it comes back in ConnectRequested and in ConnectionClosed.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from rookery.core.events import ConnectRequested

from .auth.authenticator import Admitted


@dataclass(slots=True)
class Arrival:
    """A connection that a shard serves."""

    certificate: bytes | None = None  # DER of the client's, until its CONNECT was asked about
    certificate_name: str | None = None  # the common name of one, which a proxy has told
    leave: Callable[[], None] | None = None  # called once when it closes
    admitted: Admitted | None = None  # it is the broker's own, and let in as this without being asked


class Arrivals:
    """All of them, by ticket."""

    def __init__(self) -> None:
        self._arrivals: dict[int, Arrival] = {}
        self._tickets = itertools.count(1)

    def __len__(self) -> int:
        return len(self._arrivals)

    def add(self, arrival: Arrival) -> int:
        """Its ticket, for Engine.adopt."""
        ticket = next(self._tickets)
        self._arrivals[ticket] = arrival
        return ticket

    def complete(self, request: ConnectRequested) -> ConnectRequested:
        """The request, with what is known of its connection besides."""
        arrival = self._arrivals.get(request.ticket)
        if arrival is None:
            return request
        certificate, arrival.certificate = arrival.certificate, None
        return replace(request, certificate=certificate, certificate_name=arrival.certificate_name)

    def insider(self, request: ConnectRequested) -> Admitted | None:
        """As whom the connection is let in when it is the broker's own; None: it is a client's."""
        arrival = self._arrivals.get(request.ticket)
        return None if arrival is None else arrival.admitted

    def close(self, ticket: int) -> None:
        """The connection is gone."""
        arrival = self._arrivals.pop(ticket, None)
        if arrival is not None and arrival.leave is not None:
            arrival.leave()
