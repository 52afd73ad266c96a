"""Log: one writer thread that puts the batches of all shards on the disk, many per sync.

    shards ---- log_submit ----> queue --- writer: one write, one sync ---> committed of each source, wake

There is no timer: while one commit is under way the next one gathers. When writing or syncing fails, the segment is
given up, for nobody knows what the kernel has kept of it: what was not synced stays in memory and is written into a new
segment as soon as one can be made, which is tried again and again. Until then nothing counts as committed.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.log.batch cimport LogBatch
from rookery.core.log.files cimport LogFiles
from rookery.core.structures.mutex cimport Mutex


cdef extern from "<pthread.h>" nogil:
    ctypedef struct Condition "pthread_cond_t":
        pass


cdef enum LogLimit:
    LOG_SOURCES = 64                  # as many shards as there can be
    LOG_BACKLOG_BYTES = 268435456     # submitted and not committed: beyond it LOG_HOLDS
    LOG_UNSYNCED_BYTES = 67108864     # SYNC_INTERVAL syncs early when this much has been written
    LOG_RETRY_MS = 200                # between attempts to go on after a failure
    LOG_REFUSE_AFTER_MS = 5000        # a disk that fails for longer is not waited for in silence

cdef enum LogPressure:
    LOG_FLOWS = 0
    LOG_HOLDS = 1                     # too much waits for the disk: whoever waits for it, too, should send nothing more
    LOG_REFUSES = 2                   # and the disk has failed for long: whoever can be told so should be


cdef struct LogChunk:                 # a batch that was submitted
    LogChunk *next
    uint8_t *bytes                    # owned
    uint64_t size
    uint64_t number                   # of the batch
    uint32_t source
    uint8_t is_written                # to the present segment, and not yet synced


ctypedef void (*LogWake)(void *owner) noexcept nogil


cdef struct LogSource:                # a shard
    uint64_t committed                # number of its last batch that is committed; atomic
    LogWake wake                      # called by the writer after it has moved committed
    void *owner                       # for wake


cdef struct LogSegment:
    uint64_t number
    uint64_t first_position
    uint64_t end_position             # of what counts in it; of the last one: while it grows


cdef struct Log:
    LogFiles files
    uint64_t id
    uint32_t seed
    uint8_t mode                      # SyncMode
    uint32_t interval_ms              # of SYNC_INTERVAL
    uint64_t segment_size             # bytes
    uint64_t backlog_limit            # LOG_BACKLOG_BYTES, or less for tests
    uint64_t refuse_after_ms          # LOG_REFUSE_AFTER_MS, or as it was set
    LogSource sources[64]
    # Under the mutex.
    Mutex mutex
    Condition condition
    LogChunk *first
    LogChunk *last
    uint8_t is_stopping
    uint64_t drop_before              # segments that end at or before this position may go
    # Read by anyone, atomic; written by the writer, backlog_bytes and waiting_batches by submitters as well.
    uint64_t backlog_bytes            # submitted and not committed
    uint64_t waiting_batches          # the same, in batches
    uint64_t position                 # of the end of what is written
    uint64_t synced_position          # up to here it is on the disk
    uint64_t total_bytes              # of all segments
    uint32_t error                    # errno of the last failure; 0 = all is well
    uint64_t failing_since_ms         # monotonic; 0 = all is well
    uint64_t commits
    uint64_t syncs
    uint64_t sync_us                  # that all syncs together took
    uint64_t last_sync_us             # that the last one took, also when it failed
    uint64_t sync_failures
    uint64_t failures                 # of writing, syncing or making segments
    uint32_t last_error               # errno of the last failure, also when all is well again
    # The writer's own.
    LogChunk *pending_first           # taken from the queue and not yet on the disk, oldest first
    LogChunk *pending_last
    uint64_t kept_position            # what lies behind it is still in memory and can be written again
    uint64_t unsynced_bytes           # of the pending ones that are written
    int descriptor                    # of the present segment; -1 = none, or given up
    uint64_t next_number
    uint64_t next_sync_ms             # monotonic, of SYNC_INTERVAL
    LogSegment *segments
    uint32_t segment_count
    uint32_t segment_capacity


# Any shard's thread, at the end of its turn: hand over the batch, which is then empty and has the next number. Nothing
# happens when it is empty. The number under which it went, or 0.
cdef uint64_t log_submit(Log *log, uint32_t source, LogBatch *batch) noexcept nogil
# How those who would submit more should act.
cdef LogPressure log_pressure(Log *log) noexcept nogil
# For how long it has not been able to write; 0 = it is.
cdef uint64_t log_failing_ms(Log *log) noexcept nogil
# Segments whose last byte lies before position are no longer needed; they go when what is written by now is synced.
cdef void log_drop_before(Log *log, uint64_t position) noexcept nogil
# The writer thread; returns when log_stop was called and everything is on the disk, or cannot be put there.
cdef void log_run(Log *log) noexcept nogil
cdef void log_stop(Log *log) noexcept nogil
# Before the thread begins: what recovery has found, and after it has ended.
cdef int log_init(
    Log *log, int folder, uint64_t log_id, uint64_t position, uint64_t next_number, uint8_t mode, uint32_t interval_ms,
    uint64_t segment_size) noexcept nogil
cdef int log_add_segment(Log *log, uint64_t number, uint64_t first_position, uint64_t end_position) noexcept nogil
cdef void log_clear(Log *log) noexcept nogil
