"""PacketIdSet: the packet identifiers of incoming QoS 2 messages that were not yet released [MQTT5 4.3.3].

Most sessions have none and pay 16 zero bytes for it (a zeroed struct is an empty set); 16 identifiers take 64 bytes
beside it, all 65535 take 8 KiB. It shrinks when it is drained. Every operation is O(1). Owned by one thread.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef struct PacketIdSet:
    void *places         # capacity uint16_t, 0 = free; or the bitmap; NULL while empty
    uint32_t count       # identifiers
    uint32_t capacity    # places, a power of two; PACKET_ID_COUNT: a bitmap; 0 while empty


cdef void packet_ids_init(PacketIdSet *ids) noexcept nogil
# Forgets all; the set is empty and may be used again.
cdef void packet_ids_free(PacketIdSet *ids) noexcept nogil
# 1 = it is new, 0 = it was there, -1 = memory is short, or packet_id is 0, which is none [MQTT-2.2.1-3].
cdef int packet_ids_add(PacketIdSet *ids, uint16_t packet_id) noexcept nogil
cdef bint packet_ids_has(const PacketIdSet *ids, uint16_t packet_id) noexcept nogil
# Was it there?
cdef bint packet_ids_remove(PacketIdSet *ids, uint16_t packet_id) noexcept nogil
# The identifiers one by one, in no order: *cursor starts at 0; 0 at the end. The set must not change meanwhile.
cdef uint16_t packet_ids_each(const PacketIdSet *ids, uint32_t *cursor) noexcept nogil
# Bytes beside the struct.
cdef uint64_t packet_ids_memory_bytes(const PacketIdSet *ids) noexcept nogil


cdef inline uint32_t packet_ids_count(const PacketIdSet *ids) noexcept nogil:
    return ids.count
