"""See writer.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from rookery.core.log.batch cimport LogBatch
from rookery.core.log.files cimport (
    file_create, file_finish, file_remove, file_sync, file_write, iovec,
)
from rookery.core.log.format cimport (
    KIND_MARK, MARK_BODY_SIZE, MARK_SIZE, SEGMENT_HEADER_SIZE, SYNC_ALWAYS, SYNC_INTERVAL, SYNC_NEVER, log_seed,
    put_u32, put_u64, record_checksum,
)
from rookery.core.structures.atomics cimport (
    atomic_add_u64, atomic_load_u64, atomic_store_u32, atomic_store_u64, atomic_subtract_u64,
)
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init, mutex_lock, mutex_unlock

cdef extern from "<pthread.h>" nogil:
    ctypedef struct ConditionAttributes "pthread_condattr_t":
        pass

    int pthread_condattr_init(ConditionAttributes *attributes)
    int pthread_condattr_setclock(ConditionAttributes *attributes, int clock)
    int pthread_cond_init(Condition *condition, const ConditionAttributes *attributes)
    int pthread_cond_destroy(Condition *condition)
    int pthread_cond_signal(Condition *condition)
    int pthread_cond_timedwait(Condition *condition, Mutex *mutex, const timespec *until)
    int pthread_cond_wait(Condition *condition, Mutex *mutex)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec

    int clock_gettime(int clock, timespec *time)
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME

cdef enum:
    _PARTS = 256  # of one write; what does not fit goes with the next commit


cdef uint64_t _now_ms(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <uint64_t> now.tv_sec * 1000 + <uint64_t> now.tv_nsec // 1000000


cdef uint64_t _now_us() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1000000 + <uint64_t> now.tv_nsec // 1000


# Life

cdef int log_init(
    Log *log, int folder, uint64_t log_id, uint64_t position, uint64_t next_number, uint8_t mode, uint32_t interval_ms,
    uint64_t segment_size
) noexcept nogil:
    cdef ConditionAttributes attributes
    memset(log, 0, sizeof(Log))
    log.files.folder = folder
    log.id = log_id
    log.seed = log_seed(log_id)
    log.mode = mode
    log.interval_ms = interval_ms
    log.segment_size = segment_size
    log.backlog_limit = LOG_BACKLOG_BYTES
    log.refuse_after_ms = LOG_REFUSE_AFTER_MS
    log.position = position
    log.synced_position = position
    log.kept_position = position
    log.next_number = next_number
    log.descriptor = -1
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    return mutex_init(&log.mutex, NULL) or pthread_cond_init(&log.condition, &attributes)


cdef int log_add_segment(Log *log, uint64_t number, uint64_t first_position, uint64_t end_position) noexcept nogil:
    cdef uint32_t capacity
    cdef LogSegment *segments
    if log.segment_count == log.segment_capacity:
        capacity = log.segment_capacity * 2 if log.segment_capacity > 0 else 16
        segments = <LogSegment *> realloc(log.segments, capacity * sizeof(LogSegment))
        if segments == NULL:
            return -1
        log.segments = segments
        log.segment_capacity = capacity
    log.segments[log.segment_count].number = number
    log.segments[log.segment_count].first_position = first_position
    log.segments[log.segment_count].end_position = end_position
    log.segment_count += 1
    atomic_add_u64(&log.total_bytes, SEGMENT_HEADER_SIZE + end_position - first_position)
    return 0


cdef void _free_chunks(LogChunk *chunk) noexcept nogil:
    cdef LogChunk *following
    while chunk != NULL:
        following = chunk.next
        free(chunk.bytes)
        free(chunk)
        chunk = following


cdef void log_clear(Log *log) noexcept nogil:
    _free_chunks(log.first)
    _free_chunks(log.pending_first)
    free(log.segments)
    mutex_destroy(&log.mutex)
    pthread_cond_destroy(&log.condition)
    memset(log, 0, sizeof(Log))
    log.descriptor = -1


# What shards call

cdef uint64_t log_submit(Log *log, uint32_t source, LogBatch *batch) noexcept nogil:
    cdef LogChunk *chunk
    cdef uint64_t number = batch.number
    cdef bint was_empty
    if batch.size == 0:
        return 0
    chunk = <LogChunk *> calloc(1, sizeof(LogChunk))
    if chunk == NULL or batch.is_broken:
        # Never committed, nor is anything behind it: what was promised cannot be kept any more.
        free(chunk)
        batch.is_broken = 1
        atomic_store_u32(&log.error, ENOMEM)
        batch.size = 0
        return 0
    chunk.bytes = batch.bytes
    chunk.size = batch.size
    chunk.number = number
    chunk.source = source
    batch.bytes = NULL
    batch.size = 0
    batch.capacity = 0
    batch.number += 1
    atomic_add_u64(&log.backlog_bytes, chunk.size)
    atomic_add_u64(&log.waiting_batches, 1)
    mutex_lock(&log.mutex)
    was_empty = log.last == NULL
    if was_empty:
        log.first = chunk
    else:
        log.last.next = chunk
    log.last = chunk
    mutex_unlock(&log.mutex)
    if was_empty:
        pthread_cond_signal(&log.condition)
    # The chunk is the writer's since the mutex was given back, which may have freed it.
    return number


cdef LogPressure log_pressure(Log *log) noexcept nogil:
    if atomic_load_u64(&log.failing_since_ms) != 0 and log_failing_ms(log) > log.refuse_after_ms:
        return LOG_REFUSES
    return LOG_HOLDS if atomic_load_u64(&log.backlog_bytes) > log.backlog_limit else LOG_FLOWS


cdef uint64_t log_failing_ms(Log *log) noexcept nogil:
    cdef uint64_t since_ms = atomic_load_u64(&log.failing_since_ms)
    return 0 if since_ms == 0 else max(_now_ms(CLOCK_MONOTONIC) - since_ms, <uint64_t> 1)


cdef void log_drop_before(Log *log, uint64_t position) noexcept nogil:
    mutex_lock(&log.mutex)
    if position > log.drop_before:
        log.drop_before = position
    mutex_unlock(&log.mutex)
    pthread_cond_signal(&log.condition)


cdef void log_stop(Log *log) noexcept nogil:
    mutex_lock(&log.mutex)
    log.is_stopping = 1
    mutex_unlock(&log.mutex)
    pthread_cond_signal(&log.condition)


# The writer

cdef void _fail(Log *log, int error) noexcept nogil:
    """The present segment is given up: what it holds that is still in memory will be written again elsewhere."""
    cdef LogChunk *chunk = log.pending_first
    if log.descriptor >= 0:
        # Recovery reads it up to where the next segment begins. Cutting it is no more than tidiness.
        file_finish(
            &log.files, log.descriptor,
            SEGMENT_HEADER_SIZE + log.kept_position - log.segments[log.segment_count - 1].first_position)
        log.descriptor = -1
        atomic_subtract_u64(&log.total_bytes, log.position - log.kept_position)
        log.segments[log.segment_count - 1].end_position = log.kept_position
        # A disk that fails for hours would leave an empty file at each attempt.
        if (
            log.segments[log.segment_count - 1].first_position == log.kept_position
            and file_remove(&log.files, log.segments[log.segment_count - 1].number) == 0
        ):
            log.segment_count -= 1
            atomic_subtract_u64(&log.total_bytes, SEGMENT_HEADER_SIZE)
    while chunk != NULL:
        chunk.is_written = 0
        chunk = chunk.next
    log.unsynced_bytes = 0
    atomic_store_u64(&log.position, log.kept_position)
    atomic_store_u32(&log.error, <uint32_t> error)
    atomic_store_u32(&log.last_error, <uint32_t> error)
    log.failures += 1
    if log.failing_since_ms == 0:
        atomic_store_u64(&log.failing_since_ms, _now_ms(CLOCK_MONOTONIC))


cdef void _recovered(Log *log) noexcept nogil:
    if log.failing_since_ms != 0:
        atomic_store_u64(&log.failing_since_ms, 0)
        atomic_store_u32(&log.error, 0)


cdef void _free_written(Log *log) noexcept nogil:
    """Pending chunks that are on the disk, or of which the kernel was told all there is to tell."""
    cdef LogChunk *chunk
    while log.pending_first != NULL and log.pending_first.is_written:
        chunk = log.pending_first
        log.pending_first = chunk.next
        free(chunk.bytes)
        free(chunk)
    if log.pending_first == NULL:
        log.pending_last = NULL
    log.unsynced_bytes = 0


cdef bint _sync(Log *log) noexcept nogil:
    """What is written becomes durable. False when it failed: then the segment is given up."""
    cdef uint64_t began_us
    cdef int error
    if log.descriptor < 0 or log.synced_position == log.position:
        return True
    began_us = _now_us()
    error = file_sync(&log.files, log.descriptor)
    atomic_store_u64(&log.last_sync_us, _now_us() - began_us)
    log.sync_us += log.last_sync_us
    log.syncs += 1
    if error != 0:
        log.sync_failures += 1
        _fail(log, error)
        return False
    atomic_store_u64(&log.synced_position, log.position)
    log.kept_position = log.position
    log.next_sync_ms = _now_ms(CLOCK_MONOTONIC) + log.interval_ms
    _free_written(log)
    return True


cdef bint _open_segment(Log *log) noexcept nogil:
    """A segment that can be written to. False when there is none to be had."""
    cdef int error
    if log.descriptor >= 0:
        if log.segments[log.segment_count - 1].end_position == log.segments[log.segment_count - 1].first_position:
            return True
        if log.position - log.segments[log.segment_count - 1].first_position < log.segment_size:
            return True
        # It is synced whole, in every mode, before anything stands in the next one.
        if not _sync(log):
            return False
        file_finish(
            &log.files, log.descriptor,
            SEGMENT_HEADER_SIZE + log.position - log.segments[log.segment_count - 1].first_position)
        log.descriptor = -1
    if log_add_segment(log, log.next_number, log.position, log.position) != 0:
        _fail(log, ENOMEM)
        return False
    error = file_create(
        &log.files, log.next_number, log.id, log.position, _now_ms(CLOCK_REALTIME),
        SEGMENT_HEADER_SIZE + log.segment_size, &log.descriptor)
    log.next_number += 1
    if error != 0:
        log.descriptor = -1
        log.segment_count -= 1
        atomic_subtract_u64(&log.total_bytes, SEGMENT_HEADER_SIZE)
        _fail(log, error)
        return False
    return True


cdef void _make_mark(Log *log, uint8_t *mark) noexcept nogil:
    put_u32(mark + 4, MARK_BODY_SIZE)
    mark[8] = KIND_MARK
    put_u64(mark + 9, log.position)
    put_u64(mark + 17, log.synced_position)
    mark[25] = log.mode
    put_u32(mark, record_checksum(log.seed, mark, MARK_BODY_SIZE))


cdef bint _write(Log *log) noexcept nogil:
    """One commit of what is pending and not written. False when it failed."""
    cdef iovec parts[_PARTS]
    cdef uint8_t mark[MARK_SIZE]
    cdef LogChunk *chunk = log.pending_first
    cdef LogChunk *first
    cdef uint32_t count = 1
    cdef uint64_t size = MARK_SIZE
    cdef LogSegment *segment = &log.segments[log.segment_count - 1]
    cdef int error
    while chunk != NULL and chunk.is_written:
        chunk = chunk.next
    first = chunk
    _make_mark(log, mark)
    parts[0].iov_base = mark
    parts[0].iov_len = MARK_SIZE
    while chunk != NULL and count < _PARTS:
        parts[count].iov_base = chunk.bytes
        parts[count].iov_len = chunk.size
        size += chunk.size
        count += 1
        chunk = chunk.next
    error = file_write(
        &log.files, log.descriptor, parts, count, SEGMENT_HEADER_SIZE + log.position - segment.first_position)
    if error != 0:
        _fail(log, error)
        return False
    while first != chunk:
        first.is_written = 1
        first = first.next
    log.unsynced_bytes += size
    atomic_store_u64(&log.position, log.position + size)
    segment.end_position = log.position
    atomic_add_u64(&log.total_bytes, size)
    log.commits += 1
    return True


cdef void _write_last_mark(Log *log) noexcept nogil:
    """Everything is synced: a mark without records says so, and with it damage in the last commit is told from a torn
    end. Without it nothing is lost."""
    cdef uint8_t mark[MARK_SIZE]
    cdef iovec part
    cdef LogSegment *segment = &log.segments[log.segment_count - 1]
    _make_mark(log, mark)
    part.iov_base = mark
    part.iov_len = MARK_SIZE
    if file_write(
        &log.files, log.descriptor, &part, 1, SEGMENT_HEADER_SIZE + log.position - segment.first_position
    ) == 0:
        atomic_store_u64(&log.position, log.position + MARK_SIZE)
        segment.end_position = log.position
        atomic_add_u64(&log.total_bytes, MARK_SIZE)


cdef bint _has_unwritten(Log *log) noexcept nogil:
    return log.pending_last != NULL and not log.pending_last.is_written


cdef void _tell(Log *log, uint64_t *numbers) noexcept nogil:
    """Move committed on to numbers, by source (0 = nothing new), and wake who may wait for it."""
    cdef uint32_t source
    for source in range(LOG_SOURCES):
        if numbers[source] != 0:
            atomic_store_u64(&log.sources[source].committed, numbers[source])
            if log.sources[source].wake != NULL:
                log.sources[source].wake(log.sources[source].owner)


cdef bint _commit(Log *log) noexcept nogil:
    """Everything pending that is not committed yet. False when the disk did not take it."""
    cdef uint64_t numbers[LOG_SOURCES]
    cdef LogChunk *chunk
    cdef uint64_t size = 0
    cdef uint64_t batches
    while _has_unwritten(log):
        if not _open_segment(log):
            return False
        memset(numbers, 0, sizeof(numbers))
        size = 0
        batches = 0
        chunk = log.pending_first
        while chunk != NULL and chunk.is_written:
            chunk = chunk.next
        if not _write(log):
            return False
        while chunk != NULL and chunk.is_written:
            if chunk.number > atomic_load_u64(&log.sources[chunk.source].committed):
                numbers[chunk.source] = chunk.number
                size += chunk.size
                batches += 1
            chunk = chunk.next
        # After a failure SYNC_INTERVAL, too, believes the disk only when a sync goes well: writes that succeed into the
        # page cache say nothing, and what cannot be synced piles up in memory.
        if log.mode == SYNC_ALWAYS or log.mode == SYNC_INTERVAL and log.failing_since_ms != 0:
            if not _sync(log):
                return False
        if log.mode == SYNC_NEVER:
            _free_written(log)
            log.kept_position = log.position
        _recovered(log)
        _tell(log, numbers)
        atomic_subtract_u64(&log.backlog_bytes, size)
        atomic_subtract_u64(&log.waiting_batches, batches)
    return True


cdef void _drop_segments(Log *log, uint64_t position) noexcept nogil:
    cdef uint32_t gone = 0
    cdef uint32_t index
    cdef LogSegment *segment
    # Never the last one, which is still written to.
    while gone + 1 < log.segment_count and log.segments[gone].end_position <= position:
        segment = &log.segments[gone]
        if file_remove(&log.files, segment.number) != 0:
            break
        atomic_subtract_u64(&log.total_bytes, SEGMENT_HEADER_SIZE + segment.end_position - segment.first_position)
        gone += 1
    if gone == 0:
        return
    log.segment_count -= gone
    for index in range(log.segment_count):
        log.segments[index] = log.segments[index + gone]


cdef void _take(Log *log) noexcept nogil:
    """From the queue to the pending ones. Under the mutex."""
    if log.first == NULL:
        return
    if log.pending_last == NULL:
        log.pending_first = log.first
    else:
        log.pending_last.next = log.first
    log.pending_last = log.last
    log.first = NULL
    log.last = NULL


cdef uint64_t _wake_at_ms(Log *log) noexcept nogil:
    """When there is something to do even if nothing is submitted; 0 = never."""
    if log.failing_since_ms != 0:
        return _now_ms(CLOCK_MONOTONIC) + LOG_RETRY_MS
    if log.mode == SYNC_INTERVAL and log.synced_position != log.position:
        return log.next_sync_ms
    return 0


cdef void _wait_until(Log *log, uint64_t at_ms) noexcept nogil:
    cdef timespec until
    if at_ms == 0:
        pthread_cond_wait(&log.condition, &log.mutex)
        return
    until.tv_sec = <long> (at_ms // 1000)
    until.tv_nsec = <long> (at_ms % 1000) * 1000000
    pthread_cond_timedwait(&log.condition, &log.mutex, &until)


cdef bint _is_sync_due(Log *log) noexcept nogil:
    return log.mode == SYNC_INTERVAL and log.synced_position != log.position and (
        log.unsynced_bytes > LOG_UNSYNCED_BYTES or _now_ms(CLOCK_MONOTONIC) >= log.next_sync_ms)


cdef void log_run(Log *log) noexcept nogil:
    cdef uint64_t drop_before = 0
    cdef uint64_t at_ms
    cdef bint is_stopping = False
    cdef bint is_well = True
    while not is_stopping:
        mutex_lock(&log.mutex)
        at_ms = _wake_at_ms(log)
        # After a failure it waits even though there is something to do.
        while (
            (log.first == NULL or not is_well)
            and not log.is_stopping
            and (log.drop_before == drop_before or not is_well)
            and (at_ms == 0 or _now_ms(CLOCK_MONOTONIC) < at_ms)
        ):
            _wait_until(log, at_ms)
        _take(log)
        is_stopping = log.is_stopping
        drop_before = log.drop_before
        mutex_unlock(&log.mutex)
        is_well = _commit(log)
        if is_well and (_is_sync_due(log) or is_stopping):
            is_well = _sync(log)
        if is_well and log.segment_count > 1 and log.segments[0].end_position <= drop_before and _sync(log):
            _drop_segments(log, drop_before)
    if log.descriptor >= 0:
        if is_well:
            _write_last_mark(log)
        file_finish(
            &log.files, log.descriptor,
            SEGMENT_HEADER_SIZE + log.position - log.segments[log.segment_count - 1].first_position)
        log.descriptor = -1
