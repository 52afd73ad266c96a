"""See routes.pxd."""

from libc.stdint cimport UINT32_MAX, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from rookery.core.sessions.state cimport ROUTE_CHUNKS, Route, RouteList, RouteTable


cdef RouteList *routes_make(RouteTable *table, uint32_t filter_id) noexcept nogil:
    cdef uint32_t chunk = route_chunk(filter_id)
    if chunk >= ROUTE_CHUNKS:
        return NULL
    if table.chunks[chunk] == NULL:
        table.chunks[chunk] = <RouteList *> calloc(<size_t> 1 << (chunk + FIRST_CHUNK_BITS), sizeof(RouteList))
        if table.chunks[chunk] == NULL:
            return NULL
    return routes_of(table, filter_id)


cdef uint32_t route_add(RouteList *routes, const Route *route) noexcept nogil:
    cdef uint32_t capacity
    cdef Route *many
    if routes.count == 0 and routes.capacity == 0:
        routes.one = route[0]
        routes.count = 1
        return 0
    if routes.count >= routes.capacity:
        capacity = routes.capacity * 2 if routes.capacity > 0 else 4
        many = <Route *> realloc(routes.many, capacity * sizeof(Route))
        if many == NULL:
            return UINT32_MAX
        if routes.capacity == 0:
            many[0] = routes.one
        routes.many = many
        routes.capacity = capacity
    routes.many[routes.count] = route[0]
    routes.count += 1
    return routes.count - 1


cdef Route *route_remove(RouteList *routes, uint32_t route_index) noexcept nogil:
    routes.count -= 1
    if routes.count == 0:
        free(routes.many)
        memset(routes, 0, sizeof(RouteList))
        return NULL
    if route_index == routes.count:
        return NULL
    routes.many[route_index] = routes.many[routes.count]
    return &routes.many[route_index]


cdef void routes_free(RouteTable *table) noexcept nogil:
    cdef uint32_t chunk, place
    for chunk in range(ROUTE_CHUNKS):
        if table.chunks[chunk] == NULL:
            continue
        for place in range(<uint32_t> 1 << (chunk + FIRST_CHUNK_BITS)):
            free(table.chunks[chunk][place].many)
        free(table.chunks[chunk])
        table.chunks[chunk] = NULL
