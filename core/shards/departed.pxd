"""DepartedTenants: what a shard counted of tenants that nobody uses now.

    tenant goes ----> a note with its counters ----> tenant comes back: the note is taken, and counting goes on
                        |
                        '-- the oldest of more than DEPARTED_TENANTS: only total remembers it

So no counter of a tenant begins anew because its last session went for a while, and the sum over all tenants, which
operators watch, never falls.
"""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.sessions.state cimport Counters, SharedTenant
from rookery.core.structures.pointer_map cimport PointerMap

cdef enum:
    DEPARTED_TENANTS = 16384   # notes of a shard, some 200 B each with its place in the map: 3 MiB


cdef struct Departed:
    Departed *older
    Departed *newer
    uint64_t hash              # of the tenant's id
    Counters counters
    uint32_t id_size           # bytes of the id, which follows the struct


cdef struct DepartedTenants:
    PointerMap notes           # hash -> Departed
    Departed *oldest
    Departed *newest
    Counters total             # of all that went and did not come back, those without a note too


# The tenant goes: keep what was counted of it. Without memory only the total knows.
cdef void departed_keep(
    DepartedTenants *departed, const SharedTenant *tenant, const Counters *counters) noexcept nogil
# The tenant is here: what was counted of it goes on in counters, which are 0.
cdef void departed_take(DepartedTenants *departed, const SharedTenant *tenant, Counters *counters) noexcept nogil
cdef void departed_clear(DepartedTenants *departed) noexcept nogil
