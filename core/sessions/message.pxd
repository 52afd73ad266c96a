"""Message: an application message that somebody keeps; Publication: one that is being handed out right now.

A Publication borrows its bytes from the buffer that was read, so that a message which goes straight into out-buffers
is never allocated. The first who must keep it (an inflight window, an inbox, another shard, the retained tree, an
out-buffer that refers to a large payload) calls publication_keep, and all who follow share that one Message.

A Message is owned by whoever holds a reference. The count is plain while one shard alone holds it; message_share
makes it atomic before the message is handed to another thread for the first time.

Messages that wait in inboxes are counted, in WAITING_BYTES of the process; those beyond a limit lie in a Spill.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.spill cimport Spill, spill_touched
from rookery.core.wire.packets cimport ForwardedProperties

cdef enum:
    NEVER = 0  # as a point in time: does not expire


cdef enum MessageStorage:
    MESSAGE_PLAIN = 0            # on the heap
    MESSAGE_COUNTED = 1          # on the heap, in WAITING_BYTES
    MESSAGE_SPILLED = 2


cdef struct Message:
    uint32_t references
    uint8_t is_shared            # references are counted atomically
    uint8_t qos                  # as published
    uint8_t retain               # the RETAIN flag as published
    uint8_t payload_format_indicator
    uint64_t expires_at_ms       # clock of the shards; NEVER
    uint64_t publisher           # serial of the publishing session, for No Local; 0 = none (HTTP, will after the end)
    uint32_t topic_size          # bytes, all three follow the struct in this order
    uint32_t properties_size     # forwarded properties in wire form
    uint32_t payload_size
    uint32_t storage             # MessageStorage; atomic once it is shared


cdef struct EncodedPublish:      # a PUBLISH in World.scratch, written once and copied into many outboxes
    uint32_t offset              # in the scratch
    uint32_t size                # bytes; 0 = not encoded yet
    uint32_t packet_id_offset    # from the beginning of the packet


cdef struct Publication:
    Bytes topic                  # borrowed, like all below
    Bytes payload
    ForwardedProperties forwarded
    const uint8_t *packet        # as it came in, when it may go out so but for RETAIN, at QoS 0; NULL = it may not
    uint32_t packet_size         # bytes, with the fixed header
    uint8_t packet_is_5          # it is one of 5.0: other versions are written differently
    uint64_t expires_at_ms       # NEVER
    uint64_t publisher
    uint8_t qos
    uint8_t retain
    uint8_t payload_format_indicator
    uint8_t is_fanout            # goes to several sessions: worth encoding once
    uint32_t shared_place        # 1 + place of the receiving session's shared subscription; 0 = not shared
    Message *message             # the kept form: NULL until somebody keeps it; one reference is the publication's
    uint64_t journal_number      # under which this shard has written it; 0 = it has not
    uint64_t origin              # under which the shard that took it has; 0 = nobody need know who gets it
    uint64_t group               # with an origin: identity of the shared group by which it goes; 0 = none
    EncodedPublish encoded[4]    # by 2 * (version is 5.0) + (QoS is not 0)
    void *congested              # a Link whose outbox is over its high mark; NULL = none


cdef inline const uint8_t *message_topic(const Message *message) noexcept nogil:
    return <const uint8_t *> message + sizeof(Message)


cdef inline const uint8_t *message_properties(const Message *message) noexcept nogil:
    return <const uint8_t *> message + sizeof(Message) + message.topic_size


cdef inline const uint8_t *message_payload(const Message *message) noexcept nogil:
    return <const uint8_t *> message + sizeof(Message) + message.topic_size + message.properties_size


# Bytes that the message takes.
cdef inline uint32_t message_size(const Message *message) noexcept nogil:
    return <uint32_t> sizeof(Message) + message.topic_size + message.properties_size + message.payload_size


# The message is about to be read after it has waited; spill is the shard's, or NULL.
cdef inline void message_is_read(const Message *message, Spill *spill) noexcept nogil:
    if spill != NULL and message.storage == MESSAGE_SPILLED:
        spill_touched(spill, message, message_size(message))


# A new message with one reference, which is the caller's; NULL when memory is short.
cdef Message *message_new(const Publication *publication) noexcept nogil
cdef void message_acquire(Message *message) noexcept nogil
cdef void message_release(Message *message) noexcept nogil
# Before another thread gets to see it. The caller is the only shard that holds it, or it is shared already.
cdef void message_share(Message *message) noexcept nogil

# The kept form, with one reference more for the caller; NULL when memory is short.
cdef Message *publication_keep(Publication *publication) noexcept nogil
# The same for an inbox, where it may lie for long: in the spill once more than limit_bytes wait. spill NULL: without.
cdef Message *publication_keep_waiting(
    Publication *publication, Spill *spill, uint64_t limit_bytes) noexcept nogil
# Bytes of messages on the heap that an inbox keeps, or has kept, in this process.
cdef uint64_t waiting_bytes() noexcept nogil
# Hand out a kept message: borrows from it. The caller's reference must outlive the publication.
cdef void publication_of(Message *message, Publication *publication) noexcept nogil
# Drops what publication_keep stored.
cdef void publication_end(Publication *publication) noexcept nogil
