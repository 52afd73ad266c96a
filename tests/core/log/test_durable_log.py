"""The durable log: what is committed comes back, whole groups in order; what is not whole is cut or refused."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rookery.core.log.durable_log import DurableLog, RecordWriter
from rookery.core.log.errors import LogDamagedError, LogError, LogTooNewError
from support.log_files import LAST_MARK_SIZE, make_newer
from support.waiting import wait_until

Records = list[tuple[int, bytes]]


@contextmanager
def running(folder: Path, **options: object) -> Iterator[DurableLog]:
    """A log of this folder whose writer runs; recovered first."""
    log = DurableLog(folder, **options)  # type: ignore[arg-type]  # options of the constructor
    log.skip()
    thread = threading.Thread(target=log.run)
    thread.start()
    try:
        yield log
    finally:
        log.stop()
        thread.join()


def read(folder: Path) -> Records:
    return [(kind, body) for _, kind, body in DurableLog(folder).recover()]


def commit(log: DurableLog, writer: RecordWriter, records: Records) -> None:
    """Append the records as one batch and wait until it is committed."""
    for kind, body in records:
        writer.append(kind, body)
    number = writer.submit()
    wait_until(lambda: log.committed(0) >= number)


def write(folder: Path, batches: list[Records], **options: object) -> None:
    with running(folder, **options) as log:
        writer = RecordWriter(log)
        for batch in batches:
            commit(log, writer, batch)


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.log")
    return path


def test_new_log_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path) == []


@pytest.mark.parametrize("sync", ["always", "interval", "never"])
def test_what_was_committed_comes_back_in_order(tmp_path: Path, sync: str) -> None:
    batches = [[(1, b"%d" % number), (2, bytes(number))] for number in range(50)]
    write(tmp_path, batches, sync=sync)
    assert read(tmp_path) == [record for batch in batches for record in batch]


def test_log_goes_on_after_each_start(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path, [[(1, b"%d" % number)]])
    assert read(tmp_path) == [(1, b"%d" % number) for number in range(5)]
    assert len(list(tmp_path.glob("*.log"))) == 5


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    write(tmp_path, [[(1, b"x")]])
    assert only_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_segments_follow_one_another(tmp_path: Path) -> None:
    batches = [[(1, bytes([number]) * 1000)] for number in range(100)]
    write(tmp_path, batches, segment_size=4096)
    assert len(list(tmp_path.glob("*.log"))) > 15
    assert read(tmp_path) == [batch[0] for batch in batches]


def test_segments_before_a_position_go(tmp_path: Path) -> None:
    with running(tmp_path, segment_size=4096) as log:
        writer = RecordWriter(log)
        for number in range(40):
            commit(log, writer, [(1, b"%d" % number + bytes(1000))])
        position = log.state().position
        commit(log, writer, [(2, b"kept")])
        before = log.state()
        log.drop_before(position)
        wait_until(lambda: log.state().segments < 3)
        assert log.state().total_bytes < before.total_bytes
    records = read(tmp_path)
    assert records[-1] == (2, b"kept")
    assert len(records) < 10


def test_two_sources_are_committed_each_by_its_own_numbers(tmp_path: Path) -> None:
    with running(tmp_path) as log:
        writers = [RecordWriter(log, source) for source in range(2)]
        for writer in writers:
            writer.append(1, b"x")
        assert [writer.submit() for writer in writers] == [1, 1]
        assert writers[1].submit() == 0  # nothing in it
        writers[1].append(1, b"y")
        assert writers[1].submit() == 2
        wait_until(lambda: (log.committed(0), log.committed(1)) == (1, 2))


# Torn ends and damage


@given(
    groups=st.lists(
        st.lists(st.tuples(st.integers(1, 126), st.binary(max_size=40)), min_size=1, max_size=4), max_size=8
    ),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_cut_anywhere_leaves_a_prefix_of_whole_groups(
    tmp_path_factory: pytest.TempPathFactory, groups: list[Records], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    with running(folder) as log:
        writer = RecordWriter(log)
        for group in groups:
            for place, (kind, body) in enumerate(group):
                writer.append(kind, body, goes_on=place + 1 < len(group))
            if data.draw(st.booleans()):
                writer.submit()
        writer.submit()
    prefixes = [[record for group in groups[:count] for record in group] for count in range(len(groups) + 1)]
    if not groups:
        return
    path = only_file(folder)
    whole = path.read_bytes()
    # A part, not a number of bytes: how long the file is depends on how the commits were gathered.
    cut = round(data.draw(st.floats(0, 1)) * len(whole))
    path.write_bytes(whole[:cut])
    records = read(folder)
    assert records in prefixes
    if cut == len(whole):
        assert records == prefixes[-1]
    # It goes on behind the cut.
    write(folder, [[(7, b"later")]])
    assert read(folder) == [*records, (7, b"later")]


def test_cut_at_every_byte_of_the_last_commit_leaves_the_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, [[(1, b"first")], [(2, b"second record")]])
    path = only_file(tmp_path)
    whole = path.read_bytes()
    first_end = whole.index(b"first") + len(b"first")
    second_end = len(whole) - LAST_MARK_SIZE
    for cut in range(first_end, len(whole)):
        path.write_bytes(whole[:cut])
        assert read(tmp_path) == [(1, b"first"), (2, b"second record")][: 1 + (cut >= second_end)], cut
    path.write_bytes(whole)
    assert read(tmp_path) == [(1, b"first"), (2, b"second record")]


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_flipped_bit_anywhere_gives_a_prefix_or_a_refusal(tmp_path: Path, is_killed: bool) -> None:
    batches = [[(1, b"first")], [(2, b"second"), (3, b"third")], [(4, b"fourth")]]
    write(tmp_path, batches)
    expected = [record for batch in batches for record in batch]
    prefixes = [expected[:count] for count in range(len(expected) + 1)]
    path = only_file(tmp_path)
    whole = path.read_bytes()
    if is_killed:
        whole = whole[:-LAST_MARK_SIZE]
    refused = cut = 0
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            records = read(tmp_path)
        except LogError:
            refused += 1
        else:
            assert records in prefixes, bit
            cut += records != expected
            path.write_bytes(whole)
    assert refused > len(whole)  # everything before the last commit, at least
    # Nothing shows that the last commit was synced, unless the process stopped in order.
    assert (cut > 0) == is_killed


def test_damage_names_file_and_offset_and_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, [[(1, b"first")], [(2, b"second")]])
    path = only_file(tmp_path)
    damaged = bytearray(path.read_bytes())
    place = damaged.index(b"first")
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LogDamagedError, match=rf"{path.name}: offset {place - 9}: the record is damaged"):
        read(tmp_path)
    assert path.read_bytes() == damaged


def test_damage_in_an_earlier_segment_is_refused_wherever_it_is(tmp_path: Path) -> None:
    write(tmp_path, [[(1, b"last commit of its segment")]])
    write(tmp_path, [[(2, b"x")]])
    first = min(tmp_path.glob("*.log"))
    damaged = bytearray(first.read_bytes())
    damaged[-1] ^= 1
    first.write_bytes(damaged)
    with pytest.raises(LogDamagedError):
        read(tmp_path)
    first.unlink()
    assert read(tmp_path) == [(2, b"x")]


def test_missing_segment_in_between_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, [[(1, b"%d" % number)]])
    sorted(tmp_path.glob("*.log"))[1].unlink()
    with pytest.raises(LogDamagedError):
        read(tmp_path)


def test_later_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [[(1, b"x")]])
    path = only_file(tmp_path)
    make_newer(path)
    content = path.read_bytes()
    with pytest.raises(LogTooNewError, match=f"{path}: has format 2, this version of Rookery reads up to 1"):
        read(tmp_path)
    assert path.read_bytes() == content


def test_file_whose_first_block_is_lost_is_refused_and_stays(tmp_path: Path) -> None:
    write(tmp_path, [[(1, bytes(range(256)) * 40)]])
    path = only_file(tmp_path)
    damaged = bytes(4096) + path.read_bytes()[4096:]
    path.write_bytes(damaged)
    with pytest.raises(LogDamagedError, match="the header is missing"):
        read(tmp_path)
    assert path.read_bytes() == damaged


def test_segments_of_two_logs_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, [[(1, name.encode())]])
    only_file(tmp_path / "b").rename(tmp_path / "a" / "0000000000000002.log")
    with pytest.raises(LogDamagedError, match="belongs to another log"):
        read(tmp_path / "a")


def test_file_that_was_being_made_is_removed(tmp_path: Path) -> None:
    write(tmp_path, [[(1, b"x")]])
    for content in (b"", bytes(10), bytes(4096)):
        (tmp_path / "0000000000000002.log").write_bytes(content)
        assert read(tmp_path) == [(1, b"x")]
        assert len(list(tmp_path.glob("*.log"))) == 1


# Disks that fail


def test_what_was_not_synced_may_be_lost_but_what_was_committed_is_not(tmp_path: Path) -> None:
    """A disk that keeps only what was synced: the file is cut where the log says that it had been synced."""
    with running(tmp_path) as log:
        writer = RecordWriter(log)
        for number in range(20):
            commit(log, writer, [(1, b"%d" % number)])
            image = only_file(tmp_path).read_bytes()[: 64 + log.state().synced_position]
            copy = tmp_path / f"copy{number}"
            copy.mkdir()
            (copy / "0000000000000001.log").write_bytes(image)
    for number in range(20):
        assert read(tmp_path / f"copy{number}") == [(1, b"%d" % n) for n in range(number + 1)]


@pytest.mark.parametrize(
    "fault",
    [
        {"error": errno.ENOSPC, "writable_bytes": 0},
        {"error": errno.ENOSPC, "writable_bytes": 100},
        {"error": errno.EIO, "good_syncs": 0},
        {"error": errno.EIO, "good_syncs": 0, "creation": True},
    ],
)
def test_nothing_is_committed_while_the_disk_fails_and_all_is_afterwards(tmp_path: Path, fault: dict[str, int]) -> None:
    with running(tmp_path) as log:
        writer = RecordWriter(log)
        commit(log, writer, [(1, b"before")])
        log.fail(**fault)  # type: ignore[arg-type]  # words of fail
        for number in range(3):
            writer.append(2, b"%d" % number + bytes(200))
            writer.submit()
        wait_until(lambda: log.state().failures >= 2)
        assert log.committed(0) == 1
        assert log.state().error == fault["error"]
        log.fail(0)
        wait_until(lambda: log.committed(0) == 4)
        assert log.state().error == 0
        commit(log, writer, [(3, b"after")])
    assert read(tmp_path) == [(1, b"before"), *((2, b"%d" % n + bytes(200)) for n in range(3)), (3, b"after")]


def test_failed_sync_is_never_believed_afterwards(tmp_path: Path) -> None:
    """The kernel may have thrown the pages away: what was not synced goes into another file, from the beginning."""
    with running(tmp_path) as log:
        writer = RecordWriter(log)
        commit(log, writer, [(1, b"before")])
        log.fail(errno.EIO, good_syncs=0)
        writer.append(2, b"must not be lost")
        writer.submit()
        wait_until(lambda: log.state().failures >= 1)
        log.fail(0)
        wait_until(lambda: log.committed(0) == 2)
    first, second = sorted(tmp_path.glob("*.log"))
    assert b"must not be lost" not in first.read_bytes()
    assert b"must not be lost" in second.read_bytes()


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_nothing_is_committed_while_writing_succeeds_and_syncing_fails(tmp_path: Path, sync: str) -> None:
    with running(tmp_path, sync=sync, interval_ms=1) as log:
        writer = RecordWriter(log)
        commit(log, writer, [(1, b"before")])
        log.fail(errno.EIO, good_syncs=0)
        writer.append(2, b"first to be hit")
        writer.submit()
        wait_until(lambda: log.state().failures >= 1)
        committed = log.committed(0)  # an interval's write may have been told before its sync failed
        for number in range(3):
            writer.append(3, b"%d" % number)
            writer.submit()
        wait_until(lambda: log.state().failures >= 3)
        assert log.committed(0) == committed
        assert log.state().backlog_bytes > 0
        log.fail(0)
        wait_until(lambda: log.committed(0) == 5)
        wait_until(lambda: log.state().error == 0)
        assert log.state().backlog_bytes == 0
    assert read(tmp_path) == [(1, b"before"), (2, b"first to be hit"), *((3, b"%d" % n) for n in range(3))]


def test_disk_that_fails_for_long_leaves_no_trail_of_files(tmp_path: Path) -> None:
    with running(tmp_path) as log:
        writer = RecordWriter(log)
        commit(log, writer, [(1, b"before")])
        log.fail(errno.EIO, good_syncs=0)
        writer.append(2, b"later")
        writer.submit()
        wait_until(lambda: log.state().failures >= 5)
        assert len(list(tmp_path.glob("*.log"))) <= 2  # what was kept, and an attempt
        log.fail(0)
        wait_until(lambda: log.committed(0) == 2)
        state = log.state()
        assert state.segments == 2
    state = log.state()
    files = sorted(tmp_path.glob("*.log"))
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) == state.total_bytes
    assert read(tmp_path) == [(1, b"before"), (2, b"later")]


def test_sources_out_of_range_are_refused(tmp_path: Path) -> None:
    log = DurableLog(tmp_path)
    for source in (-1, 64):
        with pytest.raises(ValueError, match=f"source is {source}, allowed are 0 to 63"):
            RecordWriter(log, source)
        with pytest.raises(ValueError, match=f"source is {source}, allowed are 0 to 63"):
            log.committed(source)


@pytest.mark.parametrize("sync", ["interval", "never"])
def test_other_modes_recover_from_a_full_disk(tmp_path: Path, sync: str) -> None:
    with running(tmp_path, sync=sync, interval_ms=1) as log:
        writer = RecordWriter(log)
        commit(log, writer, [(1, b"before")])
        log.fail(errno.ENOSPC, writable_bytes=30)
        writer.append(2, bytes(300))
        writer.submit()
        wait_until(lambda: log.state().failures >= 1)
        log.fail(0)
        wait_until(lambda: log.committed(0) == 2)
    assert read(tmp_path) == [(1, b"before"), (2, bytes(300))]


def test_end_of_the_process_while_the_disk_fails_keeps_what_was_committed(tmp_path: Path) -> None:
    with running(tmp_path) as log:
        writer = RecordWriter(log)
        commit(log, writer, [(1, b"kept")])
        log.fail(errno.ENOSPC, writable_bytes=10)
        writer.append(2, bytes(100))
        writer.submit()
        wait_until(lambda: log.state().failures >= 1)
    assert read(tmp_path) == [(1, b"kept")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sync": "sometimes"}, "sync is 'sometimes', allowed are always, interval, never"),
        ({"interval_ms": 0}, "interval_ms is 0, allowed are 1 to 60000"),
        ({"segment_size": 100}, "segment_size is 100, allowed are 4096 bytes and more"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DurableLog(tmp_path, **options)  # type: ignore[arg-type]  # wrong on purpose
