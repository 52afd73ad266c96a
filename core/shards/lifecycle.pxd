"""How connections and sessions part and end: wills, expiry, take-over, closing with a reason.

    what ended the connection         DISCONNECT to a 5.0 client   will
    client's DISCONNECT 0x00          -                            discarded [MQTT-3.14.4-3]
    client's DISCONNECT 0x04          -                            kept
    network, protocol error, time-out reason code                  kept
    take-over                         0x8E                         kept; a delayed one is cancelled by what follows
    shutdown of the broker            0x8B                         by the setting NoLWTWhenServerShuttingDown

Before it is admitted a client is refused instead: a CONNACK says why to clients of 3.x, too, and no will is left.

A will that is kept is published when its delay is over or the session ends, whichever comes first [MQTT-3.1.2-8].
"""

from libc.stdint cimport uint8_t
from rookery.core.sessions.state cimport Session
from rookery.core.shards.state cimport Connection, Shard
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.encode cimport OutgoingConnack


# The network ended the connection; its session goes on, or ends with it.
cdef void connection_lost(Connection *connection) noexcept nogil
# The client's DISCONNECT with this reason code did.
cdef void connection_left(Connection *connection, uint8_t reason_code) noexcept nogil
# Tell whoever watches that the client sent what it must not; the connection goes on until somebody ends it.
cdef void connection_blame(Connection *connection, const char *detail) noexcept nogil
# What came is no CONNECT of MQTT, or the client left before CONNACK: there is nobody to answer.
cdef void connection_fail(Connection *connection, const char *detail) noexcept nogil
# Close with a reason: a 5.0 client is told before. detail (may be NULL) becomes the Reason String if it wants one.
cdef void connection_close(
    Connection *connection, uint8_t reason_code, const char *detail, bint keeps_will) noexcept nogil
# The same in the words of the control plane; what is empty is not said. A server reference goes with
# REASON_USE_ANOTHER_SERVER and REASON_SERVER_MOVED.
cdef void connection_close_with(
    Connection *connection, uint8_t reason_code, Bytes reason_string, Bytes server_reference,
    bint keeps_will) noexcept nogil
# A CONNACK that says yes and announces nothing, to be filled in; and its way out.
cdef void connack_begin(OutgoingConnack *connack) noexcept nogil
cdef void connack_send(Connection *connection, OutgoingConnack *connack, uint8_t version) noexcept nogil
# CONNACK with a reason, then close; for a connection that has sent CONNECT and is not attached. detail may be NULL.
cdef void connection_refuse(
    Connection *connection, uint8_t version, uint8_t reason_code, const char *detail) noexcept nogil
# The same in the words of the control plane; what is empty is not said.
cdef void connection_refuse_with(
    Connection *connection, uint8_t reason_code, Bytes reason_string, Bytes server_reference,
    Bytes user_properties) noexcept nogil
# The session ends now; its will, if one waits, is published.
cdef void session_finish(Shard *shard, Session *session) noexcept nogil
# TIMER_SESSION fired.
# Arm the timer for the will or the end of a detached session, whichever comes first.
cdef void session_await_end(Shard *shard, Session *session) noexcept nogil
cdef void session_timer_fired(Shard *shard, Session *session) noexcept nogil
# TIMER_CONNECTION fired.
cdef void connection_timer_fired(Shard *shard, Connection *connection) noexcept nogil
# Keep alive and stall are watched by one timer; (re-)arm it for whichever comes first.
cdef void connection_watch(Connection *connection) noexcept nogil
