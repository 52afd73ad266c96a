"""Matching a publication against a tenant's topic filters and handing it out to the sessions of this shard."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.state cimport Membership, Session, SharedGroup, Tenant, World
from rookery.core.structures.bytes cimport Bytes, is_same


cdef struct Outcome:
    uint32_t matched       # sessions on this shard, shared groups counted once
    uint32_t queued        # of these: in an outbox or inbox
    uint32_t dropped
    uint8_t is_limited     # something bounds the sessions that it may reach, see fanout.pxd
    uint8_t is_limit_noticed
    uint32_t persistent    # where it is limited: persistent sessions that it reached, and bytes that it took there
    uint64_t persistent_bytes
    uint32_t groups        # shared groups that it reached: MaxGroupFanout bounds them
    uint64_t other_shards  # bit s: shard s has routes that match too; the caller hands the message over
    uint64_t given_to      # bit s: a member on shard s of a group that is at home here gets it


# The topic has been checked. Sessions that several filters lead to get one copy, with the highest granted QoS and all
# subscription identifiers [MQTT-3.3.4-2, -3].
cdef void tenant_publish(Tenant *tenant, Publication *publication, Outcome *outcome) noexcept nogil

# Would a message of QoS 1 or 2 with this topic be written to the log for somebody? Also where it only may be: of other
# shards it is known no more than that they have persistent sessions.
cdef bint is_kept(Tenant *tenant, const Bytes *topic) noexcept nogil

# Again, to those that have not got it: neither a session that is named here nor a shared group whose identity is.
cdef void tenant_publish_again(
    Tenant *tenant, Publication *publication, Session **served, uint32_t served_count, const uint64_t *groups,
    uint32_t group_count, Outcome *outcome) noexcept nogil

# Hand the publication to one member of the group.
cdef void group_deliver(SharedGroup *group, Publication *publication, Outcome *outcome) noexcept nogil
# Hand it to the session that this membership is of; on the session's shard, while it has not left.
cdef void membership_deliver(Membership *membership, Publication *publication, Outcome *outcome) noexcept nogil

# These topics of tenant are published to soon: what that will read is fetched meanwhile. 1 <= count.
cdef void tenant_foresee(Tenant *tenant, const Bytes *topics, uint32_t count) noexcept nogil

# Is topic the one that was matched last for this tenant? Then it was checked, too.
cdef inline bint is_recent_topic(const World *world, const Tenant *tenant, const Bytes *topic) noexcept nogil:
    return (
        world.recent_entry != NULL
        and world.recent_tenant == tenant
        and world.recent_topic.size == topic.size
        and (
            world.recent_topic.data == topic.data
            or is_same(world.recent_topic.data, topic.data, topic.size)
        )
    )


# Before bytes of the last topic go, or a topic filter comes or goes.
cdef inline void forget_recent_topic(World *world) noexcept nogil:
    world.recent_entry = NULL
