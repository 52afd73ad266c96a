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

    tenant_id: str | None = None  # see ConnectRequested
    certificate: bytes | None = None  # DER of the client's, until its CONNECT was asked about
    certificate_name: str | None = None  # the common name of one, which a proxy has told
    admitted: Admitted | None = None  # it is the broker's own, and let in as this without being asked


class Arrivals:
    """All of them, by ticket."""

    def __init__(self, tenant_of_listener: Callable[[int], str | None] = lambda listener_id: None) -> None:
        self._arrivals: dict[int, Arrival] = {}
        self._tickets = itertools.count(1)
        self._tenant_of_listener = tenant_of_listener  # whose connections the shards accept themselves

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
            tenant_id = self._tenant_of_listener(request.listener_id)
            return request if tenant_id is None else replace(request, tenant_id=tenant_id)
        certificate, arrival.certificate = arrival.certificate, None
        return replace(
            request,
            tenant_id=arrival.tenant_id,
            certificate=certificate,
            certificate_name=arrival.certificate_name,
        )

    def insider(self, request: ConnectRequested) -> Admitted | None:
        """As whom the connection is let in when it is the broker's own; None: it is a client's."""
        arrival = self._arrivals.get(request.ticket)
        return None if arrival is None else arrival.admitted

    def close(self, ticket: int) -> None:
        """The connection is gone."""
        self._arrivals.pop(ticket, None)
