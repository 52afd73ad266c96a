"""Table settings: what tenants have otherwise than the configuration says, one row per value."""

import json
import sqlite3
from collections.abc import Mapping

from .database import Database, StoreCorrupt

Values = dict[str, bool | int | str]  # by BifroMQ's names


class StoredSettings:
    """The settings of all tenants that have some here. Checked by whoever puts them in force."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, Values]:
        """tenant -> its values. Raises StoreError, as all do."""

        def read(connection: sqlite3.Connection) -> dict[str, Values]:
            found: dict[str, Values] = {}
            for row in connection.execute("SELECT * FROM settings"):
                try:
                    value = json.loads(row["value"])
                except (TypeError, ValueError) as error:
                    raise StoreCorrupt(f"settings: {row['name']} of {row['tenant_id']}: {error}") from error
                found.setdefault(row["tenant_id"], {})[row["name"]] = value
            return found

        return await self._database.read(read)

    async def put(self, tenant_id: str, values: Mapping[str, bool | int | str]) -> None:
        """All that is kept of a tenant from now on; no values: nothing."""

        def put(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM settings WHERE tenant_id = ?", (tenant_id,))
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?, ?)",
                [(tenant_id, name, json.dumps(value)) for name, value in values.items()],
            )

        await self._database.write(put)
