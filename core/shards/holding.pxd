"""Holding publishers back: while what they send piles up somewhere, nothing more is read from them.

    a subscriber's outbox is over its high mark         wait for it to drain, HOLD_MS at most; then it is slow, and
                                                        nobody waits for it until it has drained completely
    the mailbox of another shard has MAIL_HIGH_BYTES    wait until that shard has taken its mail
    a subscriber of this tenant on another shard is     wait until that shard says that it has drained, HOLD_MS
    congested                                           at most

The first is exact. Across shards a publisher does not know whose outbox it filled: a shard says of each tenant (of
each of CONGESTION_PLACES hashes of tenants) until when publishers elsewhere should wait.
"""

from libc.stdint cimport uint64_t
from rookery.core.sessions.state cimport Link, Tenant
from rookery.core.shards.state cimport Connection, Shard


# What publisher sent has filled this outbox: write it out now, and if that does not help, hold the publisher.
cdef void hold_for_subscriber(Connection *publisher, Link *congested) noexcept nogil
# What publisher sent goes to these shards (a bit each): hold it while one of them is behind.
cdef void hold_for_shards(Connection *publisher, uint64_t targets) noexcept nogil
# Mail of another shard has filled this outbox: write it out now, or tell the publishers of the other shards to wait.
cdef void holding_tell(Shard *shard, const Tenant *tenant, Link *congested) noexcept nogil
# The outbox has been written out whole: nobody need wait for it any more.
cdef void holding_end(Connection *subscriber) noexcept nogil
# Once a turn, while publishers are held: those whose reason has gone are read on.
cdef void holding_step(Shard *shard) noexcept nogil
