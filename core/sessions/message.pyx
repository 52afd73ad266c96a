"""See message.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rookery.core.structures.bytes cimport Bytes

cdef extern from *:
    """
    #define ROOKERY_ADD(counter, amount) __atomic_add_fetch(&(counter), (amount), __ATOMIC_ACQ_REL)
    #define ROOKERY_SUBTRACT(counter, amount) __atomic_sub_fetch(&(counter), (amount), __ATOMIC_ACQ_REL)
    """
    uint32_t ROOKERY_ADD(uint32_t counter, uint32_t amount) noexcept nogil
    uint32_t ROOKERY_SUBTRACT(uint32_t counter, uint32_t amount) noexcept nogil


cdef Message *message_new(const Publication *publication) noexcept nogil:
    cdef size_t size = (
        sizeof(Message) + publication.topic.size + publication.forwarded.size + publication.payload.size
    )
    cdef Message *message = <Message *> malloc(size)
    cdef uint8_t *out
    cdef uint32_t part
    cdef const Bytes *piece
    if message == NULL:
        return NULL
    message.references = 1
    message.is_shared = 0
    message.qos = publication.qos
    message.retain = publication.retain
    message.payload_format_indicator = publication.payload_format_indicator
    message.expires_at_ms = publication.expires_at_ms
    message.publisher = publication.publisher
    message.topic_size = <uint32_t> publication.topic.size
    message.properties_size = publication.forwarded.size
    message.payload_size = <uint32_t> publication.payload.size
    out = <uint8_t *> message + sizeof(Message)
    memcpy(out, publication.topic.data, publication.topic.size)
    out += publication.topic.size
    for part in range(publication.forwarded.part_count):
        piece = &publication.forwarded.parts[part]
        memcpy(out, piece.data, piece.size)
        out += piece.size
    if publication.payload.size > 0:
        memcpy(out, publication.payload.data, publication.payload.size)
    return message


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
        free(message)


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
