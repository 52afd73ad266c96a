"""What bench_log.py measures, as loops without Python in them."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rookery.core.log.batch cimport LogBatch, batch_begin, batch_clear, batch_end, batch_init
from rookery.core.log.durable_log cimport DurableLog
from rookery.core.log.format cimport log_seed
from rookery.core.log.writer cimport log_submit
from rookery.core.structures.atomics cimport atomic_load_u64

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct Semaphore "sem_t":
        pass

    int sem_init(Semaphore *semaphore, int is_shared, unsigned int value)
    int sem_destroy(Semaphore *semaphore)
    int sem_post(Semaphore *semaphore)
    int sem_wait(Semaphore *semaphore)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec

    int clock_gettime(int clock, timespec *time)
    int CLOCK_MONOTONIC


cdef uint64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1000000000 + <uint64_t> now.tv_nsec


cdef void _wake(void *owner) noexcept nogil:
    sem_post(<Semaphore *> owner)


cdef class Appender:
    """A source of a log that runs: it submits a batch, waits until that is committed, and submits the next one."""

    cdef DurableLog _log
    cdef LogBatch _batch
    cdef Semaphore _committed

    def __cinit__(self, DurableLog log) -> None:
        self._log = log
        sem_init(&self._committed, 0, 0)
        batch_init(&self._batch, log_seed(log.log.id))
        log.log.sources[0].owner = &self._committed
        log.log.sources[0].wake = _wake

    def __dealloc__(self) -> None:
        batch_clear(&self._batch)
        sem_destroy(&self._committed)

    cdef void _commit(self, uint32_t records, uint32_t body_size) noexcept nogil:
        cdef uint8_t *body
        cdef uint64_t number
        cdef uint32_t index
        for index in range(records):
            body = batch_begin(&self._batch, 1, body_size)
            memset(body, <int> index & 0xFF, body_size)
            batch_end(&self._batch)
        number = log_submit(&self._log.log, 0, &self._batch)
        while atomic_load_u64(&self._log.log.sources[0].committed) < number:
            sem_wait(&self._committed)

    def commit(self, uint32_t commits, uint32_t records, uint32_t body_size) -> list[int]:
        """What each of so many commits of so many records of body_size bytes has taken, in ns. The log must run until
        the appender has ended."""
        cdef uint64_t *spent_ns = <uint64_t *> calloc(commits, sizeof(uint64_t))
        cdef uint64_t before
        cdef uint32_t index
        if spent_ns == NULL:
            raise MemoryError
        with nogil:
            for index in range(commits):
                before = _now_ns()
                self._commit(records, body_size)
                spent_ns[index] = _now_ns() - before
        try:
            return [spent_ns[index] for index in range(commits)]
        finally:
            free(spent_ns)
