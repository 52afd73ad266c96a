"""Table users: who has which password, as hashes."""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rookery.server.auth.passwords import check_hash
from rookery.server.auth.scram import ScramCredential

from .database import Database, StoreCorrupt

NAME_SIZE_MAXIMUM = 65535  # bytes: the longest string that MQTT carries
ATTRIBUTES_SIZE_MAXIMUM = 16_384  # bytes as JSON: they are kept beside every session


@dataclass(frozen=True, slots=True)
class User:
    """A user of a tenant. Raises ValueError for names that no client could send, and for hashes of another kind."""

    tenant_id: str  # without "/", as in the user name `tenant/user`
    user_id: str
    password_hash: str | None = field(default=None, repr=False)  # Argon2id; None = no password lets him in
    scram_credential: str | None = field(default=None, repr=False)  # line of a credential; None = no SCRAM
    attributes: Mapping[str, str] = field(default_factory=dict)  # shown beside his sessions
    is_enabled: bool = True  # False: nothing lets him in
    changed_at_s: int = 0  # seconds of the epoch, set when he is kept

    def __post_init__(self) -> None:
        for name, value in (("tenant_id", self.tenant_id), ("user_id", self.user_id)):
            check_name(name, value)
        if self.password_hash is not None:
            check_hash(self.password_hash)
        if self.scram_credential is not None:
            ScramCredential.parse(self.scram_credential)
        for key, value in self.attributes.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ValueError(f"attribute {key!r} is not text")
        size = len(json.dumps(dict(self.attributes)))
        if size > ATTRIBUTES_SIZE_MAXIMUM:
            raise ValueError(f"the attributes take {size} bytes, the limit is {ATTRIBUTES_SIZE_MAXIMUM}")


def check_name(what: str, value: str) -> None:
    """Raise ValueError unless this can be a tenant or a user of `tenant/user`."""
    if not value:
        raise ValueError(f"{what} is empty")
    if "/" in value or "\0" in value:
        raise ValueError(f"{what} is {value!r}, it may hold neither / nor U+0000")
    size = len(value.encode())
    if size > NAME_SIZE_MAXIMUM:
        raise ValueError(f"{what} has {size} bytes, the limit is {NAME_SIZE_MAXIMUM}")


class Users:
    """The users of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.watchers: list[Callable[[str, str], None]] = []  # told tenant and user of each change, once it is kept

    async def find(self, tenant_id: str, user_id: str) -> User | None:
        """This user; None when there is none. Raises StoreError, as all do."""

        def find(connection: sqlite3.Connection) -> User | None:
            row = connection.execute(
                "SELECT * FROM users WHERE tenant_id = ? AND user_id = ?", (tenant_id, user_id)
            ).fetchone()
            return None if row is None else _user_of(row)

        return await self._database.read(find)

    async def page(self, tenant_id: str, *, after: str = "", limit: int = 100) -> list[User]:
        """Users of a tenant by name, those behind the name after, limit at most."""
        return await self._database.read(
            lambda connection: [
                _user_of(row)
                for row in connection.execute(
                    "SELECT * FROM users WHERE tenant_id = ? AND user_id > ? ORDER BY user_id LIMIT ?",
                    (tenant_id, after, limit),
                )
            ]
        )

    async def count(self) -> int:
        """Users of all tenants."""
        return await self._database.read(
            lambda connection: int(connection.execute("SELECT count(*) FROM users").fetchone()[0])
        )

    async def put(self, *users: User) -> None:
        """Keep users, all or none, each in place of one of his names."""
        now_s = int(time.time())

        def put(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        user.tenant_id,
                        user.user_id,
                        user.password_hash,
                        user.scram_credential,
                        json.dumps(dict(user.attributes)),
                        user.is_enabled,
                        now_s,
                    )
                    for user in users
                ],
            )

        await self._database.write(put)
        for user in users:
            self.tell(user.tenant_id, user.user_id)

    async def remove(self, tenant_id: str, user_id: str) -> bool:
        """Take a user out; whether he was there."""

        def remove(connection: sqlite3.Connection) -> bool:
            done = connection.execute("DELETE FROM users WHERE tenant_id = ? AND user_id = ?", (tenant_id, user_id))
            return done.rowcount > 0

        is_removed = await self._database.write(remove)
        self.tell(tenant_id, user_id)
        return is_removed

    def tell(self, tenant_id: str, user_id: str) -> None:
        """Have the watchers know that a user has changed."""
        for watcher in self.watchers:
            watcher(tenant_id, user_id)


def _user_of(row: sqlite3.Row) -> User:
    try:
        return User(
            row["tenant_id"],
            row["user_id"],
            row["password_hash"],
            row["scram_credential"],
            json.loads(row["attributes"]),
            bool(row["is_enabled"]),
            row["changed_at_s"],
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(f"users: {row['tenant_id']}/{row['user_id']}: {error}") from error
