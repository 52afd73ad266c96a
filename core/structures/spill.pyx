"""See spill.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rookery.core.structures.atomics cimport atomic_load_pointer, atomic_replace_pointer
from rookery.core.structures.pages cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap, pages_allocate, pages_free,
)

cdef extern from *:
    """
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <linux/falloc.h>
    #include <sys/mman.h>
    #define ROOKERY_ADD(counter, amount) __atomic_add_fetch(&(counter), (amount), __ATOMIC_ACQ_REL)
    #define ROOKERY_SUBTRACT(counter, amount) __atomic_sub_fetch(&(counter), (amount), __ATOMIC_ACQ_REL)
    """
    uint32_t ROOKERY_ADD(uint32_t counter, uint32_t amount) noexcept nogil
    uint32_t ROOKERY_SUBTRACT(uint32_t counter, uint32_t amount) noexcept nogil
    int fallocate(int descriptor, int mode, long offset, long size) noexcept nogil
    int posix_fallocate(int descriptor, long offset, long size) noexcept nogil
    int madvise(void *address, size_t size, int advice) noexcept nogil
    int FALLOC_FL_PUNCH_HOLE
    int FALLOC_FL_KEEP_SIZE
    int MADV_DONTNEED
    int MADV_DONTDUMP
    int MAP_FIXED
    int MAP_NORESERVE
    int MAP_SHARED
    int PROT_NONE

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor)

cdef enum:
    _HEAD_BYTES = 16             # of a chunk: whose it is
    _ALIGNMENT = 16
    _RETRY_MS = 1000


cdef Spill *spill_new(int descriptor) noexcept nogil:
    cdef Spill *spill = <Spill *> malloc(sizeof(Spill))
    cdef size_t size = <size_t> SPILL_LIMIT_BYTES + SPILL_CHUNK_BYTES
    cdef uint8_t *reserved
    cdef uint8_t *base
    if spill == NULL:
        return NULL
    memset(spill, 0, sizeof(Spill))
    spill.descriptor = descriptor
    spill.chunks = <SpillChunk *> pages_allocate(SPILL_CHUNKS_MAXIMUM * sizeof(SpillChunk))
    reserved = <uint8_t *> mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if spill.chunks == NULL or <void *> reserved == MAP_FAILED:
        pages_free(spill.chunks, SPILL_CHUNKS_MAXIMUM * sizeof(SpillChunk))
        free(spill)
        return NULL
    base = <uint8_t *> (
        (<size_t> reserved + SPILL_CHUNK_BYTES - 1) // SPILL_CHUNK_BYTES * SPILL_CHUNK_BYTES)
    if base > reserved:
        munmap(reserved, base - reserved)
    if base + SPILL_LIMIT_BYTES < reserved + size:
        munmap(base + SPILL_LIMIT_BYTES, reserved + size - (base + SPILL_LIMIT_BYTES))
    if mmap(base, SPILL_LIMIT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED:
        munmap(base, SPILL_LIMIT_BYTES)
        pages_free(spill.chunks, SPILL_CHUNKS_MAXIMUM * sizeof(SpillChunk))
        free(spill)
        return NULL
    madvise(base, SPILL_LIMIT_BYTES, MADV_DONTDUMP)
    spill.base = base
    return spill


cdef void spill_end(Spill *spill) noexcept nogil:
    if spill == NULL:
        return
    munmap(spill.base, SPILL_LIMIT_BYTES)
    close(spill.descriptor)
    pages_free(spill.chunks, SPILL_CHUNKS_MAXIMUM * sizeof(SpillChunk))
    free(spill)


cdef inline uint64_t _offset(const Spill *spill, const SpillChunk *chunk) noexcept nogil:
    return <uint64_t> (chunk - spill.chunks) * SPILL_CHUNK_BYTES


cdef void _leave(Spill *spill, SpillChunk *chunk) noexcept nogil:
    """One piece less, or no longer open."""
    if ROOKERY_SUBTRACT(chunk.pieces, 1) > 0:
        return
    while True:
        # Only the owner takes them out again, and all at once, so that none comes back in between.
        chunk.next = <SpillChunk *> atomic_load_pointer(<void **> &spill.returned)
        if atomic_replace_pointer(<void **> &spill.returned, chunk.next, chunk):
            return


cdef void _take_returned(Spill *spill) noexcept nogil:
    """Give the blocks of chunks without pieces back to the file system."""
    cdef SpillChunk *chunk = <SpillChunk *> atomic_load_pointer(<void **> &spill.returned)
    cdef SpillChunk *following
    while chunk != NULL and not atomic_replace_pointer(<void **> &spill.returned, chunk, NULL):
        chunk = <SpillChunk *> atomic_load_pointer(<void **> &spill.returned)
    while chunk != NULL:
        following = chunk.next
        # Where holes are unknown the chunk keeps its blocks and is used again all the same.
        fallocate(
            spill.descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, <long> _offset(spill, chunk),
            SPILL_CHUNK_BYTES)
        chunk.next = spill.free
        spill.free = chunk
        spill.free_count += 1
        chunk = following


cdef bint _open(Spill *spill) noexcept nogil:
    cdef SpillChunk *chunk
    if spill.now_ms < spill.retry_at_ms:
        return False
    _take_returned(spill)
    chunk = spill.free
    if chunk == NULL:
        if spill.chunk_count == SPILL_CHUNKS_MAXIMUM:
            return False
        chunk = &spill.chunks[spill.chunk_count]
    if posix_fallocate(spill.descriptor, <long> _offset(spill, chunk), SPILL_CHUNK_BYTES) != 0:
        spill.retry_at_ms = spill.now_ms + _RETRY_MS
        return False
    if chunk == spill.free:
        spill.free = chunk.next
        spill.free_count -= 1
    else:
        spill.chunk_count += 1
    chunk.pieces = 1
    chunk.next = NULL
    (<Spill **> (spill.base + _offset(spill, chunk)))[0] = spill
    spill.open = chunk
    spill.open_used = _HEAD_BYTES
    return True


cdef void *spill_allocate(Spill *spill, size_t size) noexcept nogil:
    cdef void *piece
    cdef SpillChunk *full
    if size > SPILL_CHUNK_BYTES - _HEAD_BYTES:
        return NULL
    size = (size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
    if spill.open == NULL or spill.open_used + size > SPILL_CHUNK_BYTES:
        full = spill.open
        if not _open(spill):
            return NULL
        if full != NULL:
            _leave(spill, full)
    piece = spill.base + _offset(spill, spill.open) + spill.open_used
    spill.open_used += <uint32_t> size
    ROOKERY_ADD(spill.open.pieces, 1)
    spill_touched(spill, piece, <uint32_t> size)
    return piece


cdef void spill_free(void *piece) noexcept nogil:
    cdef uint8_t *chunk = <uint8_t *> (<size_t> piece // SPILL_CHUNK_BYTES * SPILL_CHUNK_BYTES)
    cdef Spill *spill = (<Spill **> chunk)[0]
    _leave(spill, &spill.chunks[(chunk - spill.base) // SPILL_CHUNK_BYTES])


cdef void spill_step(Spill *spill, uint64_t now_ms) noexcept nogil:
    cdef SpillChunk *idle = spill.open
    spill.now_ms = now_ms
    if not spill_is_used(spill):
        return
    if atomic_load_pointer(<void **> &spill.returned) != NULL:
        _take_returned(spill)
    if now_ms < spill.relax_at_ms:
        return
    spill.relax_at_ms = now_ms + SPILL_RELAX_MS
    if idle != NULL and ROOKERY_ADD(idle.pieces, 0) == 1:
        # Nothing of it is in use, and nothing may come for a long time.
        spill.open = NULL
        _leave(spill, idle)
        _take_returned(spill)
    spill_relax(spill)


cdef void spill_relax(Spill *spill) noexcept nogil:
    spill.touched_windows = 0
    memset(spill.windows, 0, sizeof(spill.windows))
    madvise(spill.base, <size_t> spill.chunk_count * SPILL_CHUNK_BYTES, MADV_DONTNEED)


cdef class SpillMemory:
    """A Spill whose pieces hold bytes, for tests. See spill.pyi."""

    cdef Spill *_spill
    cdef dict _pieces

    def __cinit__(self, int descriptor):
        self._pieces = {}
        self._spill = spill_new(descriptor)
        if self._spill == NULL:
            raise MemoryError

    def __dealloc__(self):
        spill_end(self._spill)

    def put(self, bytes data not None):
        cdef uint8_t *piece = <uint8_t *> spill_allocate(self._spill, len(data))
        if piece == NULL:
            return None
        memcpy(piece, <const uint8_t *> data, len(data))
        self._pieces[<size_t> piece] = len(data)
        return <size_t> piece

    def get(self, size_t piece):
        spill_touched(self._spill, <const void *> piece, self._pieces[piece])
        return (<const uint8_t *> piece)[:self._pieces[piece]]

    def free(self, size_t piece):
        del self._pieces[piece]
        with nogil:
            spill_free(<void *> piece)

    def step(self, uint64_t now_ms):
        spill_step(self._spill, now_ms)

    @property
    def chunks(self):
        return self._spill.chunk_count, self._spill.free_count
