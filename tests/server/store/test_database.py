"""What is wrong with a database file: it is said clearly, nothing changes, and everything else goes on."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest
import trio

from rookery.server.exit_code import ExitCode
from rookery.server.store import (
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    User,
    check_store,
    database,
    open_store,
)
from rookery.server.store.schema import MIGRATIONS
from support.own_broker import broker_with, connect
from support.process import READY_DEADLINE_S, rookery_command, rookery_only, run_process


async def make(directory: Path) -> Path:
    """A database with one user."""
    async with open_store(directory) as store:
        await store.users.put(User("acme", "bob"))
    return directory / "admin.db"


def execute(file: Path, statement: str, *values: object) -> None:
    """As somebody else who has the file open."""
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(statement, values)
    connection.close()


async def expect_refusal(directory: Path, error: type[StoreError], match: str) -> None:
    with pytest.raises(error, match=match):
        async with open_store(directory):
            pass
    with pytest.raises(error, match=match):
        check_store(directory)


async def test_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = "this is a letter to my aunt, not a database\n" * 100
    (tmp_path / "admin.db").write_text(text)
    await expect_refusal(tmp_path, StoreCorrupt, r"admin\.db: file is not a database")
    assert (tmp_path / "admin.db").read_text() == text


async def test_damaged_file_is_refused(tmp_path: Path) -> None:
    file = await make(tmp_path)
    content = bytearray(file.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    file.write_bytes(content)
    await expect_refusal(tmp_path, StoreCorrupt, r"admin\.db: ")


async def test_truncated_file_is_refused(tmp_path: Path) -> None:
    file = await make(tmp_path)
    file.write_bytes(file.read_bytes()[:5000])
    await expect_refusal(tmp_path, StoreCorrupt, r"admin\.db: ")


async def test_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    execute(await make(tmp_path), "PRAGMA user_version = 1000")
    await expect_refusal(tmp_path, StoreCorrupt, "made by a newer version: schema 1000, known are ")


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
async def test_file_of_each_older_version_is_upgraded_and_keeps_what_it_has(tmp_path: Path, version: int) -> None:
    file = tmp_path / "admin.db"
    for step in MIGRATIONS[:version]:
        for statement in step:
            execute(file, statement)
    execute(file, f"PRAGMA user_version = {version}")
    if version > 0:
        execute(
            file,
            "INSERT INTO users (tenant_id, user_id, attributes, changed_at_s) VALUES (?, ?, ?, ?)",
            *("acme", "bob", '{"site": "b1"}', 1),
        )
    async with open_store(tmp_path) as store:
        found = await store.users.find("acme", "bob")
        assert (found and found.attributes) == ({"site": "b1"} if version > 0 else None)
        await store.users.put(User("acme", "eve"))
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    upgraded = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    fresh = sqlite3.connect(await make(tmp_path / "fresh"))
    assert upgraded == fresh.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    fresh.close()


async def test_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        async with open_store(tmp_path / "file" / "data"):
            pass


def test_missing_database_is_fine_for_a_check_which_makes_none(tmp_path: Path) -> None:
    check_store(tmp_path)
    check_store(None)
    assert list(tmp_path.iterdir()) == []


async def test_lock_of_another_process_keeps_from_writing_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    file = await make(tmp_path)
    async with open_store(tmp_path) as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match=r"another process has held the lock for 0\.05 s"):
            await store.users.put(User("acme", "eve"))
        assert await store.users.find("acme", "bob") is not None
        other.execute("ROLLBACK")
        other.close()
        assert await store.users.find("acme", "eve") is None
        await store.users.put(User("acme", "eve"))


async def test_lock_at_the_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(await make(tmp_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await expect_refusal(tmp_path, StoreLocked, "another process has held the lock")
    other.close()


async def test_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    """The writer's thread is held for as long as the reader needs."""
    async with open_store(tmp_path) as store, trio.open_nursery() as nursery:
        has_read = threading.Event()
        nursery.start_soon(store._database.write, lambda connection: has_read.wait(10))
        assert await store.users.count() == 0
        has_read.set()


async def test_work_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM users")
        raise RuntimeError("half way")

    await make(tmp_path)
    async with open_store(tmp_path) as store:
        with pytest.raises(RuntimeError, match="half way"):
            await store._database.write(half)
        assert await store.users.count() == 1


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("users", "UPDATE users SET attributes = 'nonsense'"),
        ("users", "UPDATE users SET password_hash = 'secret'"),
        ("rules", "INSERT INTO rules VALUES (7, 1, 'alow', 'publish', 'a', NULL, NULL, NULL, 2, 1)"),
        ("rules", "INSERT INTO rules VALUES (7, 1, 'allow', 'publish', 'a#', NULL, NULL, NULL, 2, 1)"),
        ("rules", "INSERT INTO rules VALUES (7, 1, 'allow', 'read', 'a', NULL, NULL, NULL, 2, 1)"),
        ("settings", "INSERT INTO settings VALUES ('acme', 'MaximumQoS', 'one')"),
        ("bans", "INSERT INTO bans VALUES (1, 'house', '', 'x', '', 0, NULL)"),
    ],
)
async def test_row_that_makes_no_sense_is_named(tmp_path: Path, table: str, statement: str) -> None:
    execute(await make(tmp_path), statement)
    async with open_store(tmp_path) as store:
        read = {
            "users": lambda: store.users.find("acme", "bob"),
            "rules": store.rules.all,
            "settings": store.settings.all,
            "bans": store.bans.all,
        }[table]
        with pytest.raises(StoreCorrupt, match=f"{table}: ") as raised:
            await read()
    assert "secret" not in str(raised.value)


async def test_closed_database_is_unavailable() -> None:
    async with open_store(None) as store:
        pass
    with pytest.raises(StoreUnavailable):
        await store.users.count()


async def test_broker_goes_on_while_its_database_is_broken(tmp_path: Path) -> None:
    async with broker_with(data={"dir": str(tmp_path)}) as broker, connect(broker, client_id="c") as client:
        broker.store._database.close()
        with pytest.raises(StoreUnavailable):
            await broker.store.users.count()
        await client.ping()
        async with connect(broker, client_id="d"):
            pass


@rookery_only
def test_process_refuses_a_file_that_is_no_database_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "admin.db").write_text("nonsense" * 1000)
    for command in (("serve", "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0"), ("check",)):
        with run_process(*rookery_command(*command, "--data", str(tmp_path))) as process:
            process.wait(READY_DEADLINE_S)
            assert process.popen.returncode == ExitCode.CONFIG
            assert "admin.db: file is not a database" in process.stderr.lines[-1]
            assert "Traceback" not in str(process.stderr)
