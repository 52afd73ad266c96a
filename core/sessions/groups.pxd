"""SharedGroup: the members of one shared subscription, of whom each message reaches one [MQTT5 4.8.2].

A group stands in its filter's RouteList as one Route. group_pick chooses the online member with the least waiting for
it, beginning behind the member chosen last, so that equals take turns; without an online member the persistent
offline ones queue. $oshare instead hashes the publisher over the members (highest random weight), so that one
publisher's messages keep going to the same member while it stays.
"""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.sessions.state cimport Membership, Route, Session, SharedGroup, Tenant
from rookery.core.topics.names cimport ParsedFilter


cdef SharedGroup *group_find(Tenant *tenant, uint32_t filter_id, const ParsedFilter *parsed) noexcept nogil
# Adds the session's subscription at place; makes the group if need be. 0, or -1 when memory is short.
cdef int group_join(
    Tenant *tenant, uint32_t filter_id, const ParsedFilter *parsed, Session *session, uint32_t place) noexcept nogil
# Takes it out; the group and the filter's wish for this shard go with the last member.
cdef void group_leave(Session *session, uint32_t place) noexcept nogil
# The same for a member on another shard: takes over a reference. 0, or -1 when memory is short.
cdef int group_join_remote(Tenant *tenant, Membership *membership) noexcept nogil
cdef void group_leave_remote(Membership *membership) noexcept nogil
# The member that gets a message of publisher; NULL when no member can take it.
cdef Route *group_pick(SharedGroup *group, uint64_t publisher) noexcept nogil
# What names the group within its tenant in every process: never 0.
cdef uint64_t group_identity(const SharedGroup *group) noexcept nogil
