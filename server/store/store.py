"""The admin database as a whole."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio

from .api_keys import ApiKeys
from .audit import Audit
from .bans import Bans
from .database import Database
from .rules import Rules
from .secrets import Secrets
from .settings import StoredSettings
from .users import Users

FILE_NAME = "admin.db"
# What a restore replaces. The audit log goes on, and secrets are of the place where they were made.
RESTORED = ("users", "rules", "settings", "api_keys", "bans")
_USERS = "SELECT tenant_id, user_id FROM users"


class Store:
    """The tables of one database. Made by open_store."""

    def __init__(self, database: Database) -> None:
        self.name = database.name
        self.users = Users(database)
        self.rules = Rules(database)
        self.settings = StoredSettings(database)
        self.api_keys = ApiKeys(database)
        self.bans = Bans(database)
        self.audit = Audit(database)
        self.secrets = Secrets(database)
        self._database = database

    async def back_up(self, file: Path) -> None:
        """Write a copy of all of it, as of one moment, to a file that is not there yet. Raises StoreError."""
        # VACUUM cannot run within a transaction, which is why it has a way of its own.
        await self._database.copy_to(file)

    async def restore(self, file: Path) -> dict[str, int]:
        """Replace the tables RESTORED by those of another database, all or none; how many rows each has now.

        The file is brought to the present schema, so it must be a copy. Raises StoreError. What is held in memory of
        rules, bans, settings and keys has to be read again.
        """

        def replace(connection: sqlite3.Connection) -> tuple[dict[str, int], set[tuple[str, str]]]:
            with closing(Database.open(file)) as source:
                users = set(map(tuple, connection.execute(_USERS)))
                counts = {table: source.copy_rows(table, connection) for table in RESTORED}
                return counts, users | set(map(tuple, connection.execute(_USERS)))

        counts, users = await self._database.write(replace)
        for tenant_id, user_id in users:
            self.users.tell(tenant_id, user_id)
        return counts


@asynccontextmanager
async def open_store(directory: Path | None) -> AsyncIterator[Store]:
    """The store of a data directory, closed at the end of the block; None keeps all in memory.

    Makes directory and file where there are none. Raises StoreError, whose cause is an OSError where the operating
    system did not let us.
    """
    file = None if directory is None else directory / FILE_NAME
    database = await trio.to_thread.run_sync(Database.open, file)
    try:
        yield Store(database)
    finally:
        database.close()


def check_store(directory: Path | None) -> None:
    """Raise StoreError when there is a database in the directory that open_store would refuse. Blocks."""
    if directory is not None and (directory / FILE_NAME).exists():
        Database.open(directory / FILE_NAME).close()
