"""Rules that administrators change while the broker runs: kept in the admin database, at once in force."""

from collections.abc import Sequence

import trio

from rookery.core.permissions.rule import Rule
from rookery.server.store.rules import Rules, StoredRule

from .source import RulePermissions


class PersistentRules:
    """The rules of the database. Where permissions.database is off they are kept, but hold for nobody."""

    def __init__(self, table: Rules, permissions: RulePermissions | None) -> None:
        self._table = table
        self._permissions = permissions
        self._changing = trio.Lock()
        self._change_count = 0
        self._in_force_count = 0  # changes that the rules in force know of

    @property
    def are_in_force(self) -> bool:
        """Does the configuration ask for them?"""
        return self._permissions is not None

    async def find(self, rule_id: int) -> StoredRule | None:
        """The rule of this number. Raises StoreError, as all do."""
        return await self._table.find(rule_id)

    async def page(
        self, tenant_id: str | None, *, after: tuple[int, int] = (-(2**63), 0), limit: int = 100
    ) -> list[StoredRule]:
        """Rules of one tenant, None: those for all tenants, in order, behind the (position, rule_id) after."""
        return await self._table.page(tenant_id, after=after, limit=limit)

    async def add(self, rule: Rule, *, position: int | None = None) -> StoredRule:
        """Keep a rule, without a position behind all others; it holds when this returns. Raises InvalidRule."""
        stored = await self._table.add(rule, position=position)
        await self._put_in_force()
        return stored

    async def change(self, rule_id: int, rule: Rule, *, position: int | None = None) -> StoredRule | None:
        """Put a rule in the place of another, or at another position; None when that is not there."""
        stored = await self._table.change(rule_id, rule, position=position)
        if stored is not None:
            await self._put_in_force()
        return stored

    async def remove(self, rule_id: int) -> bool:
        """Take a rule out; whether it was there."""
        is_removed = await self._table.remove(rule_id)
        if is_removed:
            await self._put_in_force()
        return is_removed

    async def replace(self, tenant_id: str | None, rules: Sequence[Rule]) -> list[StoredRule]:
        """All rules of one tenant, None: those for all tenants. All or none. Raises InvalidRule."""
        stored = await self._table.replace(tenant_id, rules)
        await self._put_in_force()
        return stored

    async def reload(self) -> dict[str, object]:
        """Read all again: somebody may have changed the file. Raises StoreError; the rules in force stay then."""
        await self._put_in_force()
        return {"rules": 0 if self._permissions is None else self._permissions.rule_count}

    async def _put_in_force(self) -> None:
        """Return when a set that has the last change holds. Changes that come meanwhile share the next set."""
        if self._permissions is None:
            return
        self._change_count += 1
        change = self._change_count
        with trio.CancelScope(shield=True):  # What is kept has to be in force, too.
            async with self._changing:
                if self._in_force_count >= change:
                    return
                covered = self._change_count
                await self._permissions.replace_stored([stored.rule for stored in await self._table.all()])
                self._in_force_count = covered
