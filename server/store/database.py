"""One SQLite file: opened, checked, brought to the present schema, and asked in threads.

    read   a connection and a thread for those who ask       CONNECTs that look for a user
    write  another connection and thread for those who change      HTTP calls, commands

Two, so that a change that waits for the lock of another process (BUSY_TIMEOUT_S) keeps nobody from reading: in WAL mode
readers never wait. Without a file there is one connection for both. What goes wrong is a StoreError, which says what to
do; the file is left as it is, and everything that does not need it goes on.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import trio

from .schema import MIGRATIONS

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
BUSY_TIMEOUT_S = 2.0  # for the lock that another process holds
CACHE_KIB = 8192  # of pages, per connection

_Result = TypeVar("_Result")
Work = Callable[[sqlite3.Connection], _Result]


class StoreError(Exception):
    """The admin database did not do what was asked; nothing has changed."""


class StoreLocked(StoreError):
    """Another process has held the lock for BUSY_TIMEOUT_S."""


class StoreCorrupt(StoreError):
    """The file is no database, or a damaged one, or holds what cannot be understood."""


class StoreUnavailable(StoreError):
    """The file cannot be read or written: rights, a full disk, a closed database."""


class Database:
    """A database that is open. Made by open."""

    def __init__(self, name: str, reader: sqlite3.Connection, writer: sqlite3.Connection) -> None:
        self.name = name  # for messages: the path, or what stands for none
        self._reader = reader
        self._writer = writer
        self._reads = trio.CapacityLimiter(1)
        self._writes = self._reads if reader is writer else trio.CapacityLimiter(1)

    @classmethod
    def open(cls, file: Path | None) -> "Database":
        """Make or open the file; None keeps all in memory. Blocks; raises StoreError.

        The file is readable by its owner only, and so are those that SQLite puts beside it.
        """
        if file is None:
            connection = _guarded("memory", lambda: _prepare(_connect(":memory:")))
            return cls("memory", connection, connection)
        try:
            file.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    os.fchmod(descriptor, FILE_MODE)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"{file}: {error.strerror or error}") from error

        def connect() -> "Database":
            writer = _connect(str(file))
            try:
                _prepare(writer, as_file=True)
                return cls(str(file), _connect(str(file)), writer)
            except BaseException:
                writer.close()
                raise

        return _guarded(str(file), connect)

    async def read(self, work: Work[_Result]) -> _Result:
        """What work finds, in a thread, all of it of one moment. Raises StoreError, and what work raises.

        Waits for those who asked before. Cancelling waits for the end of the work.
        """
        return await trio.to_thread.run_sync(self._run, self._reader, "BEGIN", work, limiter=self._reads)

    async def write(self, work: Work[_Result]) -> _Result:
        """As read, for work that changes: all of it is kept when work returns, or nothing when it raises."""
        return await trio.to_thread.run_sync(self._run, self._writer, "BEGIN IMMEDIATE", work, limiter=self._writes)

    def _run(self, connection: sqlite3.Connection, begin: str, work: Work[_Result]) -> _Result:
        return _guarded(self.name, lambda: _transact(connection, begin, work))

    async def copy_to(self, file: Path) -> None:
        """Write a copy, as of one moment, to a file that is not there yet. Raises StoreError."""

        def copy() -> None:
            try:
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
            except OSError as error:
                raise StoreUnavailable(f"{file}: {error.strerror or error}") from error
            _guarded(self.name, lambda: self._reader.execute("VACUUM INTO ?", (str(file),)))

        await trio.to_thread.run_sync(copy, limiter=self._reads)

    def copy_rows(self, table: str, target: sqlite3.Connection) -> int:
        """Have a table of target, which is in a transaction, hold the rows of ours; how many. Blocks."""
        columns = [row["name"] for row in self._reader.execute(f"PRAGMA table_info({table})")]
        names, places = ", ".join(columns), ", ".join("?" * len(columns))
        target.execute(f"DELETE FROM {table}")  # noqa: S608  # A name of ours, as below.
        rows = self._reader.execute(f"SELECT {names} FROM {table}")  # noqa: S608
        return target.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", map(tuple, rows)).rowcount  # noqa: S608

    def close(self) -> None:
        """Close it; whoever asks later gets StoreUnavailable."""
        for connection in {self._reader, self._writer}:
            connection.close()


def copy_database(file: Path, target: Path) -> None:
    """A copy, as of one moment, of a database that a process may be writing to, in a file that is not there yet.

    It is one file, whole, and on the disk when this returns. Blocks; raises StoreError.
    """
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except OSError as error:
        raise StoreUnavailable(f"{target}: {error.strerror or error}") from error

    def copy() -> None:
        # Not as _connect does: looking at a database must not bring it to the present schema.
        address = f"{file.absolute().as_uri()}?mode=ro"
        with (
            closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S)) as source,
            closing(sqlite3.connect(target, timeout=BUSY_TIMEOUT_S)) as copied,
        ):
            source.backup(copied)
            copied.execute("PRAGMA journal_mode = DELETE")
            found = copied.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise StoreCorrupt(f"the file is damaged: {found}")

    _guarded(str(file), copy)


def _connect(name: str) -> sqlite3.Connection:
    # Each connection is used by one thread at a time, which its limiter sees to, but not always by the same one.
    connection = sqlite3.connect(name, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def _prepare(connection: sqlite3.Connection, *, as_file: bool = False) -> sqlite3.Connection:
    """Check the file and bring it to the present schema."""
    if as_file:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreCorrupt(f"the file is damaged: {found}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # Who was told that a user is gone must not see him again.
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StoreCorrupt(f"it was made by a newer version: schema {version}, known are {len(MIGRATIONS)}")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return connection


def _transact(connection: sqlite3.Connection, begin: str, work: Work[_Result]) -> _Result:
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return result


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # Some errors have ended it already.
        connection.execute("ROLLBACK")


def _guarded(name: str, work: Callable[[], _Result]) -> _Result:
    """What work gives; SQLite's errors as ours, which name the database."""
    try:
        return work()
    except StoreCorrupt as error:
        raise StoreCorrupt(f"{name}: {error}") from error.__cause__
    except sqlite3.ProgrammingError as error:  # a closed connection
        raise StoreUnavailable(f"{name}: {error}") from error
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreLocked(f"{name}: another process has held the lock for {BUSY_TIMEOUT_S:g} s") from error
        raise StoreUnavailable(f"{name}: {error}") from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(f"{name}: {error}") from error
