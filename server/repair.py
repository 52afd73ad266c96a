"""Repairing a damaged log: what can be read of it goes into a new one.

    log --> log.repairing     all whole groups of records, and a record in the place of each hole
    log --> log.damaged-TIME  nothing is ever deleted
    log.repairing --> log     settle_directory does this one if the process ends before it

The new log is read back as a broker reads it before it takes the place of the old one.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rookery.core.engine import Engine
from rookery.core.log.durable_log import DurableLog
from rookery.core.log.errors import LogError
from rookery.core.log.inspection import copy_log, inspect_log

from .data_directory import (
    DIRECTORY_MODE,
    LOG_FOLDER,
    REPAIRING_FOLDER,
    DataDirectoryError,
    NoDataDirectory,
    lock_directory,
    rename_durably,
    settle_directory,
)
from .log_report import LogReport


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair has found and done."""

    found: LogReport
    set_aside: Path | None  # where the damaged log is now; None = it was whole, and nothing was done

    @property
    def saved_records(self) -> int:
        return sum(segment.records for segment in self.found.segments)

    @property
    def lost_bytes(self) -> int:
        return sum(segment.lost_bytes for segment in self.found.segments)


def repair_log(directory: Path) -> Repair:
    """Make a log of what can be read of a damaged one. Needs as much space again as the log has.

    A log that is whole is left as it is. Raises NoDataDirectory, DataDirectoryInUse, DataDirectoryError, and LogError
    when nothing can be saved; then nothing has changed.
    """
    folder, repairing = directory / LOG_FOLDER, directory / REPAIRING_FOLDER
    if not folder.is_dir() and not repairing.is_dir():
        raise NoDataDirectory(f"data directory {directory}: it has no folder {LOG_FOLDER}")
    with lock_directory(directory):
        settle_directory(directory)
        try:
            shutil.rmtree(repairing, ignore_errors=True)
            found = LogReport(directory, tuple(inspect_log(folder)))
            if not found.is_damaged:
                return Repair(found, None)
            repairing.mkdir(DIRECTORY_MODE)
            with _undone_on_error(repairing):
                _copy(folder, repairing)
                _try(repairing)
        except OSError as error:
            raise DataDirectoryError(f"data directory {directory}: {error.strerror or error}") from error
        set_aside = _free_name(directory)
        rename_durably(folder, set_aside)
        rename_durably(repairing, folder)
        return Repair(found, set_aside)


@contextmanager
def _undone_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _copy(source: Path, target: Path) -> None:
    log = DurableLog(target, sync="never")  # All is synced when it stops.
    log.skip()
    thread = threading.Thread(target=log.run, name="repaired log")
    thread.start()
    try:
        copy_log(source, log)
    except LogError:
        if log.state().error == 0:
            raise
    finally:
        log.stop()
        thread.join()
    error = log.state().error
    if error != 0:
        raise OSError(error, os.strerror(error))


def _try(folder: Path) -> None:
    """Read it as a broker does. Raises LogError."""
    engine = Engine()
    try:
        engine.restore(DurableLog(folder))
    except LogError as error:
        raise LogError(f"what could be saved does not fit together, so nothing was changed: {error}") from error
    finally:
        engine.close()


def _free_name(directory: Path) -> Path:
    name = f"{LOG_FOLDER}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    path, number = directory / name, 1
    while path.exists():
        number += 1
        path = directory / f"{name}-{number}"
    return path
