"""Putting back what administrators keep: users, rules, settings, API keys and bans, out of a backup, while running.

Sessions and messages stay as they are: they are in the log, which a broker cannot exchange under its clients.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .backup import copy_admin_data

if TYPE_CHECKING:
    from .broker import Broker


async def restore_admin_data(broker: "Broker", backup: Path) -> Mapping[str, int]:
    """Replace all of it by what a backup has; rows by table. It is in force when this returns.

    The audit log stays and goes on. Whoever is connected stays. Raises BackupError and StoreError; all is as before
    then.
    """

    def copy(folder: Path) -> Path:
        return copy_admin_data(backup, folder)

    with tempfile.TemporaryDirectory(prefix="rookery-restore-") as folder:
        file = await trio.to_thread.run_sync(copy, Path(folder))
        counts = await broker.store.restore(file)
    with trio.CancelScope(shield=True):  # What is kept has to be in force, too.
        await broker.stored_settings.reload()
        await broker.rules.reload()
        await broker.bans.reload()
    return counts
