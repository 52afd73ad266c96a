"""Table rules: what clients may do, in order."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from rookery.core.permissions.rule import Action, Effect, InvalidRule, Rule

from .database import Database, StoreCorrupt

RULES_LIMIT = 500_000  # of all tenants; half of what one compiled set may hold


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule and its place."""

    rule_id: int  # never given to another rule
    position: int  # the lower, the sooner it is tried; among equals the older first
    rule: Rule


class Rules:
    """The rules of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[StoredRule]:
        """All rules in order. Raises StoreCorrupt for one that does not parse, and StoreError, as all do."""
        return await self._database.read(
            lambda connection: [
                _rule_of(row) for row in connection.execute("SELECT * FROM rules ORDER BY position, rule_id")
            ]
        )

    async def page(
        self, tenant_id: str | None, *, after: tuple[int, int] = (-(2**63), 0), limit: int = 100
    ) -> list[StoredRule]:
        """Rules of one tenant, None: those for all tenants, in order, behind the (position, rule_id) after."""
        return await self._database.read(
            lambda connection: [
                _rule_of(row)
                for row in connection.execute(
                    "SELECT * FROM rules WHERE tenant_id IS ? AND (position, rule_id) > (?, ?) "
                    "ORDER BY position, rule_id LIMIT ?",
                    (tenant_id, *after, limit),
                )
            ]
        )

    async def find(self, rule_id: int) -> StoredRule | None:
        """The rule of this number."""

        def find(connection: sqlite3.Connection) -> StoredRule | None:
            row = connection.execute("SELECT * FROM rules WHERE rule_id = ?", (rule_id,)).fetchone()
            return None if row is None else _rule_of(row)

        return await self._database.read(find)

    async def add(self, rule: Rule, *, position: int | None = None) -> StoredRule:
        """Keep a rule; without a position behind all others. Raises InvalidRule when there are RULES_LIMIT."""

        def add(connection: sqlite3.Connection) -> StoredRule:
            count, last = connection.execute("SELECT count(*), coalesce(max(position), 0) FROM rules").fetchone()
            _check_count(count + 1)
            return _insert(connection, rule, last + 1 if position is None else position)

        return await self._database.write(add)

    async def change(self, rule_id: int, rule: Rule, *, position: int | None = None) -> StoredRule | None:
        """Put a rule in the place of another, or at another position; None when that is not there."""

        def change(connection: sqlite3.Connection) -> StoredRule | None:
            row = connection.execute("SELECT position FROM rules WHERE rule_id = ?", (rule_id,)).fetchone()
            if row is None:
                return None
            connection.execute("DELETE FROM rules WHERE rule_id = ?", (rule_id,))
            return _insert(connection, rule, row["position"] if position is None else position, rule_id)

        return await self._database.write(change)

    async def remove(self, rule_id: int) -> bool:
        """Take a rule out; whether it was there."""
        return await self._database.write(
            lambda connection: connection.execute("DELETE FROM rules WHERE rule_id = ?", (rule_id,)).rowcount > 0
        )

    async def replace(self, tenant_id: str | None, rules: Sequence[Rule]) -> list[StoredRule]:
        """All rules of one tenant, None: those for all tenants, behind the rules of others. All or none.

        Raises InvalidRule for a rule of another tenant, and beyond RULES_LIMIT.
        """
        for rule in rules:
            if rule.tenant_id != tenant_id:
                raise InvalidRule(f"the rule is for tenant {rule.tenant_id!r}, expected {tenant_id!r}")

        def replace(connection: sqlite3.Connection) -> list[StoredRule]:
            connection.execute("DELETE FROM rules WHERE tenant_id IS ?", (tenant_id,))
            count, last = connection.execute("SELECT count(*), coalesce(max(position), 0) FROM rules").fetchone()
            _check_count(count + len(rules))
            return [_insert(connection, rule, position) for position, rule in enumerate(rules, start=last + 1)]

        return await self._database.write(replace)


def _check_count(count: int) -> None:
    if count > RULES_LIMIT:
        raise InvalidRule(f"{count} rules, the limit is {RULES_LIMIT}")


def _insert(connection: sqlite3.Connection, rule: Rule, position: int, rule_id: int | None = None) -> StoredRule:
    done = connection.execute(
        "INSERT INTO rules VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            rule_id,
            position,
            rule.effect.value,
            ",".join(sorted(rule.actions)),
            rule.topic_filter,
            rule.tenant_id,
            rule.user_id,
            rule.client_id,
            rule.max_qos,
            rule.retain,
        ),
    )
    assert done.lastrowid is not None
    return StoredRule(done.lastrowid, position, rule)


def _rule_of(row: sqlite3.Row) -> StoredRule:
    try:
        rule = Rule(
            effect=Effect(row["effect"]),
            actions=frozenset(map(Action, row["actions"].split(","))),
            topic_filter=row["topic_filter"],
            tenant_id=row["tenant_id"],
            user_id=row["user_id"],
            client_id=row["client_id"],
            max_qos=row["max_qos"],
            retain=bool(row["retain"]),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(f"rules: rule {row['rule_id']}: {error}") from error
    return StoredRule(row["rule_id"], row["position"], rule)
