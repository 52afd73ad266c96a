"""Bans in force: kept in the admin database, looked up in memory for each CONNECT.

An address is looked up before its client is asked who it is; tenant, user and client identifier once that is known.
Whoever is connected stays: disconnect him, too.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable

import trio

from rookery.core.wire.spec import ReasonCode

from .auth.authenticator import Admitted, Refused
from .auth.penalties import host_of
from .store import Ban, BanKind, Bans

BANNED = Refused(ReasonCode.BANNED, "banned")

_Key = tuple[BanKind, str, str]  # kind, tenant, value


class PersistentBans:
    """All bans, and whom they hold for."""

    def __init__(self, table: Bans, on_change: Callable[[], None] = lambda: None) -> None:
        self._table = table
        self._on_change = on_change  # after each, when it is in force
        self._in_force: dict[_Key, Ban] = {}
        self._numbers: list[Ban] = []  # the same by number
        self._last_expires_at_s = 0.0  # seconds of the epoch
        self._changing = trio.Lock()  # What is kept and what is in force must come in the same order.

    def __len__(self) -> int:
        return len(self._in_force)

    async def reload(self) -> dict[str, object]:
        """Read all again. Raises StoreError; those in force stay then."""
        async with self._changing:
            await self._put_in_force()
        return {"bans": len(self)}

    async def all(self) -> list[Ban]:
        """All bans, expired ones included, the oldest first. Raises StoreError, as all do."""
        return await self._table.all()

    def page(self, *, after: int, limit: int, tenant_id: str | None = None) -> list[Ban]:
        """Bans in force or expired, the oldest first, behind that number; tenant_id: about users and clients of it."""
        numbers = self._numbers
        found: list[Ban] = []
        first = bisect_right(numbers, after, key=lambda ban: ban.ban_id)
        for place in range(first, len(numbers)):
            ban = numbers[place]
            if tenant_id is None or ban.tenant_id == tenant_id:
                found.append(ban)
                if len(found) >= limit:
                    break
        return found

    async def put(self, ban: Ban) -> Ban:
        """Ban, in place of an earlier ban about the same; as it is kept. Raises ValueError when there are too many."""
        async with self._changing:
            kept = await self._table.put(ban)
            await self._put_in_force()
            return kept

    async def remove(self, ban_id: int) -> bool:
        """Lift a ban; whether it was there."""
        async with self._changing:
            is_removed = await self._table.remove(ban_id)
            await self._put_in_force()
            return is_removed

    async def _put_in_force(self) -> None:
        with trio.CancelScope(shield=True):  # What is kept has to be in force, too.
            self._numbers = await self._table.all()
            self._in_force = {(ban.kind, ban.tenant_id, ban.value): ban for ban in self._numbers}
            ends = (math.inf if ban.expires_at_s is None else ban.expires_at_s for ban in self._numbers)
            self._last_expires_at_s = max(ends, default=0.0)
            self._on_change()

    def are_any(self) -> bool:
        """Is there one that holds? Never blocks, as below."""
        return time.time() < self._last_expires_at_s

    def holds_for_address(self, peer: str) -> bool:
        """Is the host of "host:port" banned?"""
        return bool(self._in_force) and self._holds(BanKind.ADDRESS, "", host_of(peer))

    def holds_for(self, admitted: Admitted, client_id: str) -> bool:
        """Is this client banned, or its user or tenant? client_id is empty when the server chooses it."""
        if not self._in_force:
            return False
        return (
            self._holds(BanKind.TENANT, "", admitted.tenant_id)
            or self._holds(BanKind.USER, admitted.tenant_id, admitted.user_id)
            or self._holds(BanKind.CLIENT, admitted.tenant_id, client_id)
        )

    def _holds(self, kind: BanKind, tenant_id: str, value: str) -> bool:
        ban = self._in_force.get((kind, tenant_id, value))
        return ban is not None and not ban.is_expired(time.time())
