"""Looking into a log without changing it, and making a whole one of what a damaged one still has."""

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rookery.core.log.errors import LogDamagedError, LogError
from rookery.core.log.segments import HEADER, HEADER_SIZE, Segment, read_segment

from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rookery.core.log.batch cimport LogBatch, batch_begin, batch_clear, batch_end, batch_init
from rookery.core.log.durable_log cimport DurableLog
from rookery.core.log.format cimport GROUP_GOES_ON, KIND_MARK, SEGMENT_HEADER_SIZE, log_seed
from rookery.core.log.recovery cimport SCAN_DAMAGED, Scan, ScanVerdict, scan_segment
from rookery.core.log.salvage cimport SALVAGE_HOLES, Salvage, position_by_marks, salvage_segment
from rookery.core.log.writer cimport Log, log_submit

cdef enum:
    _BATCH_SIZE = 1048576  # bytes that copy_log submits at once

_POLL_S = 0.001


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes that are lost: in a file from offset on, or a file that is not there."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class SegmentFindings:
    """What one segment holds."""

    path: Path
    number: int
    first_position: int
    created_ms: int  # Unix time; 0 when the header is damaged
    size: int  # bytes of the file
    commits: int
    records: int
    counts: dict[int, int]  # records by kind
    bytes: dict[int, int]  # that these take, by kind
    end_offset: int  # behind the last whole group
    holes: tuple[Hole, ...]  # the first SALVAGE_HOLES of them
    hole_count: int
    lost_bytes: int
    torn_bytes: int  # of the last segment: a commit that was not finished
    complaint: str  # about the header, or the bytes before the segment; "" = none

    @property
    def is_damaged(self) -> bool:
        return self.hole_count > 0 or self.complaint != ""

    @property
    def first_bad_offset(self) -> int | None:
        """In the file; None when nothing is wrong with it."""
        if self.complaint != "":
            return 0
        return self.holes[0].offset if self.holes else None


@dataclass(frozen=True, slots=True)
class _Plan:
    """A file and what is to be taken from it."""

    path: Path
    number: int
    log_id: int
    first_position: int
    created_ms: int
    size: int
    complaint: str


# Copying

cdef struct _Copy:
    Log *log          # NULL: only count
    LogBatch batch
    uint64_t submitted  # number of the last batch


cdef int _take(
    void *context, uint64_t position, uint8_t kind, const uint8_t *body, uint32_t size
) noexcept nogil:
    cdef _Copy *copy = <_Copy *> context
    cdef uint8_t *out
    if copy.log == NULL:
        return 0
    out = batch_begin(&copy.batch, kind, size)
    if out == NULL:
        return -1
    memcpy(out, body, size)
    batch_end(&copy.batch)
    if copy.batch.size > _BATCH_SIZE and not kind & GROUP_GOES_ON:
        copy.submitted = log_submit(copy.log, 0, &copy.batch)
    return 0


cdef uint64_t _position_by_marks(path, uint64_t log_id) except? 0:
    """Where a segment begins whose header does not say so; UINT64_MAX = nothing of this log is in it."""
    cdef const uint8_t[::1] data
    cdef const uint8_t *behind_header
    cdef uint64_t position, size
    cdef uint32_t seed = log_seed(log_id)
    if path.stat().st_size <= HEADER_SIZE:
        return UINT64_MAX
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        data = mapped
        behind_header = &data[0] + SEGMENT_HEADER_SIZE
        size = data.shape[0] - SEGMENT_HEADER_SIZE
        with nogil:
            position = position_by_marks(behind_header, size, seed)
        data = None
    return position


cdef _findings(plan, const Salvage *salvage):
    cdef uint32_t index
    counts = {}
    sizes = {}
    holes = []
    for index in range(KIND_MARK):
        if salvage.counts[index] > 0:
            counts[index] = salvage.counts[index]
            sizes[index] = salvage.bytes[index]
    for index in range(SALVAGE_HOLES):
        if index < salvage.hole_count:
            holes.append(Hole(plan.path, HEADER_SIZE + salvage.holes[index].offset, salvage.holes[index].size))
    return SegmentFindings(
        path=plan.path,
        number=plan.number,
        first_position=plan.first_position,
        created_ms=plan.created_ms,
        size=plan.size,
        commits=salvage.commits,
        records=salvage.records,
        counts=counts,
        bytes=sizes,
        end_offset=HEADER_SIZE + salvage.end,
        holes=tuple(holes),
        hole_count=salvage.hole_count,
        lost_bytes=salvage.lost_bytes,
        torn_bytes=salvage.torn_bytes,
        complaint=plan.complaint,
    )


