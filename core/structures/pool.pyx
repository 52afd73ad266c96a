"""Chunks, free numbers, and what comes back from other threads."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rookery.core.structures.atomics cimport (
    atomic_exchange_u32, atomic_load_u32, atomic_replace_u32, atomic_store_pointer)
from rookery.core.structures.pages cimport PAGE_SIZE, PAGES_SIZE_MINIMUM, pages_allocate, pages_free
from rookery.core.structures.reclaim cimport ReclaimDomain, reclaim_pages


cdef int pool_init(Pool *pool, uint32_t item_size, uint32_t kept) noexcept nogil:
    memset(pool, 0, sizeof(Pool))
    pool.item_size = item_size
    pool.kept = kept
    pool.used = kept
    pool.small[0] = <uint8_t *> calloc(POOL_SMALL_ITEMS, item_size)
    return -1 if pool.small[0] == NULL else 0


cdef void pool_clear(Pool *pool) noexcept nogil:
    free_chunks(pool, 0, NULL)


cdef uint32_t pool_take(Pool *pool) noexcept nogil:
    cdef uint32_t number
    if pool.free_head == 0:
        pick_up(pool)
    number = pool.free_head
    if number:
        pool.free_head = (<uint32_t *> pool_item(pool, number, pool.item_size))[0]
        pool.free_count -= 1
        return number
    number = pool.used
    if ensure_chunk(pool, number) < 0:
        return 0
    pool.used += 1
    return number


cdef void pool_give_back(Pool *pool, uint32_t number) noexcept nogil:
    cdef uint32_t *link = <uint32_t *> pool_item(pool, number, pool.item_size)
    while True:
        link[0] = atomic_load_u32(&pool.given_back)
        if atomic_replace_u32(&pool.given_back, link[0], number):
            return


cdef bint pool_reset_if_unused(Pool *pool, ReclaimDomain *reclaim) noexcept nogil:
    if atomic_load_u32(&pool.given_back):
        pick_up(pool)
    if pool.free_count != pool.used - pool.kept:
        return False
    pool.used = pool.kept
    pool.free_head = 0
    pool.free_count = 0
    free_chunks(pool, 1, reclaim)
    return True


cdef uint64_t pool_memory_bytes(const Pool *pool) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint64_t size
    cdef uint64_t touched
    cdef uint32_t first = POOL_SMALL_TOTAL
    cdef int index
    for index in range(POOL_SMALL_CHUNKS):
        if pool.small[index] != NULL:
            total += POOL_SMALL_ITEMS * pool.item_size
    if pool.large == NULL:
        return total
    total += POOL_LARGE_CHUNKS * sizeof(uint8_t *)
    for index in range(POOL_LARGE_CHUNKS):
        if pool.large[index] != NULL:
            size = large_size(pool, index)
            if size >= PAGES_SIZE_MINIMUM and pool.used < 2 * first:
                touched = <uint64_t> (pool.used - first) * pool.item_size
                size = (touched + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
            total += size
        first *= 2
    return total


cdef inline size_t large_size(const Pool *pool, int order) noexcept nogil:
    """Bytes of a large chunk."""
    return (<size_t> POOL_SMALL_TOTAL << order) * pool.item_size


cdef void pick_up(Pool *pool) noexcept nogil:
    """Move what others gave back to the writer's own list, which must be walked to be counted."""
    cdef uint32_t number = atomic_exchange_u32(&pool.given_back, 0)
    cdef uint32_t following
    cdef uint32_t *link
    while number:
        link = <uint32_t *> pool_item(pool, number, pool.item_size)
        following = link[0]
        link[0] = pool.free_head
        pool.free_head = number
        pool.free_count += 1
        number = following


cdef int ensure_chunk(Pool *pool, uint32_t number) noexcept nogil:
    """Make sure that the chunk of number exists; 0, or -1 when memory is short or all numbers are used."""
    cdef void *chunk
    cdef uint8_t **large
    cdef uint32_t index
    cdef int order
    if number < POOL_SMALL_TOTAL:
        index = number // POOL_SMALL_ITEMS
        if pool.small[index] == NULL:
            chunk = calloc(POOL_SMALL_ITEMS, pool.item_size)
            if chunk == NULL:
                return -1
            atomic_store_pointer(<void **> &pool.small[index], chunk)
        return 0
    order = 24 - count_leading_zeros(number)
    if order >= POOL_LARGE_CHUNKS:
        return -1
    if pool.large == NULL:
        large = <uint8_t **> calloc(POOL_LARGE_CHUNKS, sizeof(uint8_t *))
        if large == NULL:
            return -1
        atomic_store_pointer(<void **> &pool.large, large)
    if pool.large[order] == NULL:
        chunk = pages_allocate(large_size(pool, order))
        if chunk == NULL:
            return -1
        atomic_store_pointer(<void **> &pool.large[order], chunk)
    return 0


cdef void free_chunks(Pool *pool, int small_kept, ReclaimDomain *reclaim) noexcept nogil:
    """Free all but the first few small chunks; large ones through the domain if there is one."""
    cdef size_t size
    cdef int index
    for index in range(small_kept, POOL_SMALL_CHUNKS):
        free(pool.small[index])
        pool.small[index] = NULL
    if pool.large != NULL:
        for index in range(POOL_LARGE_CHUNKS):
            size = large_size(pool, index)
            if pool.large[index] == NULL:
                continue
            if reclaim == NULL or reclaim_pages(reclaim, pool.large[index], size) < 0:
                pages_free(pool.large[index], size)
        free(pool.large)
        pool.large = NULL
