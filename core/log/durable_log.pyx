"""See durable_log.pxd."""

import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from rookery.core.log.errors import LogDamagedError, LogError
from rookery.core.log.segments import HEADER_SIZE, Segment, list_segments

from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from rookery.core.log.batch cimport LogBatch, batch_begin, batch_clear, batch_end, batch_init
from rookery.core.log.format cimport (
    GROUP_GOES_ON, KIND_MARK, SEGMENT_HEADER_SIZE, SYNC_ALWAYS, SYNC_INTERVAL, SYNC_NEVER, log_seed,
)
from rookery.core.log.recovery cimport SCAN_DAMAGED, SCAN_STOPPED, SCAN_TORN, Scan, ScanVerdict, scan_segment
from rookery.core.log.writer cimport (
    LOG_BACKLOG_BYTES, LOG_FLOWS, LOG_REFUSE_AFTER_MS, LOG_REFUSES, LOG_SOURCES, log_add_segment, log_clear,
    log_drop_before, log_failing_ms, log_init, log_pressure, log_run, log_stop, log_submit,
)
from rookery.core.structures.atomics cimport atomic_load_u32, atomic_load_u64

_MODES = {"always": SYNC_ALWAYS, "interval": SYNC_INTERVAL, "never": SYNC_NEVER}
SEGMENT_SIZE = 64 * 1024 * 1024
SEGMENT_SIZE_MINIMUM = 4096
REFUSE_AFTER_MS = LOG_REFUSE_AFTER_MS
BACKLOG_LIMIT = LOG_BACKLOG_BYTES


