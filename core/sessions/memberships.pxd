"""Memberships: sessions in shared groups that live on another shard.

A shared group lives on one shard, its home, which the hash of tenant, share name and topic filter decides. A member of
another shard is known there by a Membership that both shards hold:

    session's shard                                home shard
    Subscription -> Membership <- - - - - - - - -  SharedGroup.members (IS_REMOTE)
        |  ERRAND_JOIN, ERRAND_LEAVE  ---------->
        |  <----------------------------  ERRAND_GIVE (a message)
        |  ERRAND_RETURN (the session is gone)  -->  another member

Errands are collected in World and sent as mail at the end of the turn. How busy a member is the home shard estimates
from what the member last told (load) and what has not arrived there yet (given - taken).
"""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.sessions.message cimport Message
from rookery.core.sessions.state cimport Membership, Session, SharedTenant, Tenant, World
from rookery.core.topics.names cimport ParsedFilter


# Of share name and topic filter, keyed.
cdef uint64_t group_hash(const World *world, const ParsedFilter *parsed) noexcept nogil
# The shard on which the shared group of this filter lives.
cdef uint32_t group_home(const World *world, const SharedTenant *tenant, const ParsedFilter *parsed) noexcept nogil
# The id under which a session indexes a membership: it cannot be mistaken for a filter id.
cdef uint32_t membership_index_id(const World *world, const ParsedFilter *parsed) noexcept nogil
cdef bint membership_is_for(const Membership *membership, const ParsedFilter *parsed) noexcept nogil
# The topic filter and share name again, as parse_topic_filter gave them.
cdef void membership_parsed(const Membership *membership, ParsedFilter *parsed) noexcept nogil
# Joins: a membership whose one reference is the session's; NULL when memory is short.
cdef Membership *membership_join(
    Session *session, const ParsedFilter *parsed, uint32_t home, uint32_t place) noexcept nogil
# Leaves: the session's reference goes with the errand.
cdef void membership_leave(World *world, Membership *membership) noexcept nogil
cdef void membership_acquire(Membership *membership) noexcept nogil
# True when it was the last reference: the caller releases the tenant and frees it.
cdef bint membership_drop(Membership *membership) noexcept nogil
# Tell the home shards whether the session is online.
cdef void memberships_tell(Session *session) noexcept nogil
# Take over the references; 0, or -1 when memory is short (then nothing was taken over).
cdef int errand_put(World *world, Membership *membership, Message *message, int kind) noexcept nogil
