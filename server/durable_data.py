"""The data directory of a broker: who may use it, and the durable log within it from its start to its end.

DIR/lock        held by the process that uses the directory
DIR/log/        segments of the durable log
DIR/admin.db    the admin database, see rookery.server.store
"""

import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from rookery.core.engine import Engine
from rookery.core.log.durable_log import DurableLog, LogState

from .config import DataSection
from .log import get_logger

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
LOG_FOLDER = "log"
LOCK_FILE = "lock"

_log = get_logger(__name__)


class DataDirectoryError(Exception):
    """The data directory cannot be used; the text says why. The cause is an OSError where there was one."""


class DataDirectoryInUse(DataDirectoryError):
    """Another process has it."""


@contextmanager
def lock_directory(directory: Path | None) -> Iterator[None]:
    """Make the directory where there is none, and have it for this process alone. None: there is nothing to lock.

    Raises DataDirectoryError; DataDirectoryInUse names the process that has it.
    """
    if directory is None:
        yield
        return
    try:
        directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise DataDirectoryError(f"data directory {directory}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise DataDirectoryInUse(f"data directory {directory}: in use by process {holder}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


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
