"""Users of the admin database as administrators change them: with passwords, of which only hashes are kept."""

from collections.abc import Mapping
from dataclasses import replace

import trio

from rookery.server.store import User, Users

from .passwords import PasswordVerifier
from .scram import ScramCredential


class Accounts:
    """The users of all tenants. Whoever is connected stays when his user changes: disconnect him, if he must go."""

    def __init__(self, users: Users, verifier: PasswordVerifier) -> None:
        self._users = users
        self._verifier = verifier

    async def find(self, tenant_id: str, user_id: str) -> User | None:
        """This user; None when there is none. Raises StoreError, as all do."""
        return await self._users.find(tenant_id, user_id)

    async def page(self, tenant_id: str, *, after: str = "", limit: int = 100) -> list[User]:
        """Users of a tenant by name, those behind the name after, limit at most."""
        return await self._users.page(tenant_id, after=after, limit=limit)

    async def put(
        self,
        tenant_id: str,
        user_id: str,
        *,
        password: str | None = None,
        attributes: Mapping[str, str] | None = None,
        is_enabled: bool | None = None,
    ) -> User:
        """Make a user, or change what is given of one; the user as he is kept.

        A password lets him in by CONNECT and by SCRAM-SHA-256. Takes some 30 ms of a thread then. Raises ValueError
        for a name or a password that cannot be.
        """
        user = await self._users.find(tenant_id, user_id) or User(tenant_id, user_id)
        if attributes is not None:
            user = replace(user, attributes=dict(attributes))
        if is_enabled is not None:
            user = replace(user, is_enabled=is_enabled)
        if password is not None:
            hash_line = await self._verifier.hash(password)
            credential = await trio.to_thread.run_sync(_scram_of, password)
            user = replace(user, password_hash=hash_line, scram_credential=credential)
        await self._users.put(user)
        return user

    async def remove(self, tenant_id: str, user_id: str) -> bool:
        """Take a user out; whether he was there."""
        return await self._users.remove(tenant_id, user_id)


def _scram_of(password: str) -> str | None:
    """The line of a credential; None for a password that SCRAM does not take, but CONNECT does."""
    try:
        return ScramCredential.of_password(password).print()
    except ValueError:
        return None
