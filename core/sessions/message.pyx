"""See message.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rookery.core.structures.atomics cimport (
    atomic_add_u64, atomic_load_u32, atomic_load_u64, atomic_replace_u32, atomic_subtract_u64)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.spill cimport Spill, spill_allocate, spill_free

cdef extern from *:
    """
    #define ROOKERY_ADD(counter, amount) __atomic_add_fetch(&(counter), (amount), __ATOMIC_ACQ_REL)
    #define ROOKERY_SUBTRACT(counter, amount) __atomic_sub_fetch(&(counter), (amount), __ATOMIC_ACQ_REL)
    """
    uint32_t ROOKERY_ADD(uint32_t counter, uint32_t amount) noexcept nogil
    uint32_t ROOKERY_SUBTRACT(uint32_t counter, uint32_t amount) noexcept nogil


cdef uint64_t WAITING_BYTES = 0  # atomic


cdef inline size_t _size_of(const Publication *publication) noexcept nogil:
    return sizeof(Message) + publication.topic.size + publication.forwarded.size + publication.payload.size


cdef void _fill(Message *message, const Publication *publication, MessageStorage storage) noexcept nogil:
    cdef uint8_t *out = <uint8_t *> message + sizeof(Message)
    cdef uint32_t part
    cdef const Bytes *piece
    message.references = 1
    message.storage = storage
    message.is_shared = 0
    message.qos = publication.qos
    message.retain = publication.retain
    message.payload_format_indicator = publication.payload_format_indicator
    message.expires_at_ms = publication.expires_at_ms
    message.publisher = publication.publisher
    message.topic_size = <uint32_t> publication.topic.size
    message.properties_size = publication.forwarded.size
    message.payload_size = <uint32_t> publication.payload.size
    memcpy(out, publication.topic.data, publication.topic.size)
    out += publication.topic.size
    for part in range(publication.forwarded.part_count):
        piece = &publication.forwarded.parts[part]
        memcpy(out, piece.data, piece.size)
        out += piece.size
    if publication.payload.size > 0:
        memcpy(out, publication.payload.data, publication.payload.size)


cdef Message *message_new(const Publication *publication) noexcept nogil:
    cdef Message *message = <Message *> malloc(_size_of(publication))
    if message != NULL:
        _fill(message, publication, MESSAGE_PLAIN)
    return message


cdef void _free(Message *message) noexcept nogil:
    if message.storage == MESSAGE_SPILLED:
        spill_free(message)
        return
    if message.storage == MESSAGE_COUNTED:
        atomic_subtract_u64(&WAITING_BYTES, message_size(message))
    free(message)


cdef void message_acquire(Message *message) noexcept nogil:
    if message.is_shared:
        ROOKERY_ADD(message.references, 1)
    else:
        message.references += 1


cdef void message_release(Message *message) noexcept nogil:
    cdef uint32_t left
    if message == NULL:
        return
    if message.is_shared:
        left = ROOKERY_SUBTRACT(message.references, 1)
    else:
        message.references -= 1
        left = message.references
    if left == 0:
        _free(message)


cdef void message_share(Message *message) noexcept nogil:
    # Written before the queue's mutex hands the message over, so the receiving thread sees it. A message that is
    # shared already is not written again: other threads are reading the flag.
    if not message.is_shared:
        message.is_shared = 1


cdef Message *publication_keep(Publication *publication) noexcept nogil:
    if publication.message == NULL:
        publication.message = message_new(publication)
        if publication.message == NULL:
            return NULL
    message_acquire(publication.message)
    return publication.message


cdef uint64_t waiting_bytes() noexcept nogil:
    return atomic_load_u64(&WAITING_BYTES)


cdef Message *_spilled(const Publication *publication, Spill *spill) noexcept nogil:
    cdef Message *message = <Message *> spill_allocate(spill, _size_of(publication))
    if message != NULL:
        _fill(message, publication, MESSAGE_SPILLED)
    return message


cdef Message *publication_keep_waiting(
    Publication *publication, Spill *spill, uint64_t limit_bytes
) noexcept nogil:
    cdef Message *message = publication.message
    if spill == NULL or (message != NULL and atomic_load_u32(&message.storage) != MESSAGE_PLAIN):
        return publication_keep(publication)
    if waiting_bytes() >= limit_bytes:
        # Also what is kept on the heap already, for a window say, is soon kept by inboxes alone.
        message = _spilled(publication, spill)
        if message != NULL:
            message_release(publication.message)
            publication.message = message
            return publication_keep(publication)
    message = publication_keep(publication)
    if message != NULL and atomic_replace_u32(&message.storage, MESSAGE_PLAIN, MESSAGE_COUNTED):
        atomic_add_u64(&WAITING_BYTES, message_size(message))
    return message


cdef void publication_of(Message *message, Publication *publication) noexcept nogil:
    memset(publication, 0, sizeof(Publication))
    publication.topic.data = message_topic(message)
    publication.topic.size = message.topic_size
    publication.payload.data = message_payload(message)
    publication.payload.size = message.payload_size
    if message.properties_size > 0:
        publication.forwarded.parts[0].data = message_properties(message)
        publication.forwarded.parts[0].size = message.properties_size
        publication.forwarded.part_count = 1
        publication.forwarded.size = message.properties_size
    publication.expires_at_ms = message.expires_at_ms
    publication.publisher = message.publisher
    publication.qos = message.qos
    publication.retain = message.retain
    publication.payload_format_indicator = message.payload_format_indicator
    publication.message = message
    message_acquire(message)


cdef void publication_end(Publication *publication) noexcept nogil:
    message_release(publication.message)
    publication.message = NULL