@contextmanager
def _content(path: Path, is_live: bool) -> Iterator[object]:
    """The bytes of a file. Those of one that a process writes to are read: it may be cut at any time, and touching what
    is mapped and cut off ends this process."""
    with path.open("rb") as file:
        if is_live:
            yield file.read()
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


cdef _salvage(plan, uint64_t limit, _Copy *copy, is_live):
    """Findings of one segment; its records go where copy says."""
    cdef const uint8_t[::1] data
    cdef const uint8_t *behind_header
    cdef int result = 0
    cdef uint64_t first_position = plan.first_position
    cdef uint32_t seed = log_seed(plan.log_id)
    cdef uint64_t size = max(plan.size - HEADER_SIZE, 0)
    cdef uint8_t nothing = 0
    cdef Salvage *salvage = <Salvage *> malloc(sizeof(Salvage))
    if salvage == NULL:
        raise MemoryError
    try:
        if size == 0:
            with nogil:
                result = salvage_segment(&nothing, 0, seed, first_position, limit, _take, copy, salvage)
        else:
            with _content(plan.path, is_live) as content:
                data = content
                behind_header = &data[0] + SEGMENT_HEADER_SIZE
                size = data.shape[0] - SEGMENT_HEADER_SIZE
                with nogil:
                    result = salvage_segment(
                        behind_header, size, seed, first_position, limit, _take, copy, salvage)
                data = None
        if result != 0:
            raise MemoryError
        if is_live:
            # What looks damaged or torn was being written while it was read.
            salvage.hole_count = salvage.lost_bytes = salvage.torn_bytes = 0
        return _findings(plan, salvage)
    finally:
        free(salvage)


# What there is

def _plans(folder: Path) -> list[_Plan]:
    """Every file with something of the log in it, oldest first. Raises LogTooNewError, and LogDamagedError when files
    are of several logs or none can be told to be of one."""
    plans: list[_Plan] = []
    headless: list[tuple[Path, str]] = []
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".log"):
        try:
            segment = read_segment(path)
        except LogDamagedError as error:
            headless.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        if segment is None:
            # Never begun, as a rule; or its beginning is gone, and what follows is not.
            headless.append((path, ""))
        else:
            plans.append(_plan(segment))
    ids = {plan.log_id for plan in plans}
    if len(ids) > 1:
        raise LogDamagedError(f"{folder}: has segments of {len(ids)} logs")
    for path, complaint in headless:
        plan = _headless_plan(path, complaint or "the header is missing", ids)
        if plan is None and complaint == "":
            continue
        if plan is None:
            raise LogDamagedError(f"{path}: {complaint}, and nothing in it can be told to be of this log")
        plans.append(plan)
    plans.sort(key=lambda plan: (plan.first_position, plan.path.name))
    names = sorted(plan.path.name for plan in plans)
    return [
        plan if plan.path.name == name else replace(plan, complaint=plan.complaint or "the file has another one's name")
        for plan, name in zip(plans, names, strict=True)
    ]


def _unbegun(folder: Path, begun: set[Path]) -> list[SegmentFindings]:
    """Files without anything in them: the last one was being made when the process ended."""
    paths = {path for path in folder.iterdir() if path.suffix == ".log"}
    findings = []
    for path in sorted(paths - begun):
        is_last = path == max(paths)
        findings.append(SegmentFindings(
            path=path, number=0, first_position=0, created_ms=0, size=path.stat().st_size, commits=0, records=0,
            counts={}, bytes={}, end_offset=0, holes=(), hole_count=0, lost_bytes=0,
            torn_bytes=path.stat().st_size if is_last else 0,
            complaint="" if is_last else "the header is damaged, and later segments follow",
        ))
    return findings


