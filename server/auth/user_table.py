"""The users of the admin database as authenticator: user name `tenant/user`, and a password or SCRAM.

Users who come are kept in memory for a while, so that a storm of devices is not a storm of queries: those who were
right a moment ago are known within microseconds. A change of a user through Users is seen at once, one that somebody
made in the file itself at SIGHUP.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode

from .authenticator import Admitted, Decision, Refused
from .chain import BAD_CREDENTIALS, NOT_MINE, NotMine
from .passwords import PasswordVerifier
from .scram import ScramCredential, ScramUser, parse_username

if TYPE_CHECKING:  # The tables check hashes with the words of this package.
    from rookery.server.store import User, Users

DISABLED = Refused(ReasonCode.NOT_AUTHORIZED, "the user is disabled")


class KnownUsers:
    """Users of the table, those asked for last in memory."""

    def __init__(self, users: "Users", limit: int) -> None:
        self._users = users
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], User] = OrderedDict()  # the one not asked for longest first
        self._change_count = 0
        users.watchers.append(self._forget)

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, tenant_id: str, user_id: str) -> "User | None":
        """The user if he is in memory. Never blocks."""
        return self._known.get((tenant_id, user_id))

    async def find(self, tenant_id: str, user_id: str) -> "User | None":
        """The user as he is now; None when there is none. Raises StoreError."""
        key = tenant_id, user_id
        user = self._known.get(key)
        if user is None:
            before = self._change_count
            user = await self._users.find(tenant_id, user_id)
            if user is not None and self._change_count == before:  # Else he may be another one already.
                self._known[key] = user
                if len(self._known) > self._limit:
                    self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return user

    def _forget(self, tenant_id: str, user_id: str) -> None:
        self._change_count += 1
        self._known.pop((tenant_id, user_id), None)

    def forget_all(self) -> None:
        """Somebody may have changed the file."""
        self._change_count += 1
        self._known.clear()


class UserTableAuthenticator:
    """Users and passwords of the admin database."""

    leaves_lastingly = True

    def __init__(self, known: KnownUsers, verifier: PasswordVerifier) -> None:
        self._known = known
        self._verifier = verifier

    def decide(self, request: ConnectRequested) -> Decision | NotMine | None:
        """Who was right a short while ago is admitted at once; all others have to be waited for."""
        username = request.tenant_and_user
        if not username or not request.password:
            return NOT_MINE
        try:
            user = self._known.recall(*parse_username(username))
        except ValueError:
            return None  # It takes as long as a wrong password.
        if user is None or user.password_hash is None or not user.is_enabled:
            return None
        remember_s = self._verifier.remembered_for_s(user.password_hash, request.password)
        return _admitted(user, remember_s) if remember_s else None

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        """See Link. Raises StoreError."""
        username = request.tenant_and_user
        if not username or not request.password:
            return NOT_MINE
        try:
            tenant_id, user_id = parse_username(username)
        except ValueError:
            await self._verifier.verify(None, request.password)
            return NOT_MINE
        user = await self._known.find(tenant_id, user_id)
        is_right = await self._verifier.verify(None if user is None else user.password_hash, request.password)
        if user is None:
            return NOT_MINE
        # He may have been changed meanwhile: whoever was taken out, or has a new password, is not let in.
        if user.password_hash is None or not is_right or await self._known.find(tenant_id, user_id) != user:
            return BAD_CREDENTIALS
        if not user.is_enabled:
            return DISABLED
        return _admitted(user, self._verifier.remembered_for_s(user.password_hash, request.password))

    async def reload(self) -> dict[str, object]:
        """Look at the file again when users come the next time."""
        self._known.forget_all()
        return {}


class TableScramUsers:
    """The users of the table who have a credential of SCRAM."""

    def __init__(self, known: KnownUsers) -> None:
        self._known = known

    async def find(self, username: str) -> ScramUser | None:
        """See ScramUsers."""
        try:
            user = await self._known.find(*parse_username(username))
        except ValueError:
            return None
        if user is None or user.scram_credential is None or not user.is_enabled:
            return None
        credential = ScramCredential.parse(user.scram_credential)
        return ScramUser(user.tenant_id, user.user_id, credential, user.attributes)


def _admitted(user: "User", remember_s: float) -> Admitted:
    return Admitted(user.tenant_id, user.user_id, user.attributes, remember_s=remember_s)
