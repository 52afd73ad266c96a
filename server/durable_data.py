"""The durable log of a broker, from its start to its end."""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from rookery.core.engine import Engine
from rookery.core.log.durable_log import DurableLog, LogState

from .config import DataSection
from .data_directory import DIRECTORY_MODE, LOG_FOLDER, DataDirectoryError, settle_directory
from .log import get_logger

_log = get_logger(__name__)


class DurableData:
    """The durable log of a broker that runs; nothing at all where the configuration keeps data in memory."""

    def __init__(self, log: DurableLog | None) -> None:
        self._log = log

    @property
    def is_kept(self) -> bool:
        """Does anything survive the process?"""
        return self._log is not None

    def state(self) -> LogState | None:
        """The log's figures; None without a log."""
        return None if self._log is None else self._log.state()

    def complaint(self) -> str | None:
        """Why what clients send is not made durable just now; None when it is, or need not be."""
        state = self.state()
        if state is None or state.error == 0:
            return None
        return f"the durable log cannot be written: {os.strerror(state.error)}"


@asynccontextmanager
async def open_durable_data(section: DataSection, engine: Engine) -> AsyncIterator[DurableData]:
    """Read the directory's log into the engine, whose shards do not run yet, and write to it until the block ends.

    The directory is locked, and the shards have ended by then. Raises DataDirectoryError and LogError.
    """
    if section.directory is None:
        yield DurableData(None)
        return
    folder = section.directory / LOG_FOLDER
    log = await trio.to_thread.run_sync(_open, section, folder)
    await trio.to_thread.run_sync(engine.restore, log)
    if log.lost is not None:
        _log.warning(
            "log_tail_cut",
            file=str(log.lost.path),
            offset=log.lost.offset,
            bytes=log.lost.size,
            message="what was being written when the process ended; nothing of it was acknowledged",
        )
    thread = threading.Thread(target=log.run, name="durable log")
    thread.start()
    try:
        yield DurableData(log)
    finally:
        log.stop()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join)


def _open(section: DataSection, folder: Path) -> DurableLog:
    settle_directory(folder.parent)
    try:
        folder.mkdir(DIRECTORY_MODE, exist_ok=True)
        return DurableLog(
            folder,
            sync=section.sync,
            interval_ms=section.sync_interval_ms,
            segment_size=section.segment_size_bytes,
        )
    except OSError as error:
        raise DataDirectoryError(f"data directory {folder}: {error.strerror}") from error
