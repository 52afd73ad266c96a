"""Spill: memory that lies in a file, for what is large, rarely touched, and must keep its address.

    mapping   |chunk 0 |chunk 1 |chunk 2 |  ... up to SPILL_LIMIT_BYTES of addresses, no file behind them yet
              |= used =|= free =|= open =|

Pieces are cut from the open chunk one behind the other. A chunk whose pieces are all freed gives its blocks of the
file back and is opened again later. What is not touched costs no resident memory: spill_relax unmaps all pages, the
kernel writes them to the file and reads back those that are touched again.

The file has no name, so that nothing is left of it however the process ends. Its blocks are asked for before a chunk
is touched: a full disk shows as NULL here and not as a signal. One thread allocates; any thread may free.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    SPILL_CHUNK_BYTES = 4194304          # 4 MiB; what is larger, less its head, is not taken
    SPILL_CHUNKS_MAXIMUM = 65536
    SPILL_LIMIT_BYTES = 274877906944     # 256 GiB: all chunks
    SPILL_RELAX_MS = 200                 # between two times that pages are unmapped
    SPILL_WINDOW_BYTES = 65536           # that the kernel maps around a page which is touched
    SPILL_RELAX_WINDOWS = 4096           # 256 MiB: when so many are mapped, all are unmapped at once. A power of two


cdef struct SpillChunk:
    uint32_t pieces              # alive, and 1 while it is open; atomic
    SpillChunk *next             # in returned or free


cdef struct Spill:
    uint8_t *base                # of the mapping, a multiple of SPILL_CHUNK_BYTES
    SpillChunk *chunks           # SPILL_CHUNKS_MAXIMUM
    int descriptor               # owned
    uint32_t chunk_count         # that were ever opened
    uint32_t free_count
    SpillChunk *open             # NULL = none
    uint32_t open_used           # bytes
    SpillChunk *free             # have no blocks of the file
    SpillChunk *returned         # have no pieces, still their blocks; atomic
    uint64_t relax_at_ms         # clock of whoever calls spill_step
    uint32_t touched_windows     # since pages were unmapped last, as far as spill_touched was told
    uint32_t windows[4096]       # SPILL_RELAX_WINDOWS: 1 + number of one of them, by its remainder
    uint64_t retry_at_ms         # the file system refused a chunk: not asked again before
    uint64_t now_ms              # of the last spill_step


# Takes over the descriptor of an empty file. NULL when memory or addresses are short; then it still is the caller's.
cdef Spill *spill_new(int descriptor) noexcept nogil
# Nothing of it is used any more.
cdef void spill_end(Spill *spill) noexcept nogil
# NULL: it does not fit into a chunk, or the file system has no room.
cdef void *spill_allocate(Spill *spill, size_t size) noexcept nogil
cdef void spill_free(void *piece) noexcept nogil
# To be called now and then by the thread that allocates: gives back blocks of chunks that were freed, and the pages:
# every SPILL_RELAX_MS.
cdef void spill_step(Spill *spill, uint64_t now_ms) noexcept nogil
# Unmap all pages now.
cdef void spill_relax(Spill *spill) noexcept nogil


# A piece is about to be read that may have waited for long; one of another spill is nobody's business. Called by the
# thread that calls spill_step: so the pages that are mapped are bounded, however much is read between two steps.
cdef inline void spill_touched(Spill *spill, const void *piece, uint32_t size) noexcept nogil:
    cdef uint64_t offset = <uint64_t> (<const uint8_t *> piece - spill.base)
    cdef uint32_t window
    if offset >= SPILL_LIMIT_BYTES:
        return
    for window in range(
        <uint32_t> (offset // SPILL_WINDOW_BYTES), <uint32_t> ((offset + size - 1) // SPILL_WINDOW_BYTES) + 1
    ):
        if spill.windows[window % SPILL_RELAX_WINDOWS] != window + 1:
            if spill.touched_windows == SPILL_RELAX_WINDOWS:
                spill_relax(spill)
            spill.windows[window % SPILL_RELAX_WINDOWS] = window + 1
            spill.touched_windows += 1


# Of the file, in chunks; from any thread, not exactly while another one allocates.
cdef inline uint64_t spill_bytes(const Spill *spill) noexcept nogil:
    return <uint64_t> (spill.chunk_count - spill.free_count) * SPILL_CHUNK_BYTES


# Is there anything for spill_step to do?
cdef inline bint spill_is_used(const Spill *spill) noexcept nogil:
    return spill.chunk_count > spill.free_count
