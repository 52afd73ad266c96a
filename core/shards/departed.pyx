"""See departed.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from rookery.core.sessions.state cimport Counters, SharedTenant
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_first, pointer_map_free, pointer_map_next, pointer_map_remove,
)

cdef inline uint8_t *_id(Departed *note) noexcept nogil:
    return <uint8_t *> note + sizeof(Departed)


cdef bint _add(Counters *sums, const Counters *counters) noexcept nogil:
    """False when all of them are 0."""
    cdef uint64_t any_bit = 0
    cdef size_t place
    for place in range(sizeof(Counters) // sizeof(uint64_t)):  # Every field is one.
        (<uint64_t *> sums)[place] += (<const uint64_t *> counters)[place]
        any_bit |= (<const uint64_t *> counters)[place]
    return any_bit != 0


cdef void _forget(DepartedTenants *departed, Departed *note) noexcept nogil:
    pointer_map_remove(&departed.notes, note.hash, note)
    if note.older != NULL:
        note.older.newer = note.newer
    else:
        departed.oldest = note.newer
    if note.newer != NULL:
        note.newer.older = note.older
    else:
        departed.newest = note.older
    free(note)


cdef void departed_keep(
    DepartedTenants *departed, const SharedTenant *tenant, const Counters *counters
) noexcept nogil:
    cdef Departed *note
    if not _add(&departed.total, counters):
        return
    note = <Departed *> malloc(sizeof(Departed) + tenant.id_size)
    if note == NULL or pointer_map_add(&departed.notes, tenant.hash, note) != 0:
        free(note)
        return
    note.hash = tenant.hash
    note.counters = counters[0]
    note.id_size = tenant.id_size
    memcpy(_id(note), tenant.id, tenant.id_size)
    note.newer = NULL
    note.older = departed.newest
    if departed.newest != NULL:
        departed.newest.newer = note
    else:
        departed.oldest = note
    departed.newest = note
    if departed.notes.count > DEPARTED_TENANTS:
        _forget(departed, departed.oldest)


cdef void departed_take(DepartedTenants *departed, const SharedTenant *tenant, Counters *counters) noexcept nogil:
    cdef uint32_t cursor
    cdef size_t place
    cdef Departed *note = <Departed *> pointer_map_first(&departed.notes, tenant.hash, &cursor)
    while note != NULL:
        if note.id_size == tenant.id_size and memcmp(_id(note), tenant.id, tenant.id_size) == 0:
            counters[0] = note.counters
            for place in range(sizeof(Counters) // sizeof(uint64_t)):
                (<uint64_t *> &departed.total)[place] -= (<uint64_t *> counters)[place]
            _forget(departed, note)
            return
        note = <Departed *> pointer_map_next(&departed.notes, tenant.hash, &cursor)


cdef void departed_clear(DepartedTenants *departed) noexcept nogil:
    while departed.oldest != NULL:
        _forget(departed, departed.oldest)
    pointer_map_free(&departed.notes)
