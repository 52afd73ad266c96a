"""Interning, counting and releasing of topic levels."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from rookery.core.structures.atomics cimport atomic_add_u64, atomic_subtract_u64
from rookery.core.structures.hashing cimport HashKey
from rookery.core.structures.pool cimport (
    pool_clear, pool_give_back, pool_init, pool_memory_bytes, pool_reset_if_unused, pool_take)
from rookery.core.structures.reclaim cimport ReclaimDomain
from rookery.core.structures.table cimport (
    table_clear, table_init, table_insert, table_memory_bytes, table_remove)


cdef int levels_init(Levels *levels, const HashKey *key, ReclaimDomain *reclaim) noexcept nogil:
    levels.key = key[0]
    levels.block_bytes = 0
    table_init(&levels.table, reclaim)
    return pool_init(&levels.pool, sizeof(Level), 1)


cdef void levels_clear(Levels *levels) noexcept nogil:
    cdef uint32_t number
    # Blocks hang off the levels that are still referenced. All others were released before, and have none.
    for number in range(1, levels.pool.used):
        if level_at(levels, number).size > LEVEL_INLINE_SIZE:
            free(<void *> level_text(level_at(levels, number)))
    table_clear(&levels.table)
    pool_clear(&levels.pool)


cdef uint32_t levels_intern(Levels *levels, const uint8_t *text, Py_ssize_t size) noexcept nogil:
    cdef uint32_t hash = level_hash(levels, text, size)
    cdef uint32_t number = levels_find(levels, hash, text, size)
    cdef Level *level
    if number != NO_LEVEL:
        level_at(levels, number).references += 1
        return number
    number = pool_take(&levels.pool)
    if number == 0:
        return NO_LEVEL
    level = level_at(levels, number)
    if write_text(levels, level, text, size) < 0:
        pool_give_back(&levels.pool, number)
        return NO_LEVEL
    level.references = 1
    if table_insert(&levels.table, hash, number) < 0:
        levels_release(levels, number)
        return NO_LEVEL
    return number


cdef bint levels_drop(Levels *levels, uint32_t number) noexcept nogil:
    cdef Level *level = level_at(levels, number)
    level.references -= 1
    if level.references:
        return False
    table_remove(&levels.table, level_hash(levels, level_text(level), level.size), number)
    return True


cdef void levels_release(Levels *levels, uint32_t number) noexcept nogil:
    cdef Level *level = level_at(levels, number)
    if level.size > LEVEL_INLINE_SIZE:
        free(<void *> level_text(level))
        atomic_subtract_u64(&levels.block_bytes, level.size)
        level.size = 0
    pool_give_back(&levels.pool, number)


cdef bint levels_reset_if_unused(Levels *levels, ReclaimDomain *reclaim) noexcept nogil:
    return pool_reset_if_unused(&levels.pool, reclaim)


cdef uint64_t levels_memory_bytes(const Levels *levels) noexcept nogil:
    return pool_memory_bytes(&levels.pool) + table_memory_bytes(&levels.table) + levels.block_bytes


cdef int write_text(Levels *levels, Level *level, const uint8_t *text, Py_ssize_t size) noexcept nogil:
    cdef uint8_t *block
    if size <= LEVEL_INLINE_SIZE:
        memcpy(level.text, text, size)
    else:
        block = <uint8_t *> malloc(size)
        if block == NULL:
            level.size = 0
            return -1
        memcpy(block, text, size)
        memcpy(&level.text[2], &block, sizeof(block))
        atomic_add_u64(&levels.block_bytes, size)
    level.size = <uint16_t> size
    return 0
