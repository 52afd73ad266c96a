"""Backups: what is in them, what is refused, and that neither a backup nor a restore leaves half a thing behind."""

import json
import os
import stat
from pathlib import Path

import pytest

from rookery.core.log.errors import LogDamagedError, LogTooNewError
from rookery.server.backup import BackupError, TargetError, back_up, read_backup, restore_backup
from rookery.server.data_directory import (
    DataDirectoryError,
    DataDirectoryInUse,
    NoDataDirectory,
    lock_directory,
    settle_directory,
)
from rookery.server.store import StoreCorrupt, User, open_store
from support.log_files import LAST_MARK_SIZE, make_newer
from support.memory_broker import Broker

COUNT = 20
KEPT = {"clean_start": False, "session_expiry_interval": 1000}


def fill(directory: Path, starts: int = 2) -> list[Path]:
    """A log with messages for a reader that is away; its segments, one for each start."""
    (directory / "log").mkdir(parents=True, exist_ok=True)
    for number in range(starts):
        broker = Broker(data=directory / "log", min_session_expiry_seconds=1)
        if number == 0:
            reader = broker.connect("reader", **KEPT)
            reader.subscribe("a", qos=1)
            reader.drop()
        writer = broker.connect("writer")
        for index in range(COUNT):
            writer.publish("a", b"%d" % (number * COUNT + index), qos=1)
        broker.close()
    return sorted((directory / "log").glob("*.log"))


def waiting(directory: Path) -> list[int]:
    broker = Broker(data=directory / "log", min_session_expiry_seconds=1)
    reader = broker.open()
    assert reader.connect(client_id="reader", **KEPT).session_present
    numbers = [int(message.payload) for message in reader.take_messages()]
    broker.close()
    return numbers


async def test_log_and_admin_database_come_back(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    async with open_store(tmp_path / "data") as store:
        await store.users.put(User("acme", "bob"))
        made = back_up(tmp_path / "data", tmp_path / "backup")  # what is still in the write-ahead log is in it
        await store.users.put(User("acme", "late"))
    assert {str(file) for file in made.files} == {
        "admin.db",
        "log/0000000000000001.log",
        "log/0000000000000002.log",
    }
    assert made.size == sum((tmp_path / "backup" / file).stat().st_size for file in made.files)
    assert restore_backup(tmp_path / "backup", tmp_path / "new") == made == read_backup(tmp_path / "backup")
    async with open_store(tmp_path / "new") as store:
        assert [user.user_id for user in await store.users.page("acme")] == ["bob"]
    assert waiting(tmp_path / "new") == list(range(2 * COUNT))
    assert waiting(tmp_path / "data") == list(range(2 * COUNT))


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "new")
    for top in (tmp_path / "backup", tmp_path / "new"):
        for path in (top, *top.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_linked_backup_shares_what_is_never_written_to_again(tmp_path: Path) -> None:
    segments = fill(tmp_path / "data", 3)
    back_up(tmp_path / "data", tmp_path / "backup", is_linked=True)
    shared = [os.path.samefile(path, tmp_path / "backup" / "log" / path.name) for path in segments]
    assert shared == [True, True, False]
    restore_backup(tmp_path / "backup", tmp_path / "new")
    assert not any(path.stat().st_nlink > 1 for path in (tmp_path / "new" / "log").iterdir())
    assert waiting(tmp_path / "data") == list(range(3 * COUNT))
    # Its owner goes on, and the backup stays what it was.
    restore_backup(tmp_path / "backup", tmp_path / "again")
    assert waiting(tmp_path / "again") == list(range(3 * COUNT))


def test_torn_end_is_left_out(tmp_path: Path) -> None:
    (path,) = fill(tmp_path / "data", 1)
    torn = path.read_bytes()[: -LAST_MARK_SIZE - 5]
    path.write_bytes(torn + bytes(100_000))
    back_up(tmp_path / "data", tmp_path / "backup")
    assert (tmp_path / "backup" / "log" / path.name).stat().st_size < len(torn)
    restore_backup(tmp_path / "backup", tmp_path / "new")
    assert waiting(tmp_path / "new") == list(range(COUNT - 1))


def test_file_that_was_not_begun_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "data", 1)
    (tmp_path / "data" / "log" / "0000000000000002.log").write_bytes(bytes(4096))
    made = back_up(tmp_path / "data", tmp_path / "backup")
    assert [str(file) for file in made.files] == ["log/0000000000000001.log"]


