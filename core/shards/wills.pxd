"""Wills of sessions: published, or dropped.

That the will of a persistent session is gone and to whom it went are one group in the log, so that a crash neither
loses it nor publishes it twice. What goes to other shards is not in the log yet when the group is: WILL_SENT says that
the message is under way, WILL_SPREAD that all shards have it. Between the two a start hands it out to those who have
not got it, as it does with messages of QoS 2, see redelivery.pxd.
"""

from rookery.core.sessions.state cimport Session
from rookery.core.shards.state cimport Shard


# Publish the will and drop it. The session has one.
cdef void will_publish(Shard *shard, Session *session) noexcept nogil
cdef void will_drop(Session *session) noexcept nogil
# Before what was recorded is submitted: note which wills have arrived everywhere.
cdef void wills_step(Shard *shard) noexcept nogil
cdef void wills_clear(Shard *shard) noexcept nogil
