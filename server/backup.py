"""Backups of a data directory, made while a broker writes to it or while none does, and put back.

BACKUP/log/           segments of the durable log, the last one up to a whole record
BACKUP/admin.db       the admin database as of one moment
BACKUP/backup.json    what belongs to it, with checksums; written last: without it a backup is not whole

The log is only ever appended to, so all segments up to any place in the last one are a state that the broker was in,
and whatever was acknowledged before the copy began is in it. Segments go from the front only, when nobody needs them
any more: all are opened before the first is copied.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rookery.core.log.errors import LogDamagedError
from rookery.core.log.inspection import SegmentFindings, inspect_log, measure_segment

from .data_directory import (
    DIRECTORY_MODE,
    FILE_MODE,
    LOG_FOLDER,
    RESTORING_FOLDER,
    DataDirectoryError,
    NoDataDirectory,
    lock_directory,
    rename_durably,
    sync_folder,
)
from .log_report import LogReport
from .store.database import copy_database
from .store.store import FILE_NAME as DATABASE_NAME

MANIFEST = "backup.json"
FORMAT = 1
_BLOCK_SIZE = 1 << 20


class BackupError(Exception):
    """The backup is not whole, or not as it was made; the text names the file."""


class TargetError(Exception):
    """Where the files are to go is something already."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is whole."""

    directory: Path
    created_ms: int  # Unix time at which it began
    files: tuple[Path, ...]  # within it
    size: int  # bytes


def back_up(directory: Path, target: Path, *, is_linked: bool = False) -> Backup:
    """Copy the log and the admin database of a data directory to a new directory; a broker may be using it.

    is_linked: segments to which nothing is written any more become hard links, where the file system has them.
    Everything is read again and checked. On an error nothing stays. Raises NoDataDirectory, TargetError, LogError when
    the log is damaged, StoreError, and DataDirectoryError.
    """
    if not (directory / LOG_FOLDER).is_dir():
        raise NoDataDirectory(f"data directory {directory}: it has no folder {LOG_FOLDER}")
    created_ms = time.time_ns() // 1_000_000
    try:
        with _new_directory(target):
            (target / LOG_FOLDER).mkdir(DIRECTORY_MODE)
            _copy_log(directory / LOG_FOLDER, target / LOG_FOLDER, is_linked)
            if (directory / DATABASE_NAME).exists():
                copy_database(directory / DATABASE_NAME, target / DATABASE_NAME)
            _write_manifest(target, created_ms)
    except OSError as error:
        raise DataDirectoryError(f"backup {target}: {error.strerror or error}") from error
    return read_backup(target)


def read_backup(directory: Path) -> Backup:
    """What a backup holds, by its manifest; files are not looked into. Raises BackupError."""
    manifest = _read_manifest(directory)
    files = tuple(Path(name) for name in manifest["files"])
    return Backup(directory, manifest["created_ms"], files, sum(facts["bytes"] for facts in manifest["files"].values()))


def restore_backup(backup: Path, directory: Path) -> Backup:
    """Make a data directory of a backup, which stays as it is. What is copied is checked against the manifest.

    The directory must not hold a log or an admin database. If it ends early, a broker refuses the directory until it
    has been done again. Raises BackupError, TargetError, LogError, DataDirectoryInUse and DataDirectoryError.
    """
    manifest = _read_manifest(backup)
    with lock_directory(directory):
        taken = [name for name in (LOG_FOLDER, DATABASE_NAME) if (directory / name).exists()]
        restoring = directory / RESTORING_FOLDER
        if restoring.exists():
            # A restore that was not finished has put the database in its place before the log.
            taken = [name for name in taken if name != DATABASE_NAME]
        if taken:
            raise TargetError(f"data directory {directory}: it has {taken[0]} already, which would be overwritten")
        try:
            shutil.rmtree(restoring, ignore_errors=True)
            restoring.mkdir(DIRECTORY_MODE)
            for name, facts in manifest["files"].items():
                _copy_checked(backup / name, restoring / Path(name).name, facts)
            _check_log(restoring)
            sync_folder(restoring)
            for suffix in ("-wal", "-shm"):  # of another database, which a broker may have made in between
                (directory / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)
            if (restoring / DATABASE_NAME).exists():
                (restoring / DATABASE_NAME).replace(directory / DATABASE_NAME)
            sync_folder(restoring)
        except OSError as error:
            raise DataDirectoryError(f"data directory {directory}: {error.strerror or error}") from error
        rename_durably(restoring, directory / LOG_FOLDER)
    return read_backup(backup)


def copy_admin_data(backup: Path, folder: Path) -> Path:
    """Copy the admin database out of a backup, checked against the manifest; the file in the folder. Blocks.

    Raises BackupError, also for a backup that has none, and DataDirectoryError.
    """
    facts = _read_manifest(backup)["files"].get(DATABASE_NAME)
    if facts is None:
        raise BackupError(f"backup {backup}: it has no {DATABASE_NAME}")
    try:
        _copy_checked(backup / DATABASE_NAME, folder / DATABASE_NAME, facts)
    except OSError as error:
        raise DataDirectoryError(f"{folder}: {error.strerror or error}") from error
    return folder / DATABASE_NAME


