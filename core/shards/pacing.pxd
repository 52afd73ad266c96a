"""Pacing: the rates of one connection (MsgPubPerSec, InBoundBandWidth, OutBoundBandWidth) hold it back.

Each rate is one point in time: when all that has passed so far will have been paid for. What passes moves it on by
its size over the rate; it never lags more than BURST_NS behind now, so a connection that was silent has one second's
worth to spend at once. While the point lies in the future nothing more is read (or written out) until the timing
wheel says that it has passed by PAUSE_NS, so that a flood costs twenty wake-ups a second and not one per message.

Whatever has been read is handled and whatever has been queued stays queued: a rate delays, it loses nothing. With
DisconnectForPubRate a connection above MsgPubPerSec is treated as BifroMQ treats it instead.

A connection of a tenant without rates has no Rates: the callers look at the setting first, which is one branch.
"""

from libc.stdint cimport uint64_t
from rookery.core.shards.state cimport Connection


# A PUBLISH has come: count it. False when it must not be published, because DisconnectForPubRate is on; then the
# connection may have been closed.
cdef bint pacing_take_publish(Connection *connection) noexcept nogil
# How much of size bytes is to be read at once.
cdef Py_ssize_t pacing_read_size(Connection *connection, Py_ssize_t size) noexcept nogil
cdef void pacing_count_read(Connection *connection, uint64_t count) noexcept nogil
# How many bytes of the outbox may go out now; 0 = none, the wheel flushes it when some may.
cdef uint64_t pacing_flush_size(Connection *connection) noexcept nogil
cdef void pacing_count_flush(Connection *connection, uint64_t count) noexcept nogil
# Bytes stay behind that only the rate keeps: have the wheel flush them.
cdef void pacing_await_flush(Connection *connection) noexcept nogil
# Nothing is read of connection before due_ms, for whatever reason.
cdef void pacing_hold_until(Connection *connection, uint64_t due_ms) noexcept nogil
cdef void pacing_timer_fired(Connection *connection) noexcept nogil
# The connection goes, or goes on without a session: nothing holds it back any more.
cdef void pacing_end(Connection *connection) noexcept nogil