@dataclass(frozen=True, slots=True)
class TornTail:
    """What was cut off the last segment at the start: bytes that no commit had finished."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class LogState:
    """The log as it is now; positions and sizes in bytes."""

    position: int
    synced_position: int
    total_bytes: int
    backlog_bytes: int  # submitted and not committed
    waiting_batches: int  # the same, in batches: one for a turn of a shard
    segments: int
    commits: int
    syncs: int
    sync_us: int  # that all syncs together took
    last_sync_us: int  # that the last one took, also when it failed
    sync_failures: int
    failures: int  # of writing, syncing or making segments
    last_error: int  # errno of the last failure; 0 = there was none
    error: int  # errno of what is wrong now; 0 = nothing
    failing_ms: int  # since when something is wrong; 0 = nothing is


def _check_source(source: int) -> None:
    if not 0 <= source < LOG_SOURCES:
        raise ValueError(f"source is {source}, allowed are 0 to {LOG_SOURCES - 1}")


cdef int _collect(
    void *context, uint64_t position, uint8_t kind, const uint8_t *body, uint32_t size
) noexcept nogil:
    with gil:
        try:
            (<list> context).append((position, kind, (<const char *> body)[:size]))
        except MemoryError:
            return -1
    return 0


cdef int _ignore(
    void *context, uint64_t position, uint8_t kind, const uint8_t *body, uint32_t size
) noexcept nogil:
    return 0


cdef class DurableLog:
    """A log in a folder, which must exist and belong to this process alone.

    sync is "always", "interval" (with interval_ms, 1 to 60 000) or "never". Recover first, then run() in a thread of
    its own until stop(). segment_size in bytes, from 4096. refuse_after_ms: a disk that fails for longer makes it
    refuse; backlog_limit: bytes that may wait for the disk until it holds.
    """

    def __cinit__(
        self, folder: str | os.PathLike[str], *, sync: str = "always", interval_ms: int = 100,
        segment_size: int = SEGMENT_SIZE, refuse_after_ms: int = REFUSE_AFTER_MS, backlog_limit: int = BACKLOG_LIMIT,
    ) -> None:
        self._descriptor = -1
        if sync not in _MODES:
            raise ValueError(f"sync is {sync!r}, allowed are {', '.join(_MODES)}")
        if not 1 <= interval_ms <= 60_000:
            raise ValueError(f"interval_ms is {interval_ms}, allowed are 1 to 60000")
        if segment_size < SEGMENT_SIZE_MINIMUM:
            raise ValueError(f"segment_size is {segment_size}, allowed are {SEGMENT_SIZE_MINIMUM} bytes and more")
        self.folder = Path(folder)
        self._segments = list_segments(self.folder)
        self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        cdef uint64_t log_id = secrets.randbits(64) | 1
        cdef uint64_t number = 1
        for segment in self._segments:
            log_id = segment.log_id
            number = segment.number + 1
        if log_init(&self.log, self._descriptor, log_id, 0, number, _MODES[sync], interval_ms, segment_size) != 0:
            raise MemoryError
        self.log.refuse_after_ms = refuse_after_ms
        self.log.backlog_limit = backlog_limit

    def __dealloc__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            log_clear(&self.log)

    cdef int recover_into(self, LogApply apply, void *context) except -1:
        cdef uint64_t limit
        cdef uint64_t position = 0
        for index, segment in enumerate(self._segments):
            limit = UINT64_MAX
            if index + 1 < len(self._segments):
                limit = self._segments[index + 1].first_position
            position = self._scan(segment, limit, apply, context)
            if log_add_segment(&self.log, segment.number, segment.first_position, position) != 0:
                raise MemoryError
        self.log.position = position
        self.log.synced_position = position
        self.log.kept_position = position
        self._is_open = True
        return 0

    cdef uint64_t _scan(self, segment, uint64_t limit, LogApply apply, void *context) except? 0:
        """The position behind the last record of the segment."""
        cdef Scan scan
        cdef ScanVerdict verdict
        cdef uint64_t first_position = segment.first_position
        cdef uint32_t seed = self.log.seed
        cdef const uint8_t[::1] data
        cdef const uint8_t *behind_header
        cdef uint64_t size = segment.size - HEADER_SIZE
        if size == 0:
            if limit not in (first_position, UINT64_MAX):
                raise LogDamagedError(f"{segment.path}: records are missing from offset {HEADER_SIZE} on")
            return first_position
        with segment.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            data = mapped
            behind_header = &data[0] + SEGMENT_HEADER_SIZE
            with nogil:
                verdict = scan_segment(behind_header, size, seed, first_position, limit, apply, context, &scan)
            data = None
        if verdict == SCAN_STOPPED:
            raise LogError(f"{segment.path}: offset {HEADER_SIZE + scan.bad_offset}: the record cannot be applied")
        if verdict == SCAN_DAMAGED:
            raise LogDamagedError(
                f"{segment.path}: offset {HEADER_SIZE + scan.bad_offset}: the record is damaged, and later ones were on"
                " the disk already"
            )
        if limit == UINT64_MAX:
            if verdict == SCAN_TORN:
                self.lost = TornTail(segment.path, HEADER_SIZE + scan.end, scan.lost_bytes)
            self._cut(segment, HEADER_SIZE + scan.end)
        return first_position + scan.end

    def _cut(self, segment: Segment, size: int) -> None:
        """Also what remains is synced: the process that wrote it may have ended before it could, and once there is a
        segment behind this one nothing of it may be missing."""
        with segment.path.open("r+b") as file:
            if segment.size != size:
                file.truncate(size)
            os.fsync(file.fileno())

    def recover(self) -> list[tuple[int, int, bytes]]:
        """All records, as (position, kind, body). Raises LogError."""
        records: list[tuple[int, int, bytes]] = []
        self.recover_into(_collect, <void *> records)
        return records

    def skip(self) -> None:
        """Check all records without reading them out. Raises LogError."""
        self.recover_into(_ignore, NULL)

    def run(self) -> None:
        """Write what is submitted until stop(). In a thread of its own; takes no GIL."""
        if not self._is_open:
            raise RuntimeError("the log has not been recovered")
        with nogil:
            log_run(&self.log)

    def stop(self) -> None:
        """Everything submitted goes to the disk, then run() returns."""
        log_stop(&self.log)

    def drop_before(self, position: int) -> None:
        """Segments that end at or before position may go."""
        log_drop_before(&self.log, position)

    def state(self) -> LogState:
        """Figures; each is exact, together they are not of one moment."""
        return LogState(
            position=atomic_load_u64(&self.log.position),
            synced_position=atomic_load_u64(&self.log.synced_position),
            total_bytes=atomic_load_u64(&self.log.total_bytes),
            backlog_bytes=atomic_load_u64(&self.log.backlog_bytes),
            waiting_batches=atomic_load_u64(&self.log.waiting_batches),
            segments=self.log.segment_count,
            commits=self.log.commits,
            syncs=self.log.syncs,
            sync_us=self.log.sync_us,
            last_sync_us=atomic_load_u64(&self.log.last_sync_us),
            sync_failures=self.log.sync_failures,
            failures=self.log.failures,
            last_error=atomic_load_u32(&self.log.last_error),
            error=atomic_load_u32(&self.log.error),
            failing_ms=log_failing_ms(&self.log),
        )

    @property
    def refuse_after_ms(self) -> int:
        """Milliseconds; holds from when it is set."""
        return self.log.refuse_after_ms

    @refuse_after_ms.setter
    def refuse_after_ms(self, value: int) -> None:
        self.log.refuse_after_ms = value

    @property
    def is_holding(self) -> bool:
        """Too much waits for the disk: whoever waits for it, too, is to send nothing more."""
        return log_pressure(&self.log) != LOG_FLOWS

    @property
    def is_refusing(self) -> bool:
        """The disk has failed for so long that whoever can be told so is."""
        return log_pressure(&self.log) == LOG_REFUSES

    def committed(self, source: int) -> int:
        """Number of the source's last batch that is committed; 0 = none."""
        _check_source(source)
        return atomic_load_u64(&self.log.sources[source].committed)

    def fail(
        self, error: int, *, writable_bytes: int | None = None, good_syncs: int | None = None,
        creation: bool = False,
    ) -> None:
        """Let the file system fail with this errno, for tests: when so many bytes were written, after so many syncs,
        when a segment is made. An error of 0 ends all faults."""
        self.log.files.valve.error = error
        self.log.files.valve.fails_writes = writable_bytes is not None
        self.log.files.valve.writable_bytes = writable_bytes or 0
        self.log.files.valve.fails_syncs = good_syncs is not None
        self.log.files.valve.good_syncs = good_syncs or 0
        self.log.files.valve.fails_creation = creation


cdef class RecordWriter:
    """What a shard does with its batch, for tests and benchmarks: append records, submit them."""

    cdef DurableLog _owner
    cdef LogBatch _batch
    cdef uint32_t _source

    def __cinit__(self, log: DurableLog, source: int = 0) -> None:
        _check_source(source)
        self._owner = log
        self._source = source
        batch_init(&self._batch, log_seed(log.log.id))

    def __dealloc__(self) -> None:
        batch_clear(&self._batch)

    def append(self, kind: int, body: bytes, *, goes_on: bool = False) -> None:
        """A record of kind 1 to 126; goes_on: the next one belongs to the same group."""
        if not 1 <= kind < KIND_MARK:
            raise ValueError(f"kind is {kind}, allowed are 1 to {KIND_MARK - 1}")
        cdef uint8_t *out = batch_begin(
            &self._batch, <uint8_t> (kind | (GROUP_GOES_ON if goes_on else 0)), <uint32_t> len(body))
        if out == NULL:
            raise MemoryError
        memcpy(out, <const uint8_t *> body, len(body))
        batch_end(&self._batch)

    def submit(self) -> int:
        """Hand the records over; the number of the batch, 0 when there were none."""
        return log_submit(&self._owner.log, self._source, &self._batch)
