"""Inflight: the QoS 1 and 2 messages that were sent to one client and are not yet fully acknowledged.

Slots lie in an array that a packet identifier indexes (slot i has packet identifier i + 1), so an acknowledgement is
one look. Two lists run through the slots: those in use, oldest first, which is the order of resending [MQTT-4.6.0-1],
and the free ones, longest unused first, so that an identifier rests as long as possible before it is used again.

    state after          sending     PUBREC       removed by
    QoS 1                PUBACK_DUE               PUBACK
    QoS 2                PUBREC_DUE  PUBCOMP_DUE  PUBCOMP, or a PUBREC that reports failure

While a 3.x client is connected, a timer of the session may look for what waits too long for its acknowledgement. It
costs the path of a message nothing: a slot counts the ticks that it has seen (inflight_tick).

After a connection was lost nothing counts as sent: inflight_rewind, then inflight_next_unsent walks what is to be
sent again, before anything new.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Message

cdef enum InflightState:
    SLOT_FREE = 0
    PUBACK_DUE = 1
    PUBREC_DUE = 2
    PUBCOMP_DUE = 3

cdef enum:
    PACKET_ID_MAXIMUM = 65535
    NO_PACKET_ID = 0
    INFLIGHT_IDLE_SLOTS = 256  # kept when drained; more are given back
    RESEND_COUNT_MAXIMUM = 255  # a larger MaxResendTimes is without end
    RESEND_TICKS = 4           # of the resend timer in one ResendTimeoutSeconds: it is kept to a quarter


cdef struct InflightSlot:
    Message *message             # kept for sending again; NULL when the session ends with its connection
    uint32_t *subscription_ids   # [count, id, ...] or NULL
    uint16_t previous            # packet identifiers; 0 = none
    uint16_t next
    uint8_t state                # InflightState
    uint8_t resend_count         # on the present connection; stays at RESEND_COUNT_MAXIMUM
    uint8_t retain               # the flag as sent to this client
    uint32_t shared_place        # of the subscription that brought it, see returns.pxd; 0 = not shared
    uint8_t sent_for             # 0 = not on the present connection; else 1 + ticks of the resend timer since


cdef struct Inflight:
    InflightSlot *slots
    uint32_t capacity
    uint32_t count               # slots in use
    uint32_t sent                # of these: sent on the present connection; what Receive Maximum bounds
    uint16_t oldest              # packet identifiers; 0 = none
    uint16_t newest
    uint16_t free_first
    uint16_t free_last
    uint16_t resume_from         # the next that may have to be sent again; 0 = none
    uint64_t kept_bytes          # of the messages held here


# Takes over the caller's reference to message and its subscription_ids. The new packet identifier, marked as sent;
# NO_PACKET_ID when all are in use or memory is short (then nothing was taken over).
cdef uint16_t inflight_add(
    Inflight *inflight, Message *message, uint32_t *subscription_ids, uint8_t qos, uint8_t retain) noexcept nogil
# The same with a packet identifier and a state that are known from before a restart. 0, or -1 when memory is short.
cdef int inflight_restore(
    Inflight *inflight, uint16_t packet_id, Message *message, uint32_t *subscription_ids, uint8_t state,
    uint8_t retain) noexcept nogil
# The slot of a packet identifier in use, or NULL.
cdef InflightSlot *inflight_find(Inflight *inflight, uint16_t packet_id) noexcept nogil
# PUBREC came: the message itself is no longer needed.
cdef void inflight_received(Inflight *inflight, uint16_t packet_id) noexcept nogil
cdef void inflight_remove(Inflight *inflight, uint16_t packet_id) noexcept nogil
cdef void inflight_rewind(Inflight *inflight) noexcept nogil
# The oldest packet identifier that is to be sent again, marked as sent; 0 when there is none left.
cdef uint16_t inflight_next_unsent(Inflight *inflight) noexcept nogil
# A tick of the resend timer: has this message waited for RESEND_TICKS since it was sent? It counts as sent now, then.
cdef bint inflight_tick(InflightSlot *slot) noexcept nogil
# Give memory back where nothing is in flight.
cdef void inflight_trim(Inflight *inflight) noexcept nogil
cdef void inflight_clear(Inflight *inflight) noexcept nogil