# The log


def _copy_log(source: Path, target: Path, is_linked: bool) -> None:
    with ExitStack() as stack:
        files = _open_all(source, stack)
        for path, file in files[:-1]:
            if not (is_linked and _link(path, file, target / path.name)):
                _copy(file, target / path.name)
        for path, file in files[-1:]:
            _copy_last(path, file, target / path.name)
    sync_folder(target)
    _check_log(target)


def _open_all(folder: Path, stack: ExitStack) -> list[tuple[Path, BinaryIO]]:
    """All segments, oldest first."""
    while True:
        with ExitStack() as opened:
            files: list[tuple[Path, BinaryIO]] = []
            try:
                for path in sorted(folder.glob("*.log")):
                    files.append((path, opened.enter_context(path.open("rb"))))
            except FileNotFoundError:
                continue  # It was dropped from the front since the folder was read.
            stack.push(opened.pop_all())
            return files


def _link(path: Path, file: BinaryIO, target: Path) -> bool:
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.ENOENT, errno.EMLINK, errno.EOPNOTSUPP):
            return False
        raise
    if os.path.samestat(target.stat(), os.fstat(file.fileno())):
        return True
    target.unlink()
    return False


def _copy(file: BinaryIO, target: Path) -> None:
    """Blocks of zeros become holes: the last segment has many, where nothing is written yet."""
    with _create(target) as copied:
        size = 0
        while block := file.read(_BLOCK_SIZE):
            if any(block):
                copied.seek(size)
                copied.write(block)
            size += len(block)
        copied.truncate(size)
        copied.flush()
        os.fsync(copied.fileno())


def _copy_last(path: Path, file: BinaryIO, target: Path) -> None:
    """Up to the first place that is not whole. There it was being written, or else it is damaged."""
    _copy(file, target)
    size, is_damaged = measure_segment(target)
    if size == 0:
        target.unlink()  # It had not been begun.
        return
    # What was being written while it was copied has been written since: more was synced behind it already.
    if is_damaged and not _is_whole_beyond(path, size):
        raise LogDamagedError(f"{path}: offset {size}: the record is damaged, and later ones were on the disk already")
    os.truncate(target, size)
    with target.open("rb") as copied:
        os.fsync(copied.fileno())


def _is_whole_beyond(path: Path, size: int) -> bool:
    try:
        return measure_segment(path)[0] > size
    except FileNotFoundError:
        return True  # It became long enough to be no longer the last one, nor needed.


def _check_log(folder: Path) -> None:
    found: list[SegmentFindings] = inspect_log(folder)
    damage = LogReport(folder.parent, tuple(found)).print_damage()
    if damage:
        raise LogDamagedError("\n".join(damage))


# Files and the manifest


@contextmanager
def _new_directory(directory: Path) -> Iterator[None]:
    """Made, or empty until now; on an error what was put into it goes again."""
    existed = directory.exists()
    if existed and (not directory.is_dir() or any(directory.iterdir())):
        raise TargetError(f"backup {directory}: it exists already")
    directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for entry in directory.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
        if not existed:
            directory.rmdir()
        raise


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "r+b")


def _write_manifest(directory: Path, created_ms: int) -> None:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT,
        "created_ms": created_ms,
        "files": {str(path.relative_to(directory)): _facts_of(path) for path in files},
    }
    with _create(directory / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(directory)


def _facts_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _read_manifest(directory: Path) -> dict[str, Any]:
    file = directory / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
        version = manifest["format"]
        if not isinstance(version, int) or version > FORMAT:
            raise BackupError(f"{file}: has format {version}, this version of Rookery reads up to {FORMAT}")
        int(manifest["created_ms"])
        for name, facts in manifest["files"].items():
            parts = Path(name).parts
            if parts != (DATABASE_NAME,) and (len(parts) != 2 or parts[0] != LOG_FOLDER or parts[1] == ".."):
                raise BackupError(f"{file}: names {name}, which is no part of a backup")
            if (int(facts["bytes"]), str(facts["sha256"])) != (facts["bytes"], facts["sha256"]):
                raise TypeError
    except FileNotFoundError as error:
        raise BackupError(f"backup {directory}: it has no {MANIFEST}, so it is none or was not finished") from error
    except OSError as error:
        raise BackupError(f"{file}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError(f"{file}: it cannot be understood") from error
    assert isinstance(manifest, dict)
    return manifest


def _copy_checked(source: Path, target: Path, facts: dict[str, Any]) -> None:
    try:
        with source.open("rb") as file:
            _copy(file, target)
    except FileNotFoundError as error:
        raise BackupError(f"{source}: it is missing") from error
    if _facts_of(target) != facts:
        raise BackupError(f"{source}: it is not as it was when the backup was made")
