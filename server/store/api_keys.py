"""Table api_keys: who may call the HTTP API. Of a key only a digest is kept: it is random, so nobody can guess it."""

import hashlib
import secrets
import sqlite3
import time
from dataclasses import dataclass, field

from .database import Database

PREFIX = "rookery_"  # so that a key that leaked is known for one
KEY_SIZE = 32  # random bytes


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key."""

    key_id: str  # names it; no secret
    name: str  # for people
    role: str
    tenant_id: str | None  # the only tenant that it is good for; None = all
    created_at_s: int  # seconds of the epoch
    expires_at_s: int | None  # seconds of the epoch; None = never
    digest: bytes = field(repr=False)

    def is_expired(self, now_s: float) -> bool:
        """Is its time over?"""
        return self.expires_at_s is not None and now_s >= self.expires_at_s


def digest_of(key: str) -> bytes:
    """What is kept of a key: SHA-256. Nothing slow, because a key has 256 random bits."""
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """The keys of the HTTP API."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, name: str, *, role: str, tenant_id: str | None = None, expires_at_s: int | None = None
    ) -> tuple[str, ApiKey]:
        """A new key, and what is kept of it: the key itself can be had only now. Raises StoreError, as all do."""
        key = PREFIX + secrets.token_urlsafe(KEY_SIZE)
        api_key = ApiKey(
            secrets.token_hex(8), name, role, tenant_id, int(time.time()), expires_at_s, digest=digest_of(key)
        )

        def create(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO api_keys (key_id, name, digest, role, tenant_id, created_at_s, expires_at_s) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    api_key.key_id,
                    name,
                    api_key.digest,
                    role,
                    tenant_id,
                    api_key.created_at_s,
                    expires_at_s,
                ),
            )

        await self._database.write(create)
        return key, api_key

    async def find(self, key: str) -> ApiKey | None:
        """What is known of a key that a caller has; None when it is none. It may have expired."""
        digest = digest_of(key)

        def find(connection: sqlite3.Connection) -> ApiKey | None:
            row = connection.execute("SELECT * FROM api_keys WHERE digest = ?", (digest,)).fetchone()
            return None if row is None else _key_of(row)

        return await self._database.read(find)

    async def all(self) -> list[ApiKey]:
        """All keys, the oldest first."""
        return await self._database.read(
            lambda connection: [
                _key_of(row) for row in connection.execute("SELECT * FROM api_keys ORDER BY created_at_s, key_id")
            ]
        )

    async def remove(self, key_id: str) -> bool:
        """Take a key out; whether it was there."""
        return await self._database.write(
            lambda connection: connection.execute("DELETE FROM api_keys WHERE key_id = ?", (key_id,)).rowcount > 0
        )


def _key_of(row: sqlite3.Row) -> ApiKey:
    return ApiKey(
        row["key_id"],
        row["name"],
        row["role"],
        row["tenant_id"],
        row["created_at_s"],
        row["expires_at_s"],
        digest=row["digest"],
    )
