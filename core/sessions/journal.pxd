"""Journal: what a shard writes into the durable log about its persistent sessions and retained messages.

A record per change, in the order of the changes, so that reading them back leads to the same state. A session is named
by its serial, which is unique over all starts; a message is written once and named by a number in each delivery.

    SESSION        it began, was attached or detached, or its expiry changed      (IS_AFRESH: forget what was before)
    ENDED          it is gone with all that it had
    SUBSCRIBED, UNSUBSCRIBED
    MESSAGE        an application message that deliveries will name
    QUEUED         a delivery joined the inbox; with a packet identifier: it was sent at once
    SENT           the oldest delivery of the inbox was sent with this packet identifier
    DROPPED        a delivery left the inbox unsent (expired, no longer allowed), or with QoS 0
    RECEIVED       PUBREC came: from now on PUBREL is due
    SETTLED        the packet identifier is free again
    TAKEN          a QoS 2 message of the client came
    RELEASED       its PUBREL came
    WILL, WILL_GONE
    RETAINED, CLEARED
    ARRIVED        a message is a copy of one that another shard has taken, see core/shards/redelivery.pxd;
                   number 0: that one was retained

Transient sessions are never written, and deliveries of QoS 0 only from an inbox and where World.writes_qos0 says so.
Whoever must not speak before a record is durable asks for it by
journal_await: what its connection is sent from then on leaves after the log has committed.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.state cimport Journal, Link, Session, Tenant, World
from rookery.core.topics.names cimport ParsedFilter

cdef enum JournalKind:
    JOURNAL_SESSION = 1
    JOURNAL_ENDED = 2
    JOURNAL_SUBSCRIBED = 3
    JOURNAL_UNSUBSCRIBED = 4
    JOURNAL_MESSAGE = 5
    JOURNAL_QUEUED = 6
    JOURNAL_SENT = 7
    JOURNAL_DROPPED = 8
    JOURNAL_RECEIVED = 9
    JOURNAL_SETTLED = 10
    JOURNAL_TAKEN = 11
    JOURNAL_RELEASED = 12
    JOURNAL_WILL = 13
    JOURNAL_WILL_GONE = 14
    JOURNAL_RETAINED = 15
    JOURNAL_CLEARED = 16
    JOURNAL_ARRIVED = 17
    JOURNAL_WILL_SENT = 18
    JOURNAL_WILL_SPREAD = 19

cdef enum:                        # flags of JOURNAL_SESSION
    IS_AFRESH = 1
    IS_ONLINE = 2

cdef enum:                        # behind the sizes in a JOURNAL_SESSION
    HAS_CREATION = 1              # when it was created stands behind the names, CREATION_SIZE bytes
    CREATION_SIZE = 8

cdef enum:                        # beside the retain flag of JOURNAL_QUEUED
    HAS_GROUP = 2                 # the group's identity is in front of the subscription identifiers

cdef enum:                        # bytes of a record's body in front of what varies in size
    SESSION_HEAD = 36             # before tenant id, user id, client id
    SUBSCRIBED_HEAD = 16          # before size of the share name, share name, topic filter
    MESSAGE_HEAD = 28             # before topic, properties, payload
    QUEUED_HEAD = 20              # before subscription identifiers
    WILL_HEAD = 20                # before the message
    TAKEN_SIZE = 18               # all of it


# What is told on this connection from now on waits until everything that was written so far is committed.
cdef inline void journal_await(Link *link, World *world) noexcept nogil:
    link.due.batch = world.journal.batch.number - (world.journal.batch.size == 0)


# Records between begin and end are read back whole or not at all.
cdef void journal_begin_group(Journal *journal) noexcept nogil
cdef void journal_end_group(Journal *journal) noexcept nogil

# The session was attached or its expiry was changed: begin, go on or end to write about it, as is_persistent says.
cdef void journal_follow(Session *session) noexcept nogil
# Session.is_written says for which sessions the following are to be called.
cdef void journal_session(Session *session, uint8_t flags) noexcept nogil
cdef void journal_ended(Session *session) noexcept nogil
# To the end of the list of those that are written; out of it.
cdef void written_to_end(Session *session) noexcept nogil
cdef void retaining_to_end(Tenant *tenant) noexcept nogil
# A tenant has got a retained tree, or loses it.
cdef void journal_is_retaining(Tenant *tenant) noexcept nogil
cdef void journal_retains_nothing(Tenant *tenant) noexcept nogil
# A session that was read back from the log counts as written.
cdef void journal_is_written(Session *session) noexcept nogil
# One reason more, or less, why acknowledgements for the tenant's messages wait for this shard: a session that is
# written, or a member on another shard of a group that is at home here.
cdef void journal_concerns(Tenant *tenant) noexcept nogil
cdef void journal_concerns_no_more(Tenant *tenant) noexcept nogil
cdef void journal_subscribed(
    Session *session, const ParsedFilter *parsed, uint8_t qos, uint8_t flags, uint8_t retain_handling,
    uint32_t subscription_id) noexcept nogil
cdef void journal_unsubscribed(Session *session, const ParsedFilter *parsed) noexcept nogil
# The message of the publication, if no delivery has written it yet, and the delivery. packet_id 0: into the inbox.
cdef void journal_queued(
    Session *session, Publication *publication, uint8_t qos, uint8_t retain, uint16_t packet_id,
    const uint32_t *subscription_ids, uint32_t subscription_id_count) noexcept nogil
# Write the message; the number by which deliveries name it.
cdef uint64_t journal_message(Journal *journal, const Publication *publication) noexcept nogil
cdef void journal_sent(Session *session, uint16_t packet_id) noexcept nogil
# place: how many deliveries that are written lie before it.
cdef void journal_dropped(Session *session, uint32_t place) noexcept nogil
cdef void journal_received(Session *session, uint16_t packet_id) noexcept nogil
cdef void journal_settled(Session *session, uint16_t packet_id) noexcept nogil
# number: of the message, if some of those that are to get it are on other shards; else 0.
cdef void journal_taken(Session *session, uint16_t packet_id, uint64_t number) noexcept nogil
# number 0: it is retained.
cdef void journal_arrived(Journal *journal, uint64_t number, uint64_t origin) noexcept nogil
cdef void journal_released(Session *session, uint16_t packet_id) noexcept nogil
# The will as it is now: kept, armed, or gone.
cdef void journal_will(Session *session) noexcept nogil
# The message of this number is a will that is under way to other shards; it has arrived on all of them.
cdef void journal_will_sent(Tenant *tenant, uint64_t number) noexcept nogil
cdef void journal_will_spread(Journal *journal, uint64_t number) noexcept nogil
cdef void journal_retained(Tenant *tenant, const Publication *publication, uint64_t stored_at_ms) noexcept nogil
cdef void journal_cleared(Tenant *tenant, const uint8_t *topic, uint32_t topic_size) noexcept nogil
