"""Table bans: who is not let in, whatever he knows."""

import ipaddress
import sqlite3
import time
from dataclasses import dataclass
from enum import StrEnum

from .database import Database, StoreCorrupt

BANS_LIMIT = 100_000  # of all tenants, expired ones included
EVERY_TENANT = ""


class BanKind(StrEnum):
    """What a ban is about."""

    TENANT = "tenant"
    USER = "user"
    CLIENT = "client"
    ADDRESS = "address"  # of one host, before he is asked who he is


@dataclass(frozen=True, slots=True)
class Ban:
    """One ban. Raises ValueError for one that could never hold."""

    kind: BanKind
    value: str  # the user, client identifier or address; for a tenant its name
    tenant_id: str = EVERY_TENANT  # of the user or client; else EVERY_TENANT
    reason: str = ""  # for operators; the client is not told
    expires_at_s: int | None = None  # seconds of the epoch; None = never
    created_at_s: int = 0  # seconds of the epoch, set when it is kept
    ban_id: int = 0  # set when it is kept; never given to another ban

    def __post_init__(self) -> None:
        if not self.value:
            raise ValueError(f"value: a ban of a {self.kind} names it")
        if self.kind in (BanKind.USER, BanKind.CLIENT) and not self.tenant_id:
            raise ValueError(f"tenant_id: a ban of a {self.kind} names its tenant")
        if self.kind in (BanKind.TENANT, BanKind.ADDRESS) and self.tenant_id:
            raise ValueError(f"tenant_id: a ban of a {self.kind} holds for all tenants")
        if self.kind is BanKind.ADDRESS:
            object.__setattr__(self, "value", str(ipaddress.ip_address(self.value)))

    def is_expired(self, now_s: float) -> bool:
        """Is its time over?"""
        return self.expires_at_s is not None and now_s >= self.expires_at_s


class Bans:
    """All bans. Those whose time is over go when another one is added."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Ban]:
        """All bans, expired ones included, the oldest first. Raises StoreError, as all do."""
        return await self._database.read(
            lambda connection: [_ban_of(row) for row in connection.execute("SELECT * FROM bans ORDER BY ban_id")]
        )

    async def put(self, ban: Ban) -> Ban:
        """Keep a ban, in place of one about the same; as it is kept. Raises ValueError when there are BANS_LIMIT."""
        now_s = int(time.time())

        def put(connection: sqlite3.Connection) -> Ban:
            connection.execute("DELETE FROM bans WHERE expires_at_s <= ?", (now_s,))
            connection.execute(
                "DELETE FROM bans WHERE kind = ? AND tenant_id = ? AND value = ?",
                (ban.kind.value, ban.tenant_id, ban.value),
            )
            (count,) = connection.execute("SELECT count(*) FROM bans").fetchone()
            if count >= BANS_LIMIT:
                raise ValueError(f"there are {count} bans, the limit is {BANS_LIMIT}")
            done = connection.execute(
                "INSERT INTO bans (kind, tenant_id, value, reason, created_at_s, expires_at_s) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (ban.kind.value, ban.tenant_id, ban.value, ban.reason, now_s, ban.expires_at_s),
            )
            row = connection.execute("SELECT * FROM bans WHERE ban_id = ?", (done.lastrowid,)).fetchone()
            return _ban_of(row)

        return await self._database.write(put)

    async def remove(self, ban_id: int) -> bool:
        """Lift a ban; whether it was there."""
        return await self._database.write(
            lambda connection: connection.execute("DELETE FROM bans WHERE ban_id = ?", (ban_id,)).rowcount > 0
        )


def _ban_of(row: sqlite3.Row) -> Ban:
    try:
        return Ban(
            BanKind(row["kind"]),
            row["value"],
            row["tenant_id"],
            row["reason"],
            row["expires_at_s"],
            row["created_at_s"],
            row["ban_id"],
        )
    except ValueError as error:
        raise StoreCorrupt(f"bans: ban {row['ban_id']}: {error}") from error
