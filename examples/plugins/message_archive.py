"""A plugin that writes what is published into an SQLite file.

[plugins.archive]
use = "message_archive:MessageArchive"
options = { file = "/var/lib/archive/messages.db", topics = { acme = ["meters/+/reading"] } }
"""

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence

import trio

from rookery.core.wire.spec import QoS
from rookery.server.plugins import Delivered, Interest

_TABLE = "CREATE TABLE IF NOT EXISTS message (at REAL, tenant TEXT, topic TEXT, payload BLOB)"


class MessageArchive:
    """A SubBroker: each batch is one transaction, and acknowledged when it is on the disk."""

    def __init__(self, file: str, topics: Mapping[str, Sequence[str]]) -> None:
        self._file = file
        self._interests = [
            Interest(tenant_id, topic_filter, QoS.AT_LEAST_ONCE)
            for tenant_id, topic_filters in topics.items()
            for topic_filter in topic_filters
        ]
        self._write([])  # A file that cannot be written keeps the broker from starting.

    async def interests(self) -> Collection[Interest]:
        """See SubBroker."""
        return self._interests

    async def deliver(self, messages: Sequence[Delivered]) -> None:
        """See SubBroker. One that may have come before is written again: whoever reads must bear it."""
        now = time.time()
        rows = [(now, message.tenant_id, message.topic, message.payload) for message in messages]
        await trio.to_thread.run_sync(self._write, rows)

    def _write(self, rows: Sequence[tuple[float, str, str, bytes]]) -> None:
        # A connection per batch: batches of several tenants may be in work at once, in several threads.
        database = sqlite3.connect(self._file)
        try:
            with database:
                database.execute(_TABLE)
                database.executemany("INSERT INTO message VALUES (?, ?, ?, ?)", rows)
        finally:
            database.close()