@pytest.mark.parametrize("segment", [0, 1])
def test_damaged_log_makes_no_backup(tmp_path: Path, segment: int) -> None:
    path = fill(tmp_path / "data")[segment]
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LogDamagedError, match=rf"{path.name}: offset \d+: "):
        back_up(tmp_path / "data", tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_log_of_a_later_version_makes_no_backup(tmp_path: Path) -> None:
    make_newer(fill(tmp_path / "data")[1])
    with pytest.raises(LogTooNewError, match="has format 2"):
        back_up(tmp_path / "data", tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_damaged_admin_database_makes_no_backup(tmp_path: Path) -> None:
    fill(tmp_path / "data", 1)
    (tmp_path / "data" / "admin.db").write_bytes(b"no database at all" * 500)
    (tmp_path / "backup").mkdir()
    with pytest.raises(StoreCorrupt):
        back_up(tmp_path / "data", tmp_path / "backup")
    assert list((tmp_path / "backup").iterdir()) == []  # as it was


def test_backup_goes_to_a_new_or_empty_directory_only(tmp_path: Path) -> None:
    fill(tmp_path / "data", 1)
    (tmp_path / "backup").mkdir()
    back_up(tmp_path / "data", tmp_path / "backup")
    for target in (tmp_path / "backup", tmp_path / "data" / "log" / "0000000000000001.log"):
        with pytest.raises(TargetError, match="it exists already"):
            back_up(tmp_path / "data", target)
    with pytest.raises(NoDataDirectory):
        back_up(tmp_path / "none", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_restore_overwrites_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "data", 1)
    back_up(tmp_path / "data", tmp_path / "backup")
    content = (tmp_path / "data" / "log" / "0000000000000001.log").read_bytes()
    with pytest.raises(TargetError, match="it has log already"):
        restore_backup(tmp_path / "backup", tmp_path / "data")
    assert (tmp_path / "data" / "log" / "0000000000000001.log").read_bytes() == content
    (tmp_path / "admin").mkdir()
    (tmp_path / "admin" / "admin.db").touch()
    with pytest.raises(TargetError, match=r"it has admin\.db already"):
        restore_backup(tmp_path / "backup", tmp_path / "admin")


@pytest.mark.parametrize("place", ["log/0000000000000001.log", "backup.json"])
def test_changed_or_unfinished_backup_is_refused(tmp_path: Path, place: str) -> None:
    fill(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "backup")
    path = tmp_path / "backup" / place
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(BackupError, match=path.name):
        restore_backup(tmp_path / "backup", tmp_path / "new")
    path.unlink()
    with pytest.raises(BackupError, match=path.name):
        restore_backup(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new" / "log").exists()
    # What is left of the attempt keeps a broker off, and the next one does it all.
    if place != "backup.json":
        with pytest.raises(DataDirectoryError, match="a restore was not finished"):
            settle_directory(tmp_path / "new")
    path.write_bytes(content)
    restore_backup(tmp_path / "backup", tmp_path / "new")
    assert waiting(tmp_path / "new") == list(range(2 * COUNT))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "has format 2, this version of Rookery reads up to 1"),
        ({"format": "x"}, "has format x"),
        ({"created_ms": None}, "cannot be understood"),
        ({"files": []}, "cannot be understood"),
        ({"files": {"log/a.log": {"bytes": 1}}}, "cannot be understood"),
        ({"files": {"../../secret": {"bytes": 1, "sha256": ""}}}, "is no part of a backup"),
        ({"files": {"/secret": {"bytes": 1, "sha256": ""}}}, "is no part of a backup"),
        ({"files": {"log/..": {"bytes": 1, "sha256": ""}}}, "is no part of a backup"),
    ],
)
def test_manifest_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    fill(tmp_path / "data", 1)
    back_up(tmp_path / "data", tmp_path / "backup")
    manifest = tmp_path / "backup" / "backup.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes()) | change), encoding="utf-8")
    with pytest.raises(BackupError, match=complaint):
        restore_backup(tmp_path / "backup", tmp_path / "new")


async def test_directory_in_use_is_not_restored_to(tmp_path: Path) -> None:
    fill(tmp_path / "data", 1)
    back_up(tmp_path / "data", tmp_path / "backup")
    with lock_directory(tmp_path / "new"), pytest.raises(DataDirectoryInUse):
        restore_backup(tmp_path / "backup", tmp_path / "new")
