"""Answers to the control plane that promise something durable: they are given when the log has it.

What a command recorded stands in the batch of its turn; what it gave to other shards is durable when they say so. The
answer waits for both, as the acknowledgement of a client does, see commits.pxd. What waits is bounded by the tasks that
ask, and by the log: while it holds, the control plane asks for nothing more that must be durable.
"""

from libc.stdint cimport uint64_t

from rookery.core.shards.state cimport Event, Shard


# What has been recorded so far, for answer_put.
cdef uint64_t answer_begin(const Shard *shard) noexcept nogil
# Give the answer, or let it wait when something was recorded since began, or was given to other shards (a bit each).
# Takes the event over; NULL: without memory the asker runs into its deadline.
cdef void answer_put(Shard *shard, Event *event, uint64_t began, uint64_t given_to) noexcept nogil
# Behind commits_step: give what has waited long enough.
cdef void answers_step(Shard *shard) noexcept nogil
# Need one of them wait no longer? Asked before a shard sleeps.
cdef bint answers_have_work(Shard *shard) noexcept nogil
cdef void answers_clear(Shard *shard) noexcept nogil
