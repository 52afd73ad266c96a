"""Redelivery: QoS 2 messages that were taken from a publisher and had not reached every shard when the process ended.

A shard that takes such a message for a tenant with persistent sessions on other shards writes message and TAKEN in one
group. The others write what arrived with them under a number of their own, and ARRIVED says of which message it is a
copy. Since a shard submits its records before it hands over mail, the log never holds the copy without the original.
What it may lack at a start are the copies: until PUBREL has come, the log tells which sessions and shared groups have
got the message, and the rest of those that match get it now. Thus the publisher, who will send it again or go on with
PUBREL, need not be asked, and nobody gets it twice.

With a will that went to other shards it is the same from WILL_SENT to WILL_SPREAD, see wills.pxd.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Message
from rookery.core.sessions.state cimport Journal, Session, Tenant
from rookery.core.shards.state cimport Shard, Universe
from rookery.core.structures.pointer_map cimport PointerMap


cdef struct NumberList:
    uint64_t *numbers
    uint32_t count
    uint32_t capacity


cdef struct Taken:
    uint64_t serial            # of the publisher's session; of a will: number
    uint16_t packet_id         # 0 = a will
    Tenant *tenant             # of a will: one user on this shard
    Shard *shard
    uint64_t number            # of the message in the log
    Message *message           # one reference
    NumberList sessions        # serials of those that have got it
    NumberList groups          # identities of shared groups that have
    bint is_retained           # where retained messages are kept


cdef struct Redelivery:
    PointerMap by_packet       # Taken, by serial and packet identifier
    PointerMap by_number       # the same, by number of the message


# A session by its serial; NULL when there is none.
cdef Session *session_of_serial(const PointerMap *sessions, uint64_t serial) noexcept nogil
# Different numbers have different hashes.
cdef uint64_t number_hash(uint64_t number) noexcept nogil

# 0, or -1 when memory is short; the message stays the caller's.
cdef int redelivery_taken(
    Redelivery *redelivery, uint64_t serial, uint16_t packet_id, uint64_t number, Message *message) noexcept nogil
cdef void redelivery_released(Redelivery *redelivery, uint64_t serial, uint16_t packet_id) noexcept nogil
# The same for a will; takes over one user of the tenant on this shard.
cdef int redelivery_will_sent(
    Redelivery *redelivery, Shard *shard, Tenant *tenant, uint64_t number, Message *message) noexcept nogil
cdef void redelivery_will_spread(Redelivery *redelivery, uint64_t number) noexcept nogil
# A session got the message, by a shared group unless its identity is 0. 0, or -1 when memory is short.
cdef int redelivery_arrived(Redelivery *redelivery, uint64_t number, uint64_t serial, uint64_t group) noexcept nogil
cdef void redelivery_retained(Redelivery *redelivery, uint64_t number) noexcept nogil
# Hand out what is missing. Journals are open, and members have joined their groups. 0, or -1 when memory is short.
cdef int redelivery_run(Redelivery *redelivery, Universe *universe, const PointerMap *sessions) noexcept nogil
# Behind redelivery_run, when all that it has recorded is submitted: wills are where they were to go.
cdef void redelivery_end(const Redelivery *redelivery, Journal *journal) noexcept nogil
cdef void redelivery_clear(Redelivery *redelivery) noexcept nogil
