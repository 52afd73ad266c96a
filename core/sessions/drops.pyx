"""See drops.pxd."""

from libc.stdint cimport uint8_t, uint64_t

from rookery.core.sessions.message cimport Message, Publication, message_topic
from rookery.core.sessions.notices cimport NOTICE_MESSAGE_DROPPED
from rookery.core.sessions.state cimport Session, World
from rookery.core.sessions.witness cimport absent, is_noticed, is_noticed_in_debug, notice_session
from rookery.core.structures.bytes cimport Bytes


cdef void drop_message(
    Session *session, Bytes topic, uint64_t payload_size, uint8_t qos, DropReason reason
) noexcept nogil:
    cdef World *world = session.tenant.world
    session.dropped_messages += 1
    session.last_drop_reason = reason
    session.last_dropped_at_ms = world.now_ms
    count_drop(world, reason)
    session.tenant.counters.messages_dropped += 1
    if is_noticed(world, NOTICE_MESSAGE_DROPPED):
        notice_session(session, NOTICE_MESSAGE_DROPPED, absent(), topic, qos, reason, payload_size, 0)


cdef void drop_publication(
    Session *session, const Publication *publication, uint8_t qos, DropReason reason
) noexcept nogil:
    drop_message(session, publication.topic, publication.payload.size, qos, reason)


cdef void drop_kept(Session *session, const Message *message, uint8_t qos, DropReason reason) noexcept nogil:
    cdef Bytes topic = absent()
    cdef uint64_t payload_size = 0
    # After a PUBREC nothing is kept of the message but its packet identifier.
    if message != NULL:
        topic.data = message_topic(message)
        topic.size = message.topic_size
        payload_size = message.payload_size
    drop_message(session, topic, payload_size, qos, reason)


cdef void notice_expired(Session *session, const Publication *publication, uint8_t qos) noexcept nogil:
    if is_noticed_in_debug(session.tenant, NOTICE_MESSAGE_DROPPED):
        notice_session(
            session, NOTICE_MESSAGE_DROPPED, absent(), publication.topic, qos, DROP_EXPIRED,
            publication.payload.size, 0)
