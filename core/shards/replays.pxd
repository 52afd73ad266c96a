"""Replays: retained messages for new subscriptions, a bounded piece per turn and at the pace of the subscriber.

The tree is walked on the tenant's home shard. When the session lives on another one, the two exchange mails: the
session's shard asks for a batch only when it has handed out the one before, so nothing piles up between them.
"""

from libc.stdint cimport uint8_t, uint32_t
from rookery.core.sessions.state cimport Session
from rookery.core.shards.state cimport Mail, Shard
from rookery.core.structures.bytes cimport Bytes


# Begin to send the retained messages that match the topic filter. 0, or -1 when memory is short.
cdef int replay_begin(
    Shard *shard, Session *session, Bytes topic_filter, uint32_t filter_id, uint32_t subscription_id, uint8_t qos,
    uint8_t no_local) noexcept nogil
# Stop those of a session; filter_id NO_FILTER: all of them.
cdef void replay_cancel(Shard *shard, Session *session, uint32_t filter_id) noexcept nogil
# One piece of work.
cdef void replays_step(Shard *shard) noexcept nogil
# Is there more that could be done at once? To be asked after the flush, which makes sessions ready.
cdef bint replays_have_work(const Shard *shard) noexcept nogil
cdef void replays_take_request(Shard *shard, Mail *mail) noexcept nogil
cdef void replays_take_batch(Shard *shard, Mail *mail) noexcept nogil
# For the end of the shard.
cdef void replays_clear(Shard *shard) noexcept nogil