def _plan(segment: Segment) -> _Plan:
    return _Plan(
        segment.path, segment.number, segment.log_id, segment.first_position, segment.created_ms, segment.size, "")


def _headless_plan(path: Path, complaint: str, ids: set[int]) -> _Plan | None:
    """By the marks in it, whose checksums tell which log they are of."""
    with path.open("rb") as file:
        header = file.read(HEADER_SIZE)
    # The damaged header may still have the right id.
    candidates = set(ids) or ({HEADER.unpack_from(header)[3]} if len(header) == HEADER_SIZE else set())
    for log_id in candidates:
        position = _position_by_marks(path, log_id)
        if position != UINT64_MAX:
            number = int(path.stem) if path.stem.isdigit() else 0
            return _Plan(path, number, log_id, position, 0, path.stat().st_size, complaint)
    return None


cdef list _walk(list plans, _Copy *copy, log, is_live):
    """Findings of all segments, in order. With a log: each one's records are committed to it before the next one is
    read, so that no more than one segment is in memory."""
    cdef uint64_t limit
    findings = []
    for index, plan in enumerate(plans):
        limit = plans[index + 1].first_position if index + 1 < len(plans) else UINT64_MAX
        findings.append(_salvage(plan, limit, copy, is_live and limit == UINT64_MAX))
        if log is not None:
            if copy.batch.size > 0:
                copy.submitted = log_submit(copy.log, 0, &copy.batch)
            _await(log, copy.submitted)
    return findings


def _await(log: DurableLog, number: int) -> None:
    while log.committed(0) < number:
        error = log.state().error
        if error != 0:
            raise LogError(f"{log.folder}: {os.strerror(error)}")
        time.sleep(_POLL_S)


def inspect_log(folder: str | os.PathLike[str], *, is_live: bool = False) -> list[SegmentFindings]:
    """What the segments of a folder hold, oldest first; nothing is changed. is_live: a process may be writing to it,
    so that what is wrong with the last one is not told. Raises LogError for what is no log of this version, and
    FileNotFoundError when a segment has gone meanwhile."""
    cdef _Copy copy
    memset(&copy, 0, sizeof(copy))
    plans = _plans(Path(folder))
    return _walk(plans, &copy, None, is_live) + _unbegun(Path(folder), {plan.path for plan in plans})


cdef int _pass(
    void *context, uint64_t position, uint8_t kind, const uint8_t *body, uint32_t size
) noexcept nogil:
    return 0


def measure_segment(path: str | os.PathLike[str]) -> tuple[int, bool]:
    """Bytes of a segment's file up to the first place that is not as it should be, 0 when it was never begun; and
    whether there was more on the disk once. A process may be writing to it. Raises LogError, and FileNotFoundError."""
    cdef Scan scan
    cdef ScanVerdict verdict
    cdef const uint8_t[::1] data
    cdef const uint8_t *behind_header
    cdef uint64_t size, first_position
    cdef uint32_t seed
    segment = read_segment(Path(path))
    if segment is None:
        return 0, False
    seed = log_seed(segment.log_id)
    first_position = segment.first_position
    with _content(Path(path), True) as content:
        data = content
        size = data.shape[0]
        if size <= SEGMENT_HEADER_SIZE:
            return HEADER_SIZE, False
        size -= SEGMENT_HEADER_SIZE
        behind_header = &data[0] + SEGMENT_HEADER_SIZE
        with nogil:
            verdict = scan_segment(
                behind_header, size, seed, first_position, UINT64_MAX, _pass, NULL, &scan)
        data = None
    return HEADER_SIZE + scan.end, verdict == SCAN_DAMAGED


def copy_log(folder: str | os.PathLike[str], log: DurableLog) -> list[SegmentFindings]:
    """Append what can be read of a folder's segments to a log that runs, with a record of KIND_HOLE for each hole, and
    wait until it is committed; nothing is changed in the folder. Raises LogError, also when log cannot be written."""
    cdef _Copy copy
    memset(&copy, 0, sizeof(copy))
    copy.log = &log.log
    batch_init(&copy.batch, log.log.seed)
    try:
        return _walk(_plans(Path(folder)), &copy, log, False)
    finally:
        batch_clear(&copy.batch)
