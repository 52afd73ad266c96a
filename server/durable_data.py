"""The durable log of a broker, from its start to its end."""

import errno
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from rookery.core.engine import Engine
from rookery.core.log.durable_log import DurableLog, LogState

from .config import DataSection
from .data_directory import DIRECTORY_MODE, LOG_FOLDER, DataDirectoryError, settle_directory
from .errors import BrokerBusy, BrokerDiskFull, BrokerNotDurable
from .events import Event, StorageFailed, StorageRecovered
from .log import get_logger

WATCH_S = 0.25  # between two looks at the log's failures

_log = get_logger(__name__)


class DurableData:
    """The durable log of a broker that runs; nothing at all where the configuration keeps data in memory."""

    def __init__(self, log: DurableLog | None) -> None:
        self.log = log  # None where data is kept in memory

    @property
    def is_kept(self) -> bool:
        """Does anything survive the process?"""
        return self.log is not None

    def state(self) -> LogState | None:
        """The log's figures; None without a log."""
        return None if self.log is None else self.log.state()

    async def watch(self, publish: Callable[[Event], None]) -> None:
        """Tell when the log cannot be written, and when it can again, by an event and in the process's log.

        Until it is cancelled. A failure that is over before it is looked for is told of, too.
        """
        if self.log is None:
            return
        failures = self.log.state().failures
        failed_at_ms = 0
        while True:
            state = self.log.state()
            if failed_at_ms == 0 and (state.error != 0 or state.failures != failures):
                failed_at_ms = _now_ms()
                reason = os.strerror(state.error or state.last_error)
                _log.error("log_failing", reason=reason, message="what must be durable is not acknowledged")
                publish(StorageFailed(at_ms=failed_at_ms, reason=reason))
            failures = state.failures
            if failed_at_ms != 0 and state.error == 0:
                recovered_at_ms = _now_ms()
                failed_ms = recovered_at_ms - failed_at_ms
                _log.warning("log_recovered", failed_ms=failed_ms, failures=failures)
                publish(StorageRecovered(at_ms=recovered_at_ms, failed_ms=failed_ms))
                failed_at_ms = 0
            await trio.sleep(WATCH_S)

    def check_takes_more(self) -> None:
        """Raise when nothing should be added: the disk fails, or too much waits for it.

        BrokerNotDurable, or BrokerBusy where nothing is wrong with the disk.
        """
        if self.log is not None and self.log.is_holding:
            self.check_works()
            raise BrokerBusy("too much waits for the durable log")

    def check_works(self) -> None:
        """Raise BrokerNotDurable while the log cannot be written; BrokerDiskFull when that is for want of space."""
        state = self.state()
        if state is not None and state.error != 0:
            is_full = state.error in (errno.ENOSPC, errno.EDQUOT)
            raise (BrokerDiskFull if is_full else BrokerNotDurable)(_complaint(state))

    def complaint(self) -> str | None:
        """Why what clients send is not made durable just now; None when it is, or need not be."""
        state = self.state()
        return None if state is None or state.error == 0 else _complaint(state)


def _complaint(state: LogState) -> str:
    return f"the durable log cannot be written: {os.strerror(state.error)}"


def _now_ms() -> int:
    """Milliseconds of the epoch."""
    return time.time_ns() // 1_000_000


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
    engine.spill(_spill_files(folder.parent, engine.shard_count), section.inbox_memory_bytes)
    await trio.to_thread.run_sync(partial(engine.restore, log, writes_qos0=section.log_qos0))
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


def _spill_files(directory: Path, count: int) -> list[int]:
    """Descriptors of files without a name: whatever ends the process, nothing of them is left."""
    descriptors = []
    for _ in range(count):
        with tempfile.TemporaryFile(dir=directory) as file:
            descriptors.append(os.dup(file.fileno()))
    return descriptors


def _open(section: DataSection, folder: Path) -> DurableLog:
    settle_directory(folder.parent)
    try:
        folder.mkdir(DIRECTORY_MODE, exist_ok=True)
        return DurableLog(
            folder,
            sync=section.sync,
            interval_ms=section.sync_interval_ms,
            segment_size=section.segment_size_bytes,
            refuse_after_ms=section.refuse_after_ms,
        )
    except OSError as error:
        raise DataDirectoryError(f"data directory {folder}: {error.strerror}") from error
