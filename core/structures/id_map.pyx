"""Open addressing, linear probing, at most 3/4 full; below 1/8 the map halves. Removal shifts back what follows:

    place  0    1    2    3    4    5         a and c belong to 1, b to 2, d to 4
         [   ][ a ][ b ][ c ][ d ][   ]
    remove a: b stays, it is at home; c moves to 1, its home; d stays; 3 becomes free
         [   ][ c ][ b ][   ][ d ][   ]

so there are no tombstones and a map that is used for years probes like a new one.
"""

from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    CAPACITY_BITS_MINIMUM = 2
    CAPACITY_BITS_MAXIMUM = 31


cdef void id_map_init(IdMap *map) noexcept nogil:
    memset(map, 0, sizeof(IdMap))


cdef void id_map_free(IdMap *map) noexcept nogil:
    free(map.keys_values)
    id_map_init(map)


cdef int id_map_set(IdMap *map, uint32_t key, uint32_t value) noexcept nogil:
    cdef uint32_t place
    if key == UINT32_MAX:
        return -1
    if map.keys_values == NULL:
        if resize(map, CAPACITY_BITS_MINIMUM) < 0:
            return -1
    place = find(map, key)
    if map.keys_values[2 * <size_t> place] == 0:
        if (<uint64_t> map.count + 1) * 4 > 3ULL << map.capacity_bits:
            if resize(map, map.capacity_bits + 1) < 0:
                return -1
            place = find(map, key)
        map.keys_values[2 * <size_t> place] = key + 1
        map.count += 1
    map.keys_values[2 * <size_t> place + 1] = value
    return 0


cdef uint32_t id_map_get(const IdMap *map, uint32_t key, uint32_t missing) noexcept nogil:
    cdef uint32_t place
    if map.count == 0 or key == UINT32_MAX:
        return missing
    place = find(map, key)
    return map.keys_values[2 * <size_t> place + 1] if map.keys_values[2 * <size_t> place] else missing


cdef bint id_map_remove(IdMap *map, uint32_t key) noexcept nogil:
    cdef uint32_t *pairs = map.keys_values
    cdef uint32_t mask = mask_of(map)
    cdef uint32_t hole
    cdef uint32_t place
    if map.count == 0 or key == UINT32_MAX:
        return False
    hole = find(map, key)
    if pairs[2 * <size_t> hole] == 0:
        return False
    map.count -= 1
    if map.count == 0:
        id_map_free(map)
        return True
    place = hole
    while True:
        place = (place + 1) & mask
        if pairs[2 * <size_t> place] == 0:
            break
        # It may move to the hole unless its home lies behind the hole, in the order of probing.
        if ((place - home(map, pairs[2 * <size_t> place] - 1)) & mask) >= ((place - hole) & mask):
            pairs[2 * <size_t> hole] = pairs[2 * <size_t> place]
            pairs[2 * <size_t> hole + 1] = pairs[2 * <size_t> place + 1]
            hole = place
    pairs[2 * <size_t> hole] = 0
    if map.capacity_bits > CAPACITY_BITS_MINIMUM and map.count <= 1U << map.capacity_bits >> 3:
        resize(map, map.capacity_bits - 1)  # If memory is short it stays as it is.
    return True


cdef bint id_map_each(const IdMap *map, uint32_t *cursor, uint32_t *key, uint32_t *value) noexcept nogil:
    if map.count == 0:
        return False
    while cursor[0] <= mask_of(map):
        key[0] = map.keys_values[2 * <size_t> cursor[0]] - 1
        value[0] = map.keys_values[2 * <size_t> cursor[0] + 1]
        cursor[0] += 1
        if key[0] != UINT32_MAX:
            return True
    return False


cdef uint64_t id_map_memory_bytes(const IdMap *map) noexcept nogil:
    return 0 if map.keys_values == NULL else 8ULL << map.capacity_bits


cdef inline uint32_t mask_of(const IdMap *map) noexcept nogil:
    return (1U << map.capacity_bits) - 1


cdef inline uint32_t home(const IdMap *map, uint32_t key) noexcept nogil:
    # Fibonacci hashing: consecutive numbers, which most are, lie spread as evenly as can be.
    return key * <uint32_t> 2654435769U >> (32 - map.capacity_bits)


cdef inline uint32_t find(const IdMap *map, uint32_t key) noexcept nogil:
    """The place of key, or the free place where it would go."""
    cdef uint32_t mask = mask_of(map)
    cdef uint32_t place = home(map, key)
    while map.keys_values[2 * <size_t> place] != 0 and map.keys_values[2 * <size_t> place] != key + 1:
        place = (place + 1) & mask
    return place


cdef int resize(IdMap *map, int capacity_bits) noexcept nogil:
    """Move all entries to an array of another capacity; 0, or -1 when memory is short, and nothing has changed."""
    cdef IdMap resized = IdMap(keys_values=NULL, count=map.count, capacity_bits=capacity_bits)
    cdef uint32_t cursor = 0
    cdef uint32_t key
    cdef uint32_t value
    cdef uint32_t place
    if capacity_bits > CAPACITY_BITS_MAXIMUM:
        return -1
    resized.keys_values = <uint32_t *> calloc(2ULL << capacity_bits, sizeof(uint32_t))
    if resized.keys_values == NULL:
        return -1
    while id_map_each(map, &cursor, &key, &value):
        place = find(&resized, key)
        resized.keys_values[2 * <size_t> place] = key + 1
        resized.keys_values[2 * <size_t> place + 1] = value
    free(map.keys_values)
    map[0] = resized
    return 0


cdef class IdDict:
    """An IdMap with the manners of a dict."""

    cdef IdMap map

    def __dealloc__(self):
        id_map_free(&self.map)

    def __len__(self):
        return id_map_count(&self.map)

    def __setitem__(self, uint32_t key, uint32_t value):
        if key == UINT32_MAX:
            raise ValueError(f"{key} is no key of an id map")
        if id_map_set(&self.map, key, value) < 0:
            raise MemoryError

    def get(self, uint32_t key, uint32_t missing):
        return id_map_get(&self.map, key, missing)

    def remove(self, uint32_t key):
        """Was it there?"""
        return id_map_remove(&self.map, key)

    def clear(self):
        id_map_free(&self.map)

    def items(self):
        """The entries, in no order."""
        cdef uint32_t cursor = 0
        cdef uint32_t key
        cdef uint32_t value
        found = []
        while id_map_each(&self.map, &cursor, &key, &value):
            found.append((key, value))
        return found

    @property
    def memory_bytes(self):
        """Bytes beside the struct."""
        return id_map_memory_bytes(&self.map)
