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
    uint64_t retry_at_ms         # the file system refused a chunk: not asked again before
    uint64_t now_ms              # of the last spill_step


# Takes over the descriptor of an empty file. NULL when memory or addresses are short; then it still is the caller's.
cdef Spill *spill_new(int descriptor) noexcept nogil
# Nothing of it is used any more.
cdef void spill_end(Spill *spill) noexcept nogil
# NULL: it does not fit into a chunk, or the file system has no room.
cdef void *spill_allocate(Spill *spill, size_t size) noexcept nogil
cdef void spill_free(void *piece) noexcept nogil
# To be called now and then by the thread that allocates: gives back blocks of chunks that were freed, and every
# SPILL_RELAX_MS the pages.
cdef void spill_step(Spill *spill, uint64_t now_ms) noexcept nogil
# Unmap all pages now.
cdef void spill_relax(Spill *spill) noexcept nogil


# Of the file, in chunks; from any thread, not exactly while another one allocates.
cdef inline uint64_t spill_bytes(const Spill *spill) noexcept nogil:
    return <uint64_t> (spill.chunk_count - spill.free_count) * SPILL_CHUNK_BYTES


# Is there anything for spill_step to do?
cdef inline bint spill_is_used(const Spill *spill) noexcept nogil:
    return spill.chunk_count > spill.free_count
