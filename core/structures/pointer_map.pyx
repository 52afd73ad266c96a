"""See pointer_map.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    _FIRST_CAPACITY = 8


cdef int _resize(PointerMap *map, uint32_t capacity) noexcept nogil:
    cdef PointerSlot *slots = <PointerSlot *> calloc(capacity, sizeof(PointerSlot))
    cdef uint32_t index, place
    if slots == NULL:
        return -1
    for index in range(map.capacity):
        if map.slots[index].value != NULL:
            place = <uint32_t> map.slots[index].hash & (capacity - 1)
            while slots[place].value != NULL:
                place = (place + 1) & (capacity - 1)
            slots[place] = map.slots[index]
    free(map.slots)
    map.slots = slots
    map.capacity = capacity
    return 0


cdef int pointer_map_add(PointerMap *map, uint64_t hash, void *value) noexcept nogil:
    cdef uint32_t place
    # At most three quarters full, so that a probe for what is not there stays short.
    if (map.count + 1) * 4 > map.capacity * 3:
        if _resize(map, map.capacity * 2 if map.capacity > 0 else _FIRST_CAPACITY) != 0:
            return -1
    place = <uint32_t> hash & (map.capacity - 1)
    while map.slots[place].value != NULL:
        place = (place + 1) & (map.capacity - 1)
    map.slots[place].hash = hash
    map.slots[place].value = value
    map.count += 1
    return 0


cdef bint pointer_map_remove(PointerMap *map, uint64_t hash, void *value) noexcept nogil:
    cdef uint32_t place, hole, home, mask
    if map.count == 0:
        return False
    mask = map.capacity - 1
    place = <uint32_t> hash & mask
    while map.slots[place].value != value:
        if map.slots[place].value == NULL:
            return False
        place = (place + 1) & mask
    hole = place
    while True:
        place = (place + 1) & mask
        if map.slots[place].value == NULL:
            break
        home = <uint32_t> map.slots[place].hash & mask
        # May move into the hole only if its home does not lie between the hole and where it stands.
        if ((place - home) & mask) >= ((place - hole) & mask):
            map.slots[hole] = map.slots[place]
            hole = place
    map.slots[hole].value = NULL
    map.count -= 1
    if map.count == 0:
        pointer_map_free(map)
    elif map.capacity > _FIRST_CAPACITY and map.count * 8 < map.capacity:
        _resize(map, map.capacity // 2)  # Without memory the map just stays large.
    return True


cdef void *pointer_map_first(const PointerMap *map, uint64_t hash, uint32_t *cursor) noexcept nogil:
    if map.count == 0:
        return NULL
    cursor[0] = <uint32_t> hash & (map.capacity - 1)
    while map.slots[cursor[0]].value != NULL:
        if map.slots[cursor[0]].hash == hash:
            return map.slots[cursor[0]].value
        cursor[0] = (cursor[0] + 1) & (map.capacity - 1)
    return NULL


cdef void *pointer_map_next(const PointerMap *map, uint64_t hash, uint32_t *cursor) noexcept nogil:
    cursor[0] = (cursor[0] + 1) & (map.capacity - 1)
    while map.slots[cursor[0]].value != NULL:
        if map.slots[cursor[0]].hash == hash:
            return map.slots[cursor[0]].value
        cursor[0] = (cursor[0] + 1) & (map.capacity - 1)
    return NULL


cdef void *pointer_map_each(const PointerMap *map, uint32_t *cursor) noexcept nogil:
    cdef void *value
    while cursor[0] < map.capacity:
        value = map.slots[cursor[0]].value
        cursor[0] += 1
        if value != NULL:
            return value
    return NULL


cdef inline uint32_t _reverse(uint32_t bits) noexcept nogil:
    """The same 32 bits from right to left."""
    bits = ((bits >> 1) & 0x55555555) | ((bits & 0x55555555) << 1)
    bits = ((bits >> 2) & 0x33333333) | ((bits & 0x33333333) << 2)
    bits = ((bits >> 4) & 0x0F0F0F0F) | ((bits & 0x0F0F0F0F) << 4)
    bits = ((bits >> 8) & 0x00FF00FF) | ((bits & 0x00FF00FF) << 8)
    return (bits >> 16) | (bits << 16)


cdef uint32_t pointer_map_scan(
    const PointerMap *map, uint32_t *cursor, void **out, uint32_t limit
) noexcept nogil:
    # The cursor counts from its highest bit down. When the map doubles, a home place that is done becomes two that are
    # done, for they differ in a bit that this order turns last.
    cdef uint32_t mask, home, place
    cdef uint32_t count = 0
    if map.count == 0:
        cursor[0] = 0
        return 0
    mask = map.capacity - 1
    home = cursor[0] & mask
    place = home
    while map.slots[place].value != NULL:
        if (<uint32_t> map.slots[place].hash & mask) == home:
            if count < limit:
                out[count] = map.slots[place].value
            count += 1
        place = (place + 1) & mask
    cursor[0] = _reverse(_reverse(cursor[0] | ~mask) + 1)
    return count


cdef void pointer_map_free(PointerMap *map) noexcept nogil:
    free(map.slots)
    map.slots = NULL
    map.capacity = 0
    map.count = 0
