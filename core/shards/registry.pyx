"""See registry.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from rookery.core.sessions.state cimport RESOURCE_COUNT, RESOURCE_FIRST_RATE, Quota, SharedTenant
from rookery.core.shards.state cimport Registry
from rookery.core.structures.atomics cimport (
    atomic_load_pointer, atomic_load_u32, atomic_load_u64, atomic_replace_u32,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey, hash_bytes
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init, mutex_lock, mutex_unlock
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_each, pointer_map_first, pointer_map_free, pointer_map_next, pointer_map_remove,
    pointer_map_scan,
)
from rookery.core.structures.reclaim cimport ReclaimDomain, reclaim_later
from rookery.core.structures.rows cimport rows_put_number, rows_put_string
from rookery.core.topics.tree cimport tree_filter_count, tree_free, tree_new

cdef enum:
    _AT_HOME = 256             # tenants with one home place in the map, which is keyed at random: there are few
    _LOOKED_AT = 4096          # under the mutex


cdef void registry_init(Registry *registry) noexcept nogil:
    memset(registry, 0, sizeof(Registry))
    mutex_init(&registry.mutex, NULL)


cdef void _free(void *context, uint64_t argument) noexcept nogil:
    cdef SharedTenant *tenant = <SharedTenant *> context
    tree_free(tenant.tree)
    free(tenant.quota)
    free(tenant.id)
    free(tenant)


cdef void registry_clear(Registry *registry) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef void *tenant = pointer_map_each(&registry.tenants, &cursor)
    while tenant != NULL:
        _free(tenant, 0)
        tenant = pointer_map_each(&registry.tenants, &cursor)
    pointer_map_free(&registry.tenants)
    mutex_destroy(&registry.mutex)


cdef SharedTenant *_find(Registry *registry, uint64_t hash, Bytes tenant_id) noexcept nogil:
    cdef uint32_t cursor
    cdef SharedTenant *tenant = <SharedTenant *> pointer_map_first(&registry.tenants, hash, &cursor)
    while tenant != NULL:
        if tenant.id_size == tenant_id.size and memcmp(tenant.id, tenant_id.data, tenant_id.size) == 0:
            return tenant
        tenant = <SharedTenant *> pointer_map_next(&registry.tenants, hash, &cursor)
    return NULL


cdef SharedTenant *_new(
    Registry *registry, const HashKey *key, ReclaimDomain *reclaim, uint64_t hash, Bytes tenant_id
) noexcept nogil:
    cdef SharedTenant *tenant = <SharedTenant *> calloc(1, sizeof(SharedTenant))
    if tenant == NULL:
        return NULL
    tenant.id = <uint8_t *> malloc(tenant_id.size + 1)
    tenant.tree = tree_new(key, reclaim)
    if tenant.id == NULL or tenant.tree == NULL or pointer_map_add(&registry.tenants, hash, tenant) != 0:
        if tenant.tree != NULL:
            tree_free(tenant.tree)
        free(tenant.id)
        free(tenant)
        return NULL
    memcpy(tenant.id, tenant_id.data, tenant_id.size)
    tenant.id_size = <uint16_t> tenant_id.size
    tenant.hash = hash
    return tenant


cdef SharedTenant *registry_find(
    Registry *registry, const HashKey *key, ReclaimDomain *reclaim, Bytes tenant_id
) noexcept nogil:
    cdef uint64_t hash = hash_bytes(key, tenant_id.data, tenant_id.size)
    cdef SharedTenant *tenant
    mutex_lock(&registry.mutex)
    tenant = _find(registry, hash, tenant_id)
    if tenant == NULL:
        tenant = _new(registry, key, reclaim, hash, tenant_id)
    if tenant != NULL:
        # Under the mutex, for only there may a count leave zero or reach it.
        registry_acquire(registry, tenant)
    mutex_unlock(&registry.mutex)
    return tenant


cdef void registry_tell(Registry *registry, const HashKey *key, Bytes tenant_id, uint64_t *out) noexcept nogil:
    cdef SharedTenant *tenant
    cdef Quota *quota = NULL
    cdef uint64_t *row
    cdef int resource
    memset(out, 0, (RESOURCE_FIRST_RATE + 4 * RESOURCE_COUNT) * sizeof(uint64_t))
    mutex_lock(&registry.mutex)
    # Nobody frees it meanwhile: that begins with its removal under the mutex.
    tenant = _find(registry, hash_bytes(key, tenant_id.data, tenant_id.size), tenant_id)
    if tenant != NULL:
        quota = <Quota *> atomic_load_pointer(<void **> &tenant.quota)
        for resource in range(RESOURCE_FIRST_RATE):
            out[resource] = atomic_load_u64(&tenant.usage[resource])
    if quota != NULL:
        for resource in range(RESOURCE_COUNT):
            row = &out[RESOURCE_FIRST_RATE + 4 * resource]
            row[0] = atomic_load_u64(&quota.lines[resource].limit)
            row[1] = atomic_load_u64(&quota.lines[resource].throttled)
            row[2] = atomic_load_u64(&quota.shadows[resource].limit)
            row[3] = atomic_load_u64(&quota.shadows[resource].throttled)
    mutex_unlock(&registry.mutex)


cdef void registry_list(Registry *registry, uint32_t *cursor, uint32_t limit, Rows *out) noexcept nogil:
    cdef void *found[_AT_HOME]
    cdef const SharedTenant *tenant
    cdef uint32_t looked_at = 0
    cdef uint32_t count, index
    cdef int resource
    mutex_lock(&registry.mutex)
    while out.count < limit and looked_at < _LOOKED_AT:
        count = min(pointer_map_scan(&registry.tenants, cursor, found, _AT_HOME), <uint32_t> _AT_HOME)
        looked_at += 1 + count
        for index in range(count):
            tenant = <const SharedTenant *> found[index]
            rows_put_string(out, tenant.id, tenant.id_size)
            rows_put_number(out, tree_filter_count(tenant.tree))
            for resource in range(RESOURCE_FIRST_RATE):
                rows_put_number(out, atomic_load_u64(&tenant.usage[resource]))
            out.count += 1
        if cursor[0] == 0:
            break
    mutex_unlock(&registry.mutex)


cdef void registry_acquire(Registry *registry, SharedTenant *tenant) noexcept nogil:
    cdef uint32_t references = atomic_load_u32(&tenant.references)
    while not atomic_replace_u32(&tenant.references, references, references + 1):
        references = atomic_load_u32(&tenant.references)


cdef void registry_release(Registry *registry, ReclaimDomain *reclaim, SharedTenant *tenant) noexcept nogil:
    cdef uint32_t references = atomic_load_u32(&tenant.references)
    cdef bint is_last = False
    while references > 1:
        if atomic_replace_u32(&tenant.references, references, references - 1):
            return
        references = atomic_load_u32(&tenant.references)
    # The last reference, as it seems: whoever looks the tenant up holds the mutex.
    mutex_lock(&registry.mutex)
    references = atomic_load_u32(&tenant.references)
    while not atomic_replace_u32(&tenant.references, references, references - 1):
        references = atomic_load_u32(&tenant.references)
    if references == 1:
        pointer_map_remove(&registry.tenants, tenant.hash, tenant)
        is_last = True
    mutex_unlock(&registry.mutex)
    if is_last:
        # What the tree itself has handed to the domain comes before it in the queue.
        reclaim_later(reclaim, _free, tenant, 0)
