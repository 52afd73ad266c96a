"""Routes: who on this shard gets what matches a topic filter.

A filter has a RouteList; a Subscription knows the place of its Route and the Route knows the place of its
Subscription, so that leaving a filter with 100 000 subscribers costs the same as leaving one with two: the last Route
moves into the gap, and its Subscription is told.
"""

from libc.stdint cimport uint32_t
from rookery.core.sessions.state cimport Route, RouteList, RouteTable


cdef extern from *:
    int __builtin_clz(unsigned int value) noexcept nogil

cdef enum:
    FIRST_CHUNK_BITS = 3  # chunk 0 holds 8 lists: most tenants are small


cdef inline uint32_t route_chunk(uint32_t filter_id) noexcept nogil:
    # 0..7 -> 0, 8..23 -> 1, 24..55 -> 2: chunk k begins at 8 * (2 ** k - 1).
    return 31 - __builtin_clz((filter_id >> FIRST_CHUNK_BITS) + 1)


# The list of a filter id, or NULL when nobody on this shard ever wanted it.
cdef inline RouteList *routes_of(const RouteTable *table, uint32_t filter_id) noexcept nogil:
    cdef uint32_t chunk = route_chunk(filter_id)
    if table.chunks[chunk] == NULL:
        return NULL
    return &table.chunks[chunk][filter_id - (((<uint32_t> 1 << chunk) - 1) << FIRST_CHUNK_BITS)]


# The same, made if need be; NULL when memory is short.
cdef RouteList *routes_make(RouteTable *table, uint32_t filter_id) noexcept nogil
# The place of the new route; UINT32_MAX when memory is short.
cdef uint32_t route_add(RouteList *routes, const Route *route) noexcept nogil
# Takes the route away; what is returned has moved to route_index (NULL: none moved).
cdef Route *route_remove(RouteList *routes, uint32_t route_index) noexcept nogil
cdef void routes_free(RouteTable *table) noexcept nogil


cdef inline Route *route_at(RouteList *routes, uint32_t route_index) noexcept nogil:
    return &routes.one if routes.capacity == 0 else &routes.many[route_index]
