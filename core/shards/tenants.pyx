"""See tenants.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from rookery.core.sessions.memberships cimport membership_drop
from rookery.core.sessions.quota cimport has_quota, quota_make, quota_set_limits
from rookery.core.sessions.retain cimport tenant_drop_retained
from rookery.core.sessions.routes cimport routes_free
from rookery.core.sessions.session cimport session_end
from rookery.core.sessions.state cimport Membership, Quota, Session, SharedGroup, SharedTenant, Tenant
from rookery.core.shards.departed cimport departed_keep, departed_take
from rookery.core.shards.registry cimport registry_acquire, registry_find, registry_release
from rookery.core.shards.state cimport Shard
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_each, pointer_map_first, pointer_map_free, pointer_map_next, pointer_map_remove,
)


cdef Tenant *_find(Shard *shard, uint64_t hash, Bytes tenant_id) noexcept nogil:
    cdef uint32_t cursor
    cdef Tenant *tenant = <Tenant *> pointer_map_first(&shard.tenants, hash, &cursor)
    while tenant != NULL:
        if (
            tenant.shared.id_size == tenant_id.size
            and memcmp(tenant.shared.id, tenant_id.data, tenant_id.size) == 0
        ):
            return tenant
        tenant = <Tenant *> pointer_map_next(&shard.tenants, hash, &cursor)
    return NULL


cdef Tenant *tenant_find(Shard *shard, Bytes tenant_id) noexcept nogil:
    return _find(shard, hash_bytes(&shard.universe.key, tenant_id.data, tenant_id.size), tenant_id)


cdef Tenant *_new(Shard *shard, SharedTenant *shared) noexcept nogil:
    """Takes over one reference to shared, also when memory is short."""
    cdef Tenant *tenant = <Tenant *> calloc(1, sizeof(Tenant))
    cdef Quota *quota
    if tenant == NULL or pointer_map_add(&shard.tenants, shared.hash, tenant) != 0:
        registry_release(&shard.universe.registry, shard.universe.reclaim, shared)
        free(tenant)
        return NULL
    tenant.shared = shared
    tenant.world = &shard.world
    tenant.settings = shard.universe.default_settings
    departed_take(&shard.departed, shared, &tenant.counters)
    if shard.universe.default_quota_limits != NULL and not has_quota(tenant):
        # Limits of its own come later and replace these.
        quota = quota_make(shared)
        if quota != NULL:
            quota_set_limits(quota, shard.universe.default_quota_limits)
    return tenant


cdef Tenant *tenant_acquire(Shard *shard, Bytes tenant_id) noexcept nogil:
    cdef Tenant *tenant = tenant_find(shard, tenant_id)
    cdef SharedTenant *shared
    if tenant == NULL:
        shared = registry_find(&shard.universe.registry, &shard.universe.key, shard.universe.reclaim, tenant_id)
        if shared == NULL:
            return NULL
        tenant = _new(shard, shared)
        if tenant == NULL:
            return NULL
    tenant.users += 1
    return tenant


cdef Tenant *tenant_acquire_shared(Shard *shard, SharedTenant *shared) noexcept nogil:
    cdef Bytes tenant_id
    cdef Tenant *tenant
    tenant_id.data = shared.id
    tenant_id.size = shared.id_size
    tenant = _find(shard, shared.hash, tenant_id)
    if tenant == NULL:
        registry_acquire(&shard.universe.registry, shared)
        tenant = _new(shard, shared)
        if tenant == NULL:
            return NULL
    tenant.users += 1
    return tenant


cdef void _free_groups(Shard *shard, Tenant *tenant) noexcept nogil:
    """Only at the end of the process are there any: members on other shards have not left yet."""
    cdef uint32_t cursor = 0
    cdef uint32_t index
    cdef SharedGroup *group = <SharedGroup *> pointer_map_each(&tenant.groups, &cursor)
    cdef Membership *membership
    while group != NULL:
        for index in range(group.member_count):
            membership = <Membership *> group.members[index].target
            membership.group = NULL
            if membership_drop(membership):
                registry_release(&shard.universe.registry, shard.universe.reclaim, membership.tenant)
                free(membership)
        free(group.members)
        free(group)
        group = <SharedGroup *> pointer_map_each(&tenant.groups, &cursor)
    pointer_map_free(&tenant.groups)


cdef void _free(Shard *shard, Tenant *tenant) noexcept nogil:
    tenant_drop_retained(tenant)
    routes_free(&tenant.routes)
    pointer_map_free(&tenant.sessions)
    _free_groups(shard, tenant)
    departed_keep(&shard.departed, tenant.shared, &tenant.counters)
    registry_release(&shard.universe.registry, shard.universe.reclaim, tenant.shared)
    free(tenant)


cdef void tenant_release(Shard *shard, Tenant *tenant) noexcept nogil:
    tenant.users -= 1
    if tenant.users == 0:
        pointer_map_remove(&shard.tenants, tenant.shared.hash, tenant)
        _free(shard, tenant)


cdef void tenants_clear(Shard *shard) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef uint32_t inner
    cdef Tenant *tenant = <Tenant *> pointer_map_each(&shard.tenants, &cursor)
    cdef Session *session
    while tenant != NULL:
        inner = 0
        session = <Session *> pointer_map_each(&tenant.sessions, &inner)
        while session != NULL:
            session_end(session)
            # The map has changed: begin again.
            inner = 0
            session = <Session *> pointer_map_each(&tenant.sessions, &inner)
        _free(shard, tenant)
        tenant = <Tenant *> pointer_map_each(&shard.tenants, &cursor)
    pointer_map_free(&shard.tenants)
