"""Registry: the tenants of the process. What the shards share of a tenant lives as long as anybody refers to it."""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.sessions.state cimport SharedTenant
from rookery.core.shards.state cimport Registry
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey
from rookery.core.structures.reclaim cimport ReclaimDomain
from rookery.core.structures.rows cimport Rows


cdef void registry_init(Registry *registry) noexcept nogil
cdef void registry_clear(Registry *registry) noexcept nogil
# The tenant of this id, made if need be, with one reference for the caller; NULL when memory is short.
cdef SharedTenant *registry_find(
    Registry *registry, const HashKey *key, ReclaimDomain *reclaim, Bytes tenant_id) noexcept nogil
cdef void registry_acquire(Registry *registry, SharedTenant *tenant) noexcept nogil
# The last reference frees it, once no shard can look at its tree any more.
cdef void registry_release(Registry *registry, ReclaimDomain *reclaim, SharedTenant *tenant) noexcept nogil


# The shard that keeps the tenant's retained messages. High bits: the low ones choose places in hash tables.
# What a tenant has of its resources: of the totals what there is, then of each resource limit, times throttled, and
# both of its shadow: RESOURCE_FIRST_RATE + 4 * RESOURCE_COUNT numbers. All 0 when no shard knows the tenant.
cdef void registry_tell(
    Registry *registry, const HashKey *key, Bytes tenant_id, uint64_t *out) noexcept nogil


# Tenants that some shard knows, about limit of them, by the places of a walk that may rest while they come and go:
# *cursor starts at 0 and is 0 again when it is over. A row is the id, the number of topic filters, then
# the totals as above.
cdef void registry_list(Registry *registry, uint32_t *cursor, uint32_t limit, Rows *out) noexcept nogil


cdef inline uint32_t home_shard_of(uint64_t tenant_hash, uint32_t shard_count) noexcept nogil:
    return <uint32_t> ((tenant_hash >> 32) % shard_count)


cdef inline uint32_t home_shard(const SharedTenant *tenant, uint32_t shard_count) noexcept nogil:
    return home_shard_of(tenant.hash, shard_count)
