"""PublishRun: PUBLISH packets of one read that differ in nothing but payload and packet identifier.

A client that sends many messages at once mostly repeats itself: topic, flags and properties are byte for byte those of
the packet before. What the first of them was found to say, and that it may be said, holds for the others: they are
compared instead of being decoded and checked, which costs a third.

The run refers to the bytes that were read and to the topic that was matched last, and ends with either.
"""

from libc.stdint cimport uint8_t, uint32_t
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.state cimport World
from rookery.core.structures.bytes cimport is_same
from rookery.core.wire.packets cimport Frame, PublishPacket


cdef struct PublishRun:
    const uint8_t *head        # body of the packet that began it, borrowed from what was read; NULL = there is none
    uint32_t leading_size      # bytes of the head that are the same: all of it, or those before the packet identifier
    uint32_t trailing_size     # and those behind the packet identifier
    uint32_t head_size         # bytes, from the beginning of the body to the payload
    uint8_t flags              # of the fixed header
    PublishPacket packet       # the last one
    Publication publication    # what is made of it


# Before the bytes go that it refers to.
cdef inline void run_end(PublishRun *run) noexcept nogil:
    run.head = NULL


# Is this packet one more of it? Then run.packet is this packet.
cdef inline bint run_continues(
    PublishRun *run, const World *world, const Frame *frame, const uint8_t *body
) noexcept nogil:
    cdef PublishPacket *packet = &run.packet
    if (
        run.head == NULL
        or world.recent_entry == NULL
        or frame.flags != run.flags
        or frame.body_size < run.head_size
        or not is_same(body, run.head, run.leading_size)
    ):
        return False
    if packet.qos > 0:
        packet.packet_id = <unsigned int> body[run.leading_size] << 8 | body[run.leading_size + 1]
        if packet.packet_id == 0 or not is_same(
                body + run.head_size - run.trailing_size, run.head + run.head_size - run.trailing_size,
                run.trailing_size):
            return False
    packet.payload.data = body + run.head_size
    packet.payload.size = frame.body_size - run.head_size
    return True


# From this packet on, which has been decoded and may be published. A Topic Alias in it stays what it is: a
# packet that gives it another topic has another head.
cdef inline void run_begin(PublishRun *run, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef uint32_t topic_size = 2 + (<uint32_t> body[0] << 8 | body[1])
    run.head = body
    run.flags = frame.flags
    run.head_size = frame.body_size - <uint32_t> run.packet.payload.size
    if run.packet.qos == 0:
        run.leading_size = run.head_size
        run.trailing_size = 0
    else:
        run.leading_size = topic_size
        run.trailing_size = run.head_size - topic_size - 2
