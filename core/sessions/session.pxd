r"""Session: life, attachment, and the delivery of messages to one client.

    session_deliver ----- QoS 0, or window open ------------> outbox of the connection
          \                                                      ^
           `---- offline, or window full ---> inbox --pump-------'

The window is open while fewer messages are on their way than the client's Receive Maximum allows and the outbox is
below its high mark. session_pump moves what waits as soon as an acknowledgement or a flush opens it again. Messages
of QoS 1 and 2 keep the order in which they came [MQTT-4.6.0-6]: none overtakes what waits in the inbox.

Nothing here closes a connection or touches a socket; time is World.now_ms.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.state cimport Link, Session, Tenant

cdef enum SessionLimit:
    INFLIGHT_KEPT_BYTES = 4194304   # kept for sending again; more wait in the inbox (MinSendPerSec always may go)
    INBOX_LIMIT_BYTES = 67108864    # bytes in one inbox, beside the tenant's SessionInboxSize in messages

cdef enum DeliveryResult:
    DELIVERY_QUEUED = 0     # in the outbox or the inbox
    DELIVERY_DROPPED = 1    # full inbox, full outbox, too large for the client, out of memory
    DELIVERY_SKIPPED = 2    # expired, or nobody to wait for: not an error


cdef Session *session_find(Tenant *tenant, uint64_t key_hash, const uint8_t *user_id, uint16_t user_id_size,
                           const uint8_t *client_id, uint16_t client_id_size) noexcept nogil
# A new session in the tenant's table; NULL when memory is short.
cdef Session *session_new(Tenant *tenant, uint64_t key_hash, const uint8_t *user_id, uint16_t user_id_size,
                          const uint8_t *client_id, uint16_t client_id_size) noexcept nogil
# The session ends: subscriptions, messages and will go, unpublished. Must be detached.
cdef void session_end(Session *session) noexcept nogil
# link begins to serve the session: what was in flight is sent again, before anything new [MQTT-4.4.0-1].
cdef void session_attach(Session *session, Link *link) noexcept nogil
cdef void session_detach(Session *session) noexcept nogil

# Deliver at QoS qos (already the lower of published and granted) with the RETAIN flag as given.
cdef DeliveryResult session_deliver(
    Session *session, Publication *publication, uint8_t qos, uint8_t retain,
    const uint32_t *subscription_ids, uint32_t subscription_id_count) noexcept nogil
# Send what waits, as far as the window allows.
cdef void session_pump(Session *session) noexcept nogil
# An online session begins to look after what waits too long in flight, if its tenant wants that and it does not yet.
cdef void session_watch_resends(Session *session) noexcept nogil
# Its timer fired while it is online: send again what has waited for ResendTimeoutSeconds, give up what was sent again
# MaxResendTimes times. is_blocked: the socket takes no bytes, so the client cannot have got them.
cdef void session_resend(Session *session, bint is_blocked) noexcept nogil
# Acknowledgements from the client. The result is the reason code of the answer where there is one (PUBREL for a
# PUBREC): REASON_SUCCESS or REASON_PACKET_IDENTIFIER_NOT_FOUND.
cdef uint8_t session_puback(Session *session, uint16_t packet_id) noexcept nogil
cdef uint8_t session_pubrec(Session *session, uint16_t packet_id, uint8_t reason_code) noexcept nogil
cdef uint8_t session_pubcomp(Session *session, uint16_t packet_id) noexcept nogil


# Does anything wait that an open window would let go?
cdef inline bint session_has_waiting(const Session *session) noexcept nogil:
    return session.inbox.length > 0 or session.inflight.resume_from != 0
