"""The tenants that a shard knows: made when somebody needs one, gone when nobody does."""

from rookery.core.sessions.state cimport SharedTenant, Tenant
from rookery.core.shards.state cimport Shard
from rookery.core.structures.bytes cimport Bytes


# The tenant of this id with one user more (the caller), made if need be; NULL when memory is short.
cdef Tenant *tenant_acquire(Shard *shard, Bytes tenant_id) noexcept nogil
# The same for what another shard sent.
cdef Tenant *tenant_acquire_shared(Shard *shard, SharedTenant *shared) noexcept nogil
# The tenant if this shard knows it, no user more; else NULL.
cdef Tenant *tenant_find(Shard *shard, Bytes tenant_id) noexcept nogil
# One user less; the last one frees what this shard holds of the tenant.
cdef void tenant_release(Shard *shard, Tenant *tenant) noexcept nogil
# For the end of the shard: all tenants go with everything they hold.
cdef void tenants_clear(Shard *shard) noexcept nogil
