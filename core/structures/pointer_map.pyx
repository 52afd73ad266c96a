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


cdef void pointer_map_free(PointerMap *map) noexcept nogil:
    free(map.slots)
    map.slots = NULL
    map.capacity = 0
    map.count = 0
