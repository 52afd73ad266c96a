"""Two forms: up to 1536 identifiers an open-addressed table, like that of id_map; beyond, one bit per identifier.

    identifiers   1..6  7..12  13..24  ...  769..1536 | 1537..65535
    capacity      8     16     32           2048      | bitmap
    bytes         16    32     64           4096      | 8192

A set halves when it is less than 1/8 full, and the bitmap becomes a table again at 512, so that no single add and
remove can make it change to and fro. The client chooses the identifiers and may choose them so that they collide; as a
table holds 1536 at most, that costs us 1 to 4 microseconds per packet.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    CAPACITY_MINIMUM = 8
    TABLE_CAPACITY_MAXIMUM = 2048
    PACKET_ID_COUNT = 65536      # bits of the bitmap, 0 included
    BITMAP_BYTES = 8192
    BITMAP_COUNT_MINIMUM = 512   # identifiers; with so few a bitmap becomes a table again


cdef void packet_ids_init(PacketIdSet *ids) noexcept nogil:
    memset(ids, 0, sizeof(PacketIdSet))


cdef void packet_ids_free(PacketIdSet *ids) noexcept nogil:
    free(ids.places)
    packet_ids_init(ids)


cdef int packet_ids_add(PacketIdSet *ids, uint16_t packet_id) noexcept nogil:
    if packet_id == 0:
        return -1
    if packet_ids_has(ids, packet_id):
        return 0
    if ids.capacity == 0:
        if resize(ids, CAPACITY_MINIMUM) < 0:
            return -1
    elif ids.capacity < PACKET_ID_COUNT and (ids.count + 1) * 4 > ids.capacity * 3:
        if resize(ids, ids.capacity * 2 if ids.capacity < TABLE_CAPACITY_MAXIMUM else PACKET_ID_COUNT) < 0:
            return -1
    put(ids, packet_id)
    ids.count += 1
    return 1


cdef bint packet_ids_has(const PacketIdSet *ids, uint16_t packet_id) noexcept nogil:
    if ids.count == 0 or packet_id == 0:
        return False
    if ids.capacity == PACKET_ID_COUNT:
        return (<const uint8_t *> ids.places)[packet_id >> 3] >> (packet_id & 7) & 1
    return (<const uint16_t *> ids.places)[find(ids, packet_id)] != 0


cdef bint packet_ids_remove(PacketIdSet *ids, uint16_t packet_id) noexcept nogil:
    if not packet_ids_has(ids, packet_id):
        return False
    ids.count -= 1
    if ids.count == 0:
        packet_ids_free(ids)
    elif ids.capacity == PACKET_ID_COUNT:
        (<uint8_t *> ids.places)[packet_id >> 3] &= ~(1 << (packet_id & 7))
        if ids.count <= BITMAP_COUNT_MINIMUM:
            resize(ids, TABLE_CAPACITY_MAXIMUM)  # If memory is short it stays as it is; so below.
    else:
        erase(ids, find(ids, packet_id))
        if ids.capacity > CAPACITY_MINIMUM and ids.count * 8 <= ids.capacity:
            resize(ids, ids.capacity // 2)
    return True


cdef uint16_t packet_ids_each(const PacketIdSet *ids, uint32_t *cursor) noexcept nogil:
    cdef const uint8_t *bits = <const uint8_t *> ids.places
    cdef uint32_t place
    while cursor[0] < ids.capacity:
        place = cursor[0]
        if ids.capacity < PACKET_ID_COUNT:
            cursor[0] = place + 1
            if (<const uint16_t *> ids.places)[place] != 0:
                return (<const uint16_t *> ids.places)[place]
        elif bits[place >> 3] >> (place & 7) == 0:
            cursor[0] = (place | 7) + 1  # The rest of the byte is empty.
        else:
            cursor[0] = place + 1
            if bits[place >> 3] >> (place & 7) & 1:
                return place
    return 0


cdef uint64_t packet_ids_memory_bytes(const PacketIdSet *ids) noexcept nogil:
    return places_bytes(ids.capacity)


cdef inline uint32_t places_bytes(uint32_t capacity) noexcept nogil:
    return BITMAP_BYTES if capacity == PACKET_ID_COUNT else capacity * <uint32_t> sizeof(uint16_t)


cdef inline uint32_t home(const PacketIdSet *ids, uint16_t packet_id) noexcept nogil:
    # Fibonacci hashing: clients count their identifiers up, and consecutive ones lie spread.
    return (packet_id * <uint32_t> 40503U & 0xFFFF) * ids.capacity >> 16


cdef inline uint32_t find(const PacketIdSet *ids, uint16_t packet_id) noexcept nogil:
    """The place of packet_id in a table, or the free place where it would go."""
    cdef const uint16_t *places = <const uint16_t *> ids.places
    cdef uint32_t place = home(ids, packet_id)
    while places[place] != 0 and places[place] != packet_id:
        place = (place + 1) & (ids.capacity - 1)
    return place


cdef inline void put(PacketIdSet *ids, uint16_t packet_id) noexcept nogil:
    if ids.capacity == PACKET_ID_COUNT:
        (<uint8_t *> ids.places)[packet_id >> 3] |= 1 << (packet_id & 7)
    else:
        (<uint16_t *> ids.places)[find(ids, packet_id)] = packet_id


cdef void erase(PacketIdSet *ids, uint32_t hole) noexcept nogil:
    """Free a place of a table and shift back what was pushed beyond it; see id_map."""
    cdef uint16_t *places = <uint16_t *> ids.places
    cdef uint32_t mask = ids.capacity - 1
    cdef uint32_t place = hole
    while True:
        place = (place + 1) & mask
        if places[place] == 0:
            break
        if ((place - home(ids, places[place])) & mask) >= ((place - hole) & mask):
            places[hole] = places[place]
            hole = place
    places[hole] = 0


cdef int resize(PacketIdSet *ids, uint32_t capacity) noexcept nogil:
    """Move all identifiers to other places; 0, or -1 when memory is short, and nothing has changed."""
    cdef PacketIdSet resized = PacketIdSet(places=calloc(1, places_bytes(capacity)), count=ids.count, capacity=capacity)
    cdef uint32_t cursor = 0
    cdef uint16_t packet_id
    if resized.places == NULL:
        return -1
    while True:
        packet_id = packet_ids_each(ids, &cursor)
        if packet_id == 0:
            break
        put(&resized, packet_id)
    free(ids.places)
    ids[0] = resized
    return 0


cdef class PacketIds:
    """A PacketIdSet with the manners of a set."""

    cdef PacketIdSet ids

    def __dealloc__(self):
        packet_ids_free(&self.ids)

    def __len__(self):
        return packet_ids_count(&self.ids)

    def __contains__(self, uint16_t packet_id):
        return packet_ids_has(&self.ids, packet_id)

    def __iter__(self):
        cdef uint32_t cursor = 0
        cdef uint16_t packet_id
        found = []
        while True:
            packet_id = packet_ids_each(&self.ids, &cursor)
            if packet_id == 0:
                return iter(found)
            found.append(packet_id)

    def add(self, uint16_t packet_id):
        """Is it new?"""
        if packet_id == 0:
            raise ValueError("0 is no packet identifier")
        cdef int result = packet_ids_add(&self.ids, packet_id)
        if result < 0:
            raise MemoryError
        return result == 1

    def remove(self, uint16_t packet_id):
        """Was it there?"""
        return packet_ids_remove(&self.ids, packet_id)

    def clear(self):
        packet_ids_free(&self.ids)

    @property
    def memory_bytes(self):
        """Bytes beside the struct."""
        return packet_ids_memory_bytes(&self.ids)
