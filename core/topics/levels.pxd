"""Levels: the text of each topic level once, under a number. `sport/tennis` and `tennis/+` share their "tennis".

One table per tree, so that tenants cannot measure each other and memory goes with its tenant. A level is counted by the
nodes that carry it; its text stays readable, for filters are printed from it. Looking up takes no lock.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from rookery.core.structures.hashing cimport HashKey, hash_bytes
from rookery.core.structures.pool cimport Pool, pool_item
from rookery.core.structures.reclaim cimport ReclaimDomain
from rookery.core.structures.table cimport Table, TableProbe, table_first, table_next

cdef enum:
    NO_LEVEL = 0
    LEVEL_INLINE_SIZE = 18  # bytes of text that need no block of their own

cdef struct Level:
    uint32_t references               # nodes that carry it; touched by the writer alone
    uint16_t size                     # bytes of text
    uint8_t text[LEVEL_INLINE_SIZE]   # a longer text: the address of its block, from text[2] on

cdef struct Levels:
    Pool pool
    Table table            # hash of the text -> number
    HashKey key
    uint64_t block_bytes   # of the texts that need a block


cdef int levels_init(Levels *levels, const HashKey *key, ReclaimDomain *reclaim) noexcept nogil
cdef void levels_clear(Levels *levels) noexcept nogil
# The number of this text with one more reference; NO_LEVEL when memory is short.
cdef uint32_t levels_intern(Levels *levels, const uint8_t *text, Py_ssize_t size) noexcept nogil
# One reference less. 1: it was the last, nobody can find the level any more; call levels_release after the grace.
cdef bint levels_drop(Levels *levels, uint32_t number) noexcept nogil
# Any thread.
cdef void levels_release(Levels *levels, uint32_t number) noexcept nogil
# Return the memory of the texts if there is none. Was it so?
cdef bint levels_reset_if_unused(Levels *levels, ReclaimDomain *reclaim) noexcept nogil
cdef uint64_t levels_memory_bytes(const Levels *levels) noexcept nogil


cdef inline Level *level_at(const Levels *levels, uint32_t number) noexcept nogil:
    return <Level *> pool_item(&levels.pool, number, sizeof(Level))


# Borrowed; valid as long as a node carries the level, and to the end of the turn.
cdef inline const uint8_t *level_text(const Level *level) noexcept nogil:
    cdef const uint8_t *block
    if level.size <= LEVEL_INLINE_SIZE:
        return level.text
    memcpy(&block, &level.text[2], sizeof(block))
    return block


cdef inline uint32_t level_hash(const Levels *levels, const uint8_t *text, Py_ssize_t size) noexcept nogil:
    return <uint32_t> (hash_bytes(&levels.key, text, size) >> 32)


# The number of this text, or NO_LEVEL.
cdef inline uint32_t levels_find(
    const Levels *levels, uint32_t hash, const uint8_t *text, Py_ssize_t size
) noexcept nogil:
    cdef TableProbe probe
    cdef const Level *level
    cdef uint32_t number = table_first(&levels.table, hash, &probe)
    while number:
        level = level_at(levels, number)
        if level.size == size and memcmp(level_text(level), text, size) == 0:
            return number
        number = table_next(&probe)
    return NO_LEVEL
