"""Looking into a log, and what is saved of a damaged one: never a wrong record, never half a group."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rookery.core.log.durable_log import DurableLog, RecordWriter
from rookery.core.log.errors import LogDamagedError, LogError, LogTooNewError
from rookery.core.log.inspection import SegmentFindings, copy_log, inspect_log
from support.log_files import LAST_MARK_SIZE, make_newer
from support.waiting import wait_until

Group = list[tuple[int, bytes]]
KIND_HOLE = 0x7E


@contextmanager
def running(folder: Path, **options: object) -> Iterator[DurableLog]:
    folder.mkdir(exist_ok=True)
    log = DurableLog(folder, **options)  # type: ignore[arg-type]  # options of the constructor
    log.skip()
    thread = threading.Thread(target=log.run)
    thread.start()
    try:
        yield log
    finally:
        log.stop()
        thread.join()


def write(folder: Path, commits: list[list[Group]], **options: object) -> None:
    """Each commit holds groups, each group records."""
    with running(folder, **options) as log:
        writer = RecordWriter(log)
        for commit in commits:
            for group in commit:
                for place, (kind, body) in enumerate(group):
                    writer.append(kind, body, goes_on=place + 1 < len(group))
            number = writer.submit()
            wait_until(lambda number=number: log.committed(0) >= number)  # type: ignore[misc]  # a default binds it now


def read(folder: Path) -> Group:
    return [(kind, body) for _, kind, body in DurableLog(folder).recover()]


def repaired(source: Path, target: Path) -> tuple[Group, list[SegmentFindings]]:
    with running(target) as log:
        findings = copy_log(source, log)
    return read(target), findings


def flip(path: Path, place: int, bit: int = 0) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def numbered(count: int) -> list[list[Group]]:
    return [[[(1, b"record %04d" % number)]] for number in range(count)]


def test_findings_of_a_whole_log(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    write(folder, [[[(1, b"a"), (2, b"b")]], [[(2, b"c")]]])
    write(folder, [[[(3, b"d")]]])
    content = [path.read_bytes() for path in files(folder)]
    first, second = inspect_log(folder)
    assert (first.number, first.first_position, first.records, first.counts) == (1, 0, 3, {1: 1, 2: 2})
    assert (second.number, second.records, second.counts) == (2, 1, {3: 1})
    assert (first.bytes, second.bytes) == ({1: 9 + 1, 2: 2 * (9 + 1)}, {3: 9 + 1})
    assert second.first_position == first.end_offset - 64
    assert first.size == first.path.stat().st_size == first.end_offset
    assert not first.is_damaged
    assert first.torn_bytes == second.torn_bytes == 0
    assert [path.read_bytes() for path in files(folder)] == content


def test_empty_folder_has_no_segments(tmp_path: Path) -> None:
    assert inspect_log(tmp_path) == []


def test_log_that_is_being_written_can_be_looked_into(tmp_path: Path) -> None:
    # It is read, not mapped: when its writer cuts it, what was mapped behind the cut would end the reader.
    with running(tmp_path / "log") as log:
        writer = RecordWriter(log)
        writer.append(1, b"x")
        writer.submit()
        wait_until(lambda: log.committed(0) == 1)
        (found,) = inspect_log(tmp_path / "log", is_live=True)
        assert (found.commits, found.records) == (1, 1)
        assert found.torn_bytes == 0  # blocks that were set aside are no torn commit
        assert found.size > found.end_offset


def test_torn_end_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    write(folder, numbered(3))
    (path,) = files(folder)
    whole = path.read_bytes()
    torn = whole[: -LAST_MARK_SIZE - 3]
    path.write_bytes(torn)
    (found,) = inspect_log(folder)
    assert not found.is_damaged
    assert (found.commits, found.records) == (3, 2)
    assert found.torn_bytes == len(torn) - found.end_offset
    assert path.read_bytes() == torn


def test_damaged_record_costs_only_itself(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    write(folder, numbered(20))
    (path,) = files(folder)
    place = path.read_bytes().index(b"record 0007")
    flip(path, place)
    with pytest.raises(LogDamagedError):
        read(folder)
    records, (found,) = repaired(folder, tmp_path / "new")
    expected = [record for commit in numbered(20) for group in commit for record in group]
    assert records == [*expected[:7], (KIND_HOLE, (20).to_bytes(8, "little")), *expected[8:]]
    (hole,) = found.holes
    assert (hole.path, hole.offset, hole.size) == (path, place - 9, 20)
    assert (found.hole_count, found.lost_bytes, found.records) == (1, 20, 19)


def test_group_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    groups = [[(1, b"group %d first" % n), (2, b"group %d second" % n), (3, b"group %d third" % n)] for n in range(4)]
    write(folder, [groups, [[(4, b"later")]]])
    (path,) = files(folder)
    flip(path, path.read_bytes().index(b"group 1 second"))
    records, _ = repaired(folder, tmp_path / "new")
    saved = [record for record in records if record[0] != KIND_HOLE]
    assert saved == [*groups[0], *groups[2], *groups[3], (4, b"later")]


def test_damaged_header_is_made_good_by_the_marks(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for number in range(3):
        write(folder, [[[(1, b"%d" % number)]]])
    flip(files(folder)[1], 33)  # its first position
    with pytest.raises(LogError):
        read(folder)
    records, findings = repaired(folder, tmp_path / "new")
    assert records == [(1, b"0"), (1, b"1"), (1, b"2")]
    assert [found.complaint for found in findings] == ["", "the header is damaged", ""]


def test_only_file_with_a_damaged_header_is_saved(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    write(folder, numbered(3))
    flip(files(folder)[0], 45)  # the time of its creation
    records, (found,) = repaired(folder, tmp_path / "new")
    assert len(records) == 3
    assert found.complaint == "the header is damaged"


def test_missing_segment_is_a_hole(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for number in range(3):
        write(folder, [[[(1, b"%d" % number)]]])
    size = files(folder)[1].stat().st_size - 64
    files(folder)[1].unlink()
    records, findings = repaired(folder, tmp_path / "new")
    assert records == [(1, b"0"), (KIND_HOLE, size.to_bytes(8, "little")), (1, b"2")]
    assert [found.lost_bytes for found in findings] == [size, 0]


def test_what_is_no_log_or_of_a_later_version_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, [[[(1, b"x")]]])
    files(tmp_path / "b")[0].rename(tmp_path / "a" / "0000000000000002.log")
    with pytest.raises(LogDamagedError, match="has segments of 2 logs"):
        inspect_log(tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0000000000000001.log").write_bytes(bytes(range(200)))
    with pytest.raises(LogDamagedError, match="nothing in it can be told to be of this log"):
        inspect_log(tmp_path / "c")
    write(tmp_path / "d", [[[(1, b"x")]]])
    make_newer(files(tmp_path / "d")[0])
    with pytest.raises(LogTooNewError):
        inspect_log(tmp_path / "d")


def test_file_in_the_place_of_another_is_damage(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for number in range(2):
        write(folder, [[[(1, b"%d" % number)]]])
    files(folder)[0].rename(folder / "0000000000000003.log")
    with pytest.raises(LogDamagedError):
        read(folder)
    found = inspect_log(folder)
    assert [segment.complaint for segment in found] == ["the file has another one's name"] * 2
    records, _ = repaired(folder, tmp_path / "new")
    assert records == [(1, b"0"), (1, b"1")]


def test_large_log_is_copied_in_pieces(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(50_000)
    commits = [[[(1, body), (2, b"%d" % number)] for number in range(20)] for _ in range(5)]
    write(tmp_path / "log", commits, segment_size=1 << 20)
    records, findings = repaired(tmp_path / "log", tmp_path / "new")
    assert records == [record for commit in commits for group in commit for record in group]
    assert len(findings) > 2


PARTS = st.floats(0, 1, exclude_max=True)  # of a file, from its begin


@given(
    groups=st.lists(
        st.lists(st.tuples(st.integers(1, 125), st.binary(max_size=40)), min_size=1, max_size=4), min_size=1, max_size=8
    ),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_damage_anywhere_leaves_whole_groups_in_order(
    tmp_path_factory: pytest.TempPathFactory, groups: list[Group], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    # Bodies are unlike each other, so that groups can be told apart.
    groups = [
        [(kind, b"%d.%d " % (g, r) + body) for r, (kind, body) in enumerate(group)] for g, group in enumerate(groups)
    ]
    commits: list[list[Group]] = [[]]
    for group in groups:
        commits[-1].append(group)
        if data.draw(st.booleans()):
            commits.append([])
    write(folder / "log", [commit for commit in commits if commit])
    (path,) = files(folder / "log")
    damaged = bytearray(path.read_bytes())
    # What is drawn depends not on the size of the file, which depends on how the commits were gathered.
    for where, damage in data.draw(
        st.lists(st.tuples(PARTS, st.binary(min_size=1, max_size=30)), min_size=1, max_size=3)
    ):
        place = 64 + int(where * (len(damaged) - 64))
        for index, flipped in enumerate(damage[: len(damaged) - place], start=place):
            damaged[index] ^= flipped
    path.write_bytes(damaged)
    try:
        records, _ = repaired(folder / "log", folder / "new")
    except LogDamagedError:
        return  # no mark is left that tells what it was
    rest = [record for record in records if record[0] != KIND_HOLE]
    for group in groups:
        if rest[: len(group)] == group:
            rest = rest[len(group) :]
    assert rest == []
