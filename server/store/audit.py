"""Table audit: who changed what. It is a ring: the oldest entries go."""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .database import Database

ENTRIES_LIMIT = 100_000  # some 30 MB


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. Without secrets: whoever writes it sees to that."""

    actor: str  # who: the name of an API key, a command
    action: str  # what was called: `PUT /v1/tenants/acme/users/bob`
    tenant_id: str | None = None
    target: str = ""  # what was changed
    detail: Mapping[str, Any] = field(default_factory=dict)  # JSON
    at_s: int = 0  # seconds of the epoch, set when it is kept
    entry_id: int = 0  # set when it is kept, rising


class Audit:
    """The last ENTRIES_LIMIT changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, *entries: AuditEntry) -> None:
        """Keep entries, all or none. Raises StoreError, as all do."""
        now_s = int(time.time())

        def add(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO audit (at_s, actor, action, tenant_id, target, detail) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (now_s, entry.actor, entry.action, entry.tenant_id, entry.target, json.dumps(dict(entry.detail)))
                    for entry in entries
                ],
            )
            connection.execute(
                "DELETE FROM audit WHERE entry_id <= (SELECT max(entry_id) FROM audit) - ?", (ENTRIES_LIMIT,)
            )

        await self._database.write(add)

    async def page(
        self, *, tenant_id: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """Entries, the newest first: of one tenant or of all, older than the number before, limit at most."""
        conditions, values = [], []
        if tenant_id is not None:
            conditions.append("tenant_id = ?")
            values.append(tenant_id)
        if before is not None:
            conditions.append("entry_id < ?")
            values.append(str(before))
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        return await self._database.read(
            lambda connection: [
                AuditEntry(
                    row["actor"],
                    row["action"],
                    row["tenant_id"],
                    row["target"],
                    json.loads(row["detail"]),
                    row["at_s"],
                    row["entry_id"],
                )
                for row in connection.execute(
                    f"SELECT * FROM audit {where}ORDER BY entry_id DESC LIMIT ?",  # noqa: S608  # no value is in it
                    (*values, limit),
                )
            ]
        )
