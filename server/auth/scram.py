"""SCRAM-SHA-256 (RFC 5802, RFC 7677) over AUTH packets: the server never learns the password, nor keeps it.

    CONNECT  method SCRAM-SHA-256, data client-first   n,,n=acme/bob,r=...
    AUTH     0x18, data server-first                   r=...,s=salt,i=iterations
    AUTH     0x18, data client-final                   c=biws,r=...,p=proof
    CONNACK  0x00, data server-final                   v=signature: the server knows the stored credential, too

The user name of the message names tenant and user as `tenant/user`. A name that nobody has gets a salt of its own, the
same each time, and fails like a wrong password: an exchange does not tell who exists. Channel binding (-PLUS) is not
offered.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scramp import ScramException, ScramMechanism

from rookery.core.events import ConnectRequested, ReauthenticationRequested
from rookery.core.wire.spec import ReasonCode

from .authenticator import Admitted, Challenge, Decision, Refused

METHOD = "SCRAM-SHA-256"
# Of new credentials: the least that RFC 7677 allows, because the client pays for it, and clients are small devices.
DEFAULT_ITERATIONS = 4096
ITERATIONS_MAXIMUM = 10_000_000
SALT_SIZE = 16  # bytes of new credentials
SALT_SIZE_MINIMUM = 12
KEY_SIZE = 32  # bytes: SHA-256
MESSAGE_SIZE_MAXIMUM = 2048  # bytes of a client's message; preparing a name costs more than its length

_MALFORMED = Refused(ReasonCode.NOT_AUTHORIZED, "this is no SCRAM message")
_LINE = re.compile(r"SCRAM-SHA-256\$(\d{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class ScramCredential:
    """What is stored of a password: enough to check it, not enough to log in with it, unlike the password itself."""

    salt: bytes = field(repr=False)  # at least SALT_SIZE_MINIMUM bytes
    iterations: int  # DEFAULT_ITERATIONS to ITERATIONS_MAXIMUM
    stored_key: bytes = field(repr=False)  # KEY_SIZE bytes
    server_key: bytes = field(repr=False)  # KEY_SIZE bytes

    def __post_init__(self) -> None:
        if len(self.salt) < SALT_SIZE_MINIMUM:
            raise ValueError(f"the salt has {len(self.salt)} bytes, at least {SALT_SIZE_MINIMUM} are needed")
        if not DEFAULT_ITERATIONS <= self.iterations <= ITERATIONS_MAXIMUM:
            raise ValueError(
                f"{self.iterations} iterations are out of range; valid is {DEFAULT_ITERATIONS} to {ITERATIONS_MAXIMUM}"
            )
        for key in (self.stored_key, self.server_key):
            if len(key) != KEY_SIZE:
                raise ValueError(f"a key has {len(key)} bytes, SHA-256 gives {KEY_SIZE}")

    @classmethod
    def of_password(
        cls, password: str, *, iterations: int = DEFAULT_ITERATIONS, salt: bytes | None = None
    ) -> "ScramCredential":
        """The credential of a password, with a random salt unless one is given.

        Takes a millisecond or more of CPU time per 4096 iterations. Raises ValueError for a password that SASLprep
        (RFC 4013) does not allow, and for numbers out of range.
        """
        if iterations < DEFAULT_ITERATIONS or iterations > ITERATIONS_MAXIMUM:
            raise ValueError(
                f"{iterations} iterations are out of range; valid is {DEFAULT_ITERATIONS} to {ITERATIONS_MAXIMUM}"
            )
        if not password:
            raise ValueError("the password is empty")
        try:
            made = ScramMechanism(METHOD).make_auth_info(password, iteration_count=iterations, salt=salt)
        except ScramException as error:
            raise ValueError(f"the password cannot be used: {error.args[0]}") from None
        made_salt, stored_key, server_key, made_iterations = made
        return cls(made_salt, made_iterations, stored_key, server_key)

    @classmethod
    def parse(cls, line: str) -> "ScramCredential":
        """The credential of `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as PostgreSQL writes it.

        Raises ValueError, whose message does not hold the line.
        """
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError("expected SCRAM-SHA-256$iterations:salt$stored key:server key, the last three in base64")
        try:
            salt, stored_key, server_key = (base64.b64decode(found[index], validate=True) for index in (2, 3, 4))
        except ValueError:
            raise ValueError("salt or keys are not base64") from None
        return cls(salt, int(found[1]), stored_key, server_key)

    def print(self) -> str:
        """The line that parse reads."""
        salt, stored_key, server_key = (
            base64.b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"{METHOD}${self.iterations}:{salt}${stored_key}:{server_key}"


@dataclass(frozen=True, slots=True)
class ScramUser:
    """Who a user name stands for, and how he proves it."""

    tenant_id: str
    user_id: str
    credential: ScramCredential
    attributes: Mapping[str, str] = field(default_factory=dict)  # as those of Admitted


class ScramUsers(Protocol):
    """Where credentials are kept: the configuration, a table."""

    async def find(self, username: str) -> ScramUser | None:
        """The user of this name, which SASLprep has prepared (RFC 4013); None when nobody has it.

        May await. An error refuses the client.
        """
        ...


class ConfiguredUsers:
    """The users of section `[scram]`: `tenant/user` -> line of a credential."""

    def __init__(self, lines: Mapping[str, str]) -> None:
        self._users: dict[str, ScramUser] = {}
        for username, line in lines.items():
            tenant_id, user_id = parse_username(username)
            self._users[username] = ScramUser(tenant_id, user_id, ScramCredential.parse(line))

    async def find(self, username: str) -> ScramUser | None:
        return self._users.get(username)


def parse_username(username: str) -> tuple[str, str]:
    """Tenant and user of `tenant/user`. Raises ValueError for any other form."""
    tenant_id, _, user_id = username.partition("/")
    if not tenant_id or not user_id or "/" in user_id:
        raise ValueError("expected tenant/user")
    return tenant_id, user_id


class ScramAuthenticator:
    """An EnhancedAuthenticator for SCRAM-SHA-256.

    decoy_secret makes the salts of names that nobody has. Keep it, and keep it secret: where it changes while true
    salts stay, or is known, the salts tell who exists.
    """

    methods = (METHOD,)

    def __init__(self, users: ScramUsers, *, decoy_secret: bytes) -> None:
        self._users = users
        self._decoy_secret = decoy_secret

    async def exchange(self, request: ConnectRequested | ReauthenticationRequested, challenge: Challenge) -> Decision:
        """See EnhancedAuthenticator."""
        first = request.authentication_data
        if first is None:
            first = await challenge(None)  # A client may begin without data: it is asked for it then.
        client_first = _text_of(first)
        username = None if client_first is None else _username_of(client_first)
        if client_first is None or username is None:
            return _MALFORMED
        user = await self._users.find(username)
        credential = self._decoy(username) if user is None else user.credential
        server = ScramMechanism(METHOD).make_server(
            lambda _: (credential.salt, credential.stored_key, credential.server_key, credential.iterations)
        )
        server.set_client_first(client_first)
        client_final = _text_of(await challenge(server.get_server_first().encode()))
        if client_final is None:
            return _MALFORMED
        try:
            server.set_client_final(client_final)
        except ScramException:
            return _refused(username)
        if user is None:  # Nobody finds the key of a decoy; and if somebody did, he would be nobody.
            return _refused(username)
        server_final = server.get_server_final().encode()
        return Admitted(user.tenant_id, user.user_id, user.attributes, authentication_data=server_final)

    def _decoy(self, username: str) -> ScramCredential:
        made = hmac.digest(self._decoy_secret, username.encode(), hashlib.sha512)
        return ScramCredential(made[:SALT_SIZE], DEFAULT_ITERATIONS, made[:KEY_SIZE], made[KEY_SIZE:])


def _refused(username: str) -> Refused:
    return Refused(ReasonCode.NOT_AUTHORIZED, "wrong user name or password", is_guess=True, username=username)


def _text_of(message: bytes | None) -> str | None:
    """The text of a message; None when it is none, or larger than any that is meant."""
    if message is None or len(message) > MESSAGE_SIZE_MAXIMUM:
        return None
    try:
        return message.decode()
    except UnicodeDecodeError:
        return None


def _username_of(client_first: str) -> str | None:
    """Who wants to log in; None when the message is no client-first that can be answered."""
    asked: list[str] = []
    # append returns None: the library takes the name for unknown and stops there.
    server = ScramMechanism(METHOD).make_server(asked.append)
    try:
        server.set_client_first(client_first)
    except ScramException:
        return asked[0] if asked else None
    raise AssertionError("an unknown user was accepted")
