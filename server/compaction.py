"""Compacting a log: what is alive is written anew at its end, and everything older goes.

A broker does the same in small steps as its log grows; this is for whoever wants the space back now. Until all that is
alive is on the disk the old segments stay, so whatever ends the process nothing is lost.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from rookery.core.engine import Engine
from rookery.core.log.durable_log import DurableLog

from .data_directory import LOG_FOLDER, DataDirectoryError, NoDataDirectory, lock_directory, settle_directory


@dataclass(frozen=True, slots=True)
class Compaction:
    """Bytes of the log's segments before and after."""

    bytes_before: int
    bytes_after: int


def compact_log(directory: Path) -> Compaction:
    """Make the log as small as what is alive in it. Needs as much space again as that has, and its memory.

    Clients that were connected when the broker ended count as gone from now on, as at a start. Raises NoDataDirectory,
    DataDirectoryInUse, DataDirectoryError, also when the disk is full, and LogError for a log that is damaged.
    """
    folder = directory / LOG_FOLDER
    if not folder.is_dir():
        raise NoDataDirectory(f"data directory {directory}: it has no folder {LOG_FOLDER}")
    with lock_directory(directory):
        settle_directory(directory)
        before = _size(folder)
        try:
            _write_anew(folder)
        except OSError as error:
            raise DataDirectoryError(f"data directory {directory}: {error.strerror or error}") from error
        return Compaction(before, _size(folder))


def _write_anew(folder: Path) -> None:
    engine = Engine()
    try:
        log = DurableLog(folder)
        engine.restore(log)
        thread = threading.Thread(target=log.run, name="compacted log")
        thread.start()
        try:
            engine.compact()
        finally:
            log.stop()
            thread.join()
        error = log.state().error
        if error != 0:
            raise OSError(error, os.strerror(error))
    finally:
        engine.close()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.log"))
