"""IdMap: 32-bit number -> 32-bit number, for the many small maps that hang off sessions and connections.

16 bytes while empty (all of them zero: a zeroed struct is an empty map), 32 more with up to three entries, at most 32
bytes per entry afterwards; it shrinks when it is drained. Every key is allowed but UINT32_MAX; every value is. Owned by
one thread. Keys are numbers of our own making: they are spread, but not against somebody who chooses them.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct IdMap:
    uint32_t *keys_values    # pairs: key + 1 (0 = free), value; NULL while empty
    uint32_t count           # entries
    uint8_t capacity_bits    # 1 << capacity_bits pairs; meaningless while empty


cdef void id_map_init(IdMap *map) noexcept nogil
# Forgets all; the map is empty and may be used again.
cdef void id_map_free(IdMap *map) noexcept nogil
# Adds or replaces; replacing never fails. 0, or -1 when memory is short or key is UINT32_MAX.
cdef int id_map_set(IdMap *map, uint32_t key, uint32_t value) noexcept nogil
# The value, or missing if the key is not there.
cdef uint32_t id_map_get(const IdMap *map, uint32_t key, uint32_t missing) noexcept nogil
# Was it there?
cdef bint id_map_remove(IdMap *map, uint32_t key) noexcept nogil
# The entries one by one, in no order: *cursor starts at 0; False at the end. The map must not change meanwhile.
cdef bint id_map_each(const IdMap *map, uint32_t *cursor, uint32_t *key, uint32_t *value) noexcept nogil
# Bytes beside the struct.
cdef uint64_t id_map_memory_bytes(const IdMap *map) noexcept nogil


cdef inline uint32_t id_map_count(const IdMap *map) noexcept nogil:
    return map.count
