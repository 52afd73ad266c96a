"""Messages that a session does not get: each is counted, and told of with its reason when somebody wants to know."""

from libc.stdint cimport uint8_t, uint64_t
from rookery.core.sessions.message cimport Message, Publication
from rookery.core.sessions.state cimport Session, World
from rookery.core.structures.bytes cimport Bytes

cdef enum DropReason:            # core/notices.py has the words
    DROP_OVERFLOW = 1            # the inbox, or the outbox of a client that takes no bytes, is full
    DROP_OVERFLOW_OLDEST = 2     # the inbox is full: the oldest went for a newer one
    DROP_TOO_LARGE = 3           # for the client's Maximum Packet Size
    DROP_NO_MEMORY = 4
    DROP_RETRIES_EXHAUSTED = 5   # sent again MaxResendTimes times
    DROP_EXPIRED = 6             # Message Expiry Interval; in debug mode only, and not counted
    DROP_NOT_AUTHORIZED = 7      # by rules that came into force while it waited
    DROP_FANOUT_LIMITED = 8      # MaxPersistentFanout or MaxPersistentFanoutBytes
    DROP_OUT_OF_RESOURCE = 9     # a quota of the tenant
    DROP_REASON_COUNT = 10


# Somebody did not get a message.
cdef inline void count_drop(World *world, DropReason reason) noexcept nogil:
    world.drops[<int> reason] += 1


cdef void drop_message(
    Session *session, Bytes topic, uint64_t payload_size, uint8_t qos, DropReason reason) noexcept nogil
cdef void drop_publication(
    Session *session, const Publication *publication, uint8_t qos, DropReason reason) noexcept nogil
cdef void drop_kept(Session *session, const Message *message, uint8_t qos, DropReason reason) noexcept nogil
# Not a loss: the message had a time limit.
cdef void notice_expired(Session *session, const Publication *publication, uint8_t qos) noexcept nogil
