"""The data directory: what lies where in it, and who may use it.

DIR/lock                     held by the process that uses the directory
DIR/log/                     segments of the durable log
DIR/admin.db                 the admin database, see rookery.server.store
DIR/log.repairing/           of a repair that was not finished, see rookery.server.repair
DIR/log.damaged-TIME/        the log as it was before a repair
DIR/log.restoring/           of a restore that was not finished, see rookery.server.backup
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
LOG_FOLDER = "log"
LOCK_FILE = "lock"
REPAIRING_FOLDER = "log.repairing"
RESTORING_FOLDER = "log.restoring"


class DataDirectoryError(Exception):
    """The data directory cannot be used; the text says why. The cause is an OSError where there was one."""


class DataDirectoryInUse(DataDirectoryError):
    """Another process has it."""


class NoDataDirectory(DataDirectoryError):
    """There is no durable log where one was named."""


def user_directory(environment: Mapping[str, str]) -> Path | None:
    """Where a user's own broker keeps its data: `rookery` in XDG_STATE_HOME or ~/.local/state.

    None for a user without a home directory.
    """
    state = Path(environment.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # so the specification has it; also when it is not set
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError:
            return None
    return state / "rookery"


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
        if not _lock(descriptor, fcntl.LOCK_EX):
            raise DataDirectoryInUse(f"data directory {directory}: in use by process {_holder(descriptor)}")
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def share_directory(directory: Path) -> Iterator[str | None]:
    """Look into the directory, which nobody can begin to use meanwhile: gives None, or the process that has it already.

    Makes nothing. Raises NoDataDirectory where there is no log in it, and DataDirectoryError.
    """
    if not (directory / LOG_FOLDER).is_dir():
        hint = f"; {directory.parent} may be meant" if any(directory.glob("*.log")) else ""
        raise NoDataDirectory(f"data directory {directory}: it has no folder {LOG_FOLDER}{hint}")
    descriptor = _open_lock(directory)
    try:
        if descriptor is not None and not _lock(descriptor, fcntl.LOCK_SH):
            yield _holder(descriptor)
        else:
            yield None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_lock(directory: Path) -> int | None:
    """None: nobody has ever locked it, as that of a backup."""
    try:
        return os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataDirectoryError(f"data directory {directory}: {error.strerror}") from error


def _lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    """Who has signed last, if he is still there: a process that only looks into the directory does not sign."""
    signature = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return signature if signature.isdigit() and Path(f"/proc/{signature}").exists() else "unknown"


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def settle_directory(directory: Path) -> None:
    """Finish what a repair has begun, and refuse what a restore has left half done. The directory is locked.

    Raises DataDirectoryError.
    """
    if (directory / RESTORING_FOLDER).exists():
        raise DataDirectoryError(f"data directory {directory}: a restore was not finished; run `rookery restore` again")
    if (directory / REPAIRING_FOLDER).exists() and not (directory / LOG_FOLDER).exists():
        # The damaged log is put aside only when all that could be saved is on the disk.
        rename_durably(directory / REPAIRING_FOLDER, directory / LOG_FOLDER)


def rename_durably(source: Path, target: Path) -> None:
    """Within one folder, to a name that is not taken; on the disk when it returns. Raises DataDirectoryError."""
    try:
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        source.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise DataDirectoryError(f"{source} cannot become {target.name}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Names in the folder are on the disk when it returns. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
