"""GroupCensus: how many members each shared group has, over all shards. MaxSharedGroupMembers is judged by it.

A group lives on its home shard, where members of other shards arrive by mail, after their SUBACK: whether there is room
must be known before. With one shard the group itself knows; there is no census then, and every function does nothing.

Groups go by a keyed hash of 64 bits of tenant, kind, share name and topic filter. Two that have the same share their
limit; among a million groups the odds are 3 in a hundred million.
"""

from libc.stdint cimport uint32_t
from rookery.core.sessions.state cimport SharedTenant, World
from rookery.core.structures.mutex cimport Mutex
from rookery.core.structures.pointer_map cimport PointerMap
from rookery.core.topics.names cimport ParsedFilter


cdef struct GroupCensus:
    Mutex mutex
    PointerMap counts            # hash of the group -> GroupCount


cdef enum CensusAnswer:
    CENSUS_NO_MEMORY = -1
    CENSUS_ENTERED = 0
    CENSUS_FULL = 1


cdef void census_init(GroupCensus *census) noexcept nogil
cdef void census_clear(GroupCensus *census) noexcept nogil
# A member more, unless there are limit of them.
cdef CensusAnswer census_enter(
    const World *world, const SharedTenant *tenant, const ParsedFilter *parsed, uint32_t limit) noexcept nogil
# One that had entered leaves.
cdef void census_leave(const World *world, const SharedTenant *tenant, const ParsedFilter *parsed) noexcept nogil
