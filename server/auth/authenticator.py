"""The contract between admission and whoever decides about clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode


@dataclass(frozen=True, slots=True)
class Admitted:
    """The client is this user of this tenant."""

    tenant_id: str
    user_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)  # shown beside the session: GET /session, events


@dataclass(frozen=True, slots=True)
class Refused:
    """The client must go; what it is told."""

    reason_code: ReasonCode  # of 5.0; the core tells clients of 3.x the nearest that they know
    reason_string: str = ""  # told to clients of 5.0, so nothing that helps to guess a password


Decision = Admitted | Refused


class Authenticator(Protocol):
    """Decides who a client is. A plain class with this method will do.

    An error and a decision that does not come in time refuse the client: nobody is ever let in by a failure.
    """

    async def authenticate(self, request: ConnectRequested) -> Decision:
        """Decide. May await; many run at once. Cancelled when authentication.timeout_s has passed."""
        ...


@runtime_checkable
class ImmediateAuthenticator(Authenticator, Protocol):
    """An authenticator that can often decide at once, which spares a task per CONNECT."""

    def decide(self, request: ConnectRequested) -> Decision | None:
        """The decision where it needs no waiting, else None: authenticate is asked then. Never blocks."""
        ...
