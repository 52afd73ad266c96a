"""Outgoing: one PUBLISH into the outbox of a client.

There are four ways, the first that serves is taken. A packet of QoS 0 that need not change goes out as it came. One
that goes to several sessions is written once and copied for each. One without topic alias and Subscription Identifiers
is written straight into the outbox. Any other is described first, see OutgoingPublish. Large payloads are not copied
but referred to.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.state cimport Link, Session


# 0; 1 when it is too large for the client; -1 when memory is short. packet_id: 0 at QoS 0.
cdef int write_publish(
    Session *session, Link *link, Publication *publication, uint8_t qos, uint8_t retain, uint8_t dup,
    uint16_t packet_id, const uint32_t *subscription_ids, uint32_t subscription_id_count) noexcept nogil
