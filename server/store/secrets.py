"""Table secrets: random keys that have to outlive the process."""

import secrets
import sqlite3

from .database import Database

SIZE = 32  # bytes


class Secrets:
    """Random keys by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> bytes:
        """The key of this name, made when it is asked for first. Raises StoreError."""

        def get(connection: sqlite3.Connection) -> bytes:
            connection.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, secrets.token_bytes(SIZE)))
            row = connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
            return bytes(row["value"])

        return await self._database.write(get)
