"""See census.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from rookery.core.sessions.memberships cimport group_hash
from rookery.core.sessions.state cimport SharedTenant, World
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init, mutex_lock, mutex_unlock
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_each, pointer_map_first, pointer_map_free, pointer_map_remove,
)
from rookery.core.topics.names cimport SHARE_ORDERED, ParsedFilter


cdef struct GroupCount:
    uint32_t members             # at least one


cdef inline uint64_t _identity(
    const World *world, const SharedTenant *tenant, const ParsedFilter *parsed
) noexcept nogil:
    return (tenant.hash ^ group_hash(world, parsed)) + (parsed.share_kind == SHARE_ORDERED)


cdef void census_init(GroupCensus *census) noexcept nogil:
    mutex_init(&census.mutex, NULL)


cdef void census_clear(GroupCensus *census) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef void *count = pointer_map_each(&census.counts, &cursor)
    while count != NULL:
        free(count)
        count = pointer_map_each(&census.counts, &cursor)
    pointer_map_free(&census.counts)
    mutex_destroy(&census.mutex)


cdef CensusAnswer _enter(GroupCensus *census, uint64_t identity, uint32_t limit) noexcept nogil:
    cdef uint32_t cursor
    cdef GroupCount *count = <GroupCount *> pointer_map_first(&census.counts, identity, &cursor)
    if count != NULL:
        if count.members >= limit:
            return CENSUS_FULL
        count.members += 1
        return CENSUS_ENTERED
    count = <GroupCount *> malloc(sizeof(GroupCount))
    if count == NULL or pointer_map_add(&census.counts, identity, count) != 0:
        free(count)
        return CENSUS_NO_MEMORY
    count.members = 1
    return CENSUS_ENTERED


cdef CensusAnswer census_enter(
    const World *world, const SharedTenant *tenant, const ParsedFilter *parsed, uint32_t limit
) noexcept nogil:
    cdef GroupCensus *census = <GroupCensus *> world.census
    cdef CensusAnswer answer
    if census == NULL:
        return CENSUS_ENTERED
    mutex_lock(&census.mutex)
    answer = _enter(census, _identity(world, tenant, parsed), limit)
    mutex_unlock(&census.mutex)
    return answer


cdef void census_leave(const World *world, const SharedTenant *tenant, const ParsedFilter *parsed) noexcept nogil:
    cdef GroupCensus *census = <GroupCensus *> world.census
    cdef uint64_t identity
    cdef uint32_t cursor
    cdef GroupCount *count
    if census == NULL:
        return
    identity = _identity(world, tenant, parsed)
    mutex_lock(&census.mutex)
    count = <GroupCount *> pointer_map_first(&census.counts, identity, &cursor)
    if count != NULL:
        count.members -= 1
        if count.members == 0:
            pointer_map_remove(&census.counts, identity, count)
            free(count)
    mutex_unlock(&census.mutex)
