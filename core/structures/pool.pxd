"""Pool: items of one size under 32-bit numbers. An item never moves, so others may read it while one thread writes.

Items live in chunks. The first eight hold 16 items each, so that a small tree stays small; each further one doubles the
whole, so that a number is turned into an address by one shift and a big tree needs few chunks:

    number   0..15  16..31  ...  112..127 | 128..255  256..511  512..1023  ...
    chunk    small 0      1             7 | large 0         1          2

Large chunks come as pages that cost nothing before they are touched. Number 0 is never handed out: it means "none".

One writer takes and resets; any thread gives back, once nobody can read the item any more (see reclaim). The first four
bytes of an item that was given back are the pool's: they link it to the next.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.atomics cimport atomic_load_pointer
from rookery.core.structures.reclaim cimport ReclaimDomain

cdef enum:
    POOL_SMALL_ITEMS = 16     # of a small chunk
    POOL_SMALL_CHUNKS = 8
    POOL_SMALL_TOTAL = 128    # POOL_SMALL_ITEMS * POOL_SMALL_CHUNKS
    POOL_LARGE_CHUNKS = 23    # 2 ** 30 items in all

cdef struct Pool:
    uint8_t *small[POOL_SMALL_CHUNKS]
    uint8_t **large       # POOL_LARGE_CHUNKS chunks; NULL while the small ones are enough
    uint32_t item_size    # bytes, a multiple of 4
    uint32_t kept         # numbers below are never given back; at least 1
    uint32_t used         # numbers below have been handed out since the last reset
    uint32_t free_head    # the writer's list of free numbers
    uint32_t free_count
    uint32_t given_back   # free numbers that the writer has not picked up yet; any thread pushes


cdef extern from * nogil:
    int count_leading_zeros "__builtin_clz" (uint32_t number)

# kept: that many numbers, 0 included, are in use from the start and for good. 0, or -1 when memory is short.
cdef int pool_init(Pool *pool, uint32_t item_size, uint32_t kept) noexcept nogil
cdef void pool_clear(Pool *pool) noexcept nogil
# The number of a free item, its bytes undefined; 0 when memory is short.
cdef uint32_t pool_take(Pool *pool) noexcept nogil
cdef void pool_give_back(Pool *pool, uint32_t number) noexcept nogil
# Return the memory of the items if all but the kept ones have been given back; the domain frees large chunks piece by
# piece. Was it so?
cdef bint pool_reset_if_unused(Pool *pool, ReclaimDomain *reclaim) noexcept nogil
# Bytes of memory that the chunks hold, untouched pages not counted.
cdef uint64_t pool_memory_bytes(const Pool *pool) noexcept nogil


# The address of an item. item_size is repeated so that the compiler knows it.
cdef inline void *pool_item(const Pool *pool, uint32_t number, size_t item_size) noexcept nogil:
    cdef uint8_t *chunk
    cdef uint8_t **large
    cdef int order
    if number < POOL_SMALL_TOTAL:
        chunk = <uint8_t *> atomic_load_pointer(<void **> &pool.small[number // POOL_SMALL_ITEMS])
        return chunk + (number % POOL_SMALL_ITEMS) * item_size
    order = 24 - count_leading_zeros(number)  # 0 for 128 to 255
    large = <uint8_t **> atomic_load_pointer(<void **> &pool.large)
    chunk = <uint8_t *> atomic_load_pointer(<void **> &large[order])
    return chunk + (number ^ <uint32_t> POOL_SMALL_TOTAL << order) * item_size
