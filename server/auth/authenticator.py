"""The contract between admission and whoever decides about clients.

    CONNECT without a method -> Authenticator.authenticate ----------------------------> Admitted or Refused
    CONNECT with a method ----> EnhancedAuthenticator.exchange <-> challenge, answer --> Admitted or Refused
    AUTH 0x19, connected -----> EnhancedAuthenticator.exchange <-> challenge, answer --> Admitted or Refused

Nobody is ever let in by a failure: an error, a decision that is none and one that does not come in time refuse.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rookery.core.events import ConnectRequested, ReauthenticationRequested
from rookery.core.permissions.rule_set import Permissions
from rookery.core.wire.spec import ReasonCode

LIFETIME_MAXIMUM_S = 100 * 365 * 24 * 3600.0  # a hundred years; what is later is never

UserProperties = tuple[tuple[str, str], ...]  # in order and with repeats


@dataclass(frozen=True, slots=True)
class Admitted:
    """The client is this user of this tenant."""

    tenant_id: str
    user_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)  # shown beside the session: GET /session, events
    permissions: Permissions | None = None  # compiled once, shared by many; None = the permission source decides
    expires_at_s: float | None = None  # seconds of the epoch: the connection ends then; None = never
    # Come behind those of each message that it publishes, its will included; 4096 bytes in all.
    message_user_properties: UserProperties = ()
    # How long whoever comes to the same listener with the same user name and password is let in like this client, by
    # the core and without asking. A change of users, rules or bans and a reload end it. 0 = each is asked about.
    remember_s: float = field(default=0.0, compare=False)
    # All below is told to clients of 5.0 only.
    response_information: str = ""  # to one that asks for it: where its response topics begin [MQTT5 3.2.2.3.15]
    reason_string: str = ""
    user_properties: UserProperties = ()
    authentication_data: bytes | None = None  # the last word of an enhanced authentication

    def lifetime_ms(self, now_s: float) -> int:
        """How long the connection may last, as Engine.admit takes it: 0 = for ever. At least a millisecond."""
        if self.expires_at_s is None:
            return 0
        return max(1, round(min(self.expires_at_s - now_s, LIFETIME_MAXIMUM_S) * 1000))

    @property
    def holds_for_others(self) -> bool:
        """Does it say so, and nothing of this one client?"""
        return self.remember_s > 0 and self.expires_at_s is None and self.authentication_data is None


@dataclass(frozen=True, slots=True)
class Refused:
    """The client must go; what it is told."""

    reason_code: ReasonCode  # of 5.0; the core tells clients of 3.x the nearest that they know
    reason_string: str = ""  # told to clients of 5.0, so nothing that helps to guess a password
    user_properties: UserProperties = ()  # told to clients of 5.0
    is_guess: bool = False  # credentials were wrong: slowed, as BAD_USER_NAME_OR_PASSWORD always is
    username: str = ""  # whose, where CONNECT does not say it
    server_reference: str = ""  # where to go instead; with USE_ANOTHER_SERVER and SERVER_MOVED, to clients of 5.0


Decision = Admitted | Refused


@runtime_checkable
class Authenticator(Protocol):
    """Decides who a client is. A plain class with this method will do."""

    async def authenticate(self, request: ConnectRequested) -> Decision:
        """Decide. May await; many run at once. Cancelled when authentication.timeout_s has passed."""
        ...


@runtime_checkable
class ImmediateAuthenticator(Authenticator, Protocol):
    """An authenticator that can often decide at once, which spares a task per CONNECT."""

    def decide(self, request: ConnectRequested) -> Decision | None:
        """The decision where it needs no waiting, else None: authenticate is asked then. Never blocks."""
        ...


class Challenge(Protocol):
    """Asks the client of one exchange for more."""

    async def __call__(
        self, data: bytes | None, *, reason_string: str = "", user_properties: UserProperties = ()
    ) -> bytes | None:
        """Send AUTH with this authentication data, at most 65535 bytes; the data of the client's answer.

        Cancelled when the client has gone or takes longer than authentication.timeout_s.
        """
        ...


@runtime_checkable
class EnhancedAuthenticator(Protocol):
    """Decides who a client is in an exchange of AUTH packets [MQTT5 4.12]; beside an Authenticator or as one, too.

    It is asked only about clients whose CONNECT names one of its methods. A re-authentication must come to the same
    tenant and user as the client has; of its Admitted only the authentication data, the reason string and the user
    properties are used. A Refused ends the connection.
    """

    @property
    def methods(self) -> Collection[str]:
        """The authentication methods that it knows, as CONNECT names them: `SCRAM-SHA-256`."""
        ...

    async def exchange(self, request: ConnectRequested | ReauthenticationRequested, challenge: Challenge) -> Decision:
        """Decide, with as many challenges as it takes; the client's first data is request.authentication_data.

        May await; many run at once. Cancelled when the client has gone or when a wait for the client or the time
        between two challenges exceeds authentication.timeout_s.
        """
        ...
