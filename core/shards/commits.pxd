"""Commits: nothing is told before what it promises is durable.

    a turn records --> log_submit --> the log commits --> wake --> what waited in outboxes leaves

A connection whose outbox holds such a promise is not flushed before its Commitment is met, so that everything it is
sent keeps its order; connections that were promised nothing never wait. Across shards a publisher's shard waits until
the shards that it sent the message to say that everything from it up to that handing over of mail is durable there:
one number per pair of shards, whatever the number of messages.

While the log is under pressure, because too much waits for it or the disk fails, nothing more is read from connections
that wait for it: each adds one thing that must be durable, and no more. Publishers of 5.0 that do not wait for anything
yet are told 0x97 when the disk has failed for long, see protocol.pyx.
"""

from rookery.core.sessions.state cimport Commitment
from rookery.core.shards.state cimport Connection, Shard


# Is everything durable that this connection was promised? Forgets the commitment when it is met.
cdef bint commits_are_met(Connection *connection) noexcept nogil
# It must wait: it is flushed as soon as its commitment is met. Under pressure nothing is read from it meanwhile.
cdef void commits_hold(Connection *connection) noexcept nogil
# What it has just been promised may have to wait for a log that is under pressure.
cdef void commits_hold_back(Connection *connection) noexcept nogil
cdef void commits_leave(Connection *connection) noexcept nogil
cdef bint commitment_is_met(Shard *shard, const Commitment *due) noexcept nogil
# The end of a turn: submit what was recorded, before mail is handed over;
cdef void commits_submit(Shard *shard) noexcept nogil
# behind that: let go whose commitment is met.
cdef void commits_step(Shard *shard) noexcept nogil
# Does anything wait that need not wait any longer? Asked before a shard sleeps.
cdef bint commits_have_work(Shard *shard) noexcept nogil
