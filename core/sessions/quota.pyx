"""See quota.pxd."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rookery.core.sessions.notices cimport NOTICE_OUT_OF_RESOURCE
from rookery.core.sessions.state cimport (
    RESOURCE_CONNECTIONS, RESOURCE_COUNT, RESOURCE_FIRST_RATE, RESOURCE_PERSISTENT_SESSIONS,
    RESOURCE_PERSISTENT_SPACE_BYTES, RESOURCE_PERSISTENT_SUBSCRIPTIONS, RESOURCE_SESSION_MEMORY_BYTES,
    RESOURCE_SHARED_SUBSCRIPTIONS, RESOURCE_TRANSIENT_SUBSCRIPTIONS, Measure, Quota, QuotaLine, Resource, Session,
    SharedTenant, Subscription, Tenant,
)
from rookery.core.sessions.witness cimport absent, is_noticed, notice_session, notice_tenant
from rookery.core.structures.atomics cimport (
    atomic_add_u64, atomic_load_pointer, atomic_load_u32, atomic_load_u64, atomic_replace_pointer, atomic_replace_u64,
    atomic_store_u64,
)

cdef enum:
    _NS_PER_MS = 1000000
    _NS_PER_S = 1000000000
    _BURST_NS = 1000000000     # what a silent tenant saves up: one second's worth
    _NOTICE_PAUSE_MS = 1000    # one notice a second, tenant and resource says it well enough
    _CLOSED_PAUSE_MS = 100     # how often it is looked whether a plugin has opened a rate again


cdef Quota *quota_make(SharedTenant *tenant) noexcept nogil:
    cdef Quota *quota = <Quota *> atomic_load_pointer(<void **> &tenant.quota)
    if quota != NULL:
        return quota
    quota = <Quota *> calloc(1, sizeof(Quota))
    if quota != NULL and not atomic_replace_pointer(<void **> &tenant.quota, NULL, quota):
        # Another shard was faster.
        free(quota)
        quota = <Quota *> atomic_load_pointer(<void **> &tenant.quota)
    return quota


cdef void quota_set_limits(Quota *quota, const uint64_t *limits) noexcept nogil:
    cdef int resource
    for resource in range(RESOURCE_COUNT):
        atomic_store_u64(&quota.lines[resource].limit, limits[resource])
        atomic_store_u64(&quota.shadows[resource].limit, limits[RESOURCE_COUNT + resource])


cdef inline uint64_t _cost_ns(uint64_t amount, uint64_t limit) noexcept nogil:
    # A batch of bytes is 256 MiB at most, so the product fits: 2 ** 28 * 10 ** 9 < 2 ** 64.
    return amount * _NS_PER_S // limit


cdef bint _take_rate(QuotaLine *line, uint64_t limit, uint64_t amount, uint64_t now_ns) noexcept nogil:
    """False, and nothing is taken, when that would be more than a second's worth ahead of its time."""
    cdef uint64_t cost_ns = _cost_ns(amount, limit)
    cdef uint64_t due_ns = cost_ns if cost_ns < _BURST_NS else _BURST_NS  # What is larger passes whole.
    cdef uint64_t paid_ns, begin_ns
    while True:
        paid_ns = atomic_load_u64(&line.paid_ns)
        begin_ns = paid_ns if paid_ns + _BURST_NS > now_ns else now_ns - _BURST_NS
        if begin_ns + due_ns > now_ns:
            return False
        if amount == 0 or atomic_replace_u64(&line.paid_ns, paid_ns, begin_ns + cost_ns):
            return True


cdef void _tell(
    Tenant *tenant, const Session *session, Resource resource, QuotaLine *line, uint64_t limit, bint is_shadow
) noexcept nogil:
    cdef uint64_t throttled = atomic_add_u64(&line.throttled, 1) + 1
    cdef uint64_t now_ms = tenant.world.now_ms
    cdef uint64_t noticed_at_ms = atomic_load_u64(&line.noticed_at_ms)
    tenant.counters.resources_throttled += not is_shadow
    if not is_noticed(tenant.world, NOTICE_OUT_OF_RESOURCE):
        return
    if noticed_at_ms != 0 and noticed_at_ms + _NOTICE_PAUSE_MS > now_ms:
        return
    if not atomic_replace_u64(&line.noticed_at_ms, noticed_at_ms, now_ms):
        return
    if session != NULL:
        notice_session(
            session, NOTICE_OUT_OF_RESOURCE, absent(), absent(), <uint64_t> resource, limit, is_shadow, throttled)
    else:
        notice_tenant(
            tenant, NOTICE_OUT_OF_RESOURCE, absent(), <uint64_t> resource, limit, is_shadow, throttled)


cdef inline bint _is_within(
    Tenant *tenant, QuotaLine *line, Resource resource, uint64_t limit, uint64_t amount
) noexcept nogil:
    cdef int64_t usage
    if <int> resource >= RESOURCE_FIRST_RATE:
        return _take_rate(line, limit, amount, tenant.world.now_ms * _NS_PER_MS)
    usage = <int64_t> atomic_load_u64(&tenant.shared.usage[<int> resource])
    return usage + <int64_t> amount <= <int64_t> limit


cdef bint quota_take(Tenant *tenant, const Session *session, Resource resource, uint64_t amount) noexcept nogil:
    cdef Quota *quota = <Quota *> atomic_load_pointer(<void **> &tenant.shared.quota)
    cdef QuotaLine *line = &quota.shadows[<int> resource]
    cdef uint64_t limit = atomic_load_u64(&line.limit)
    if limit != 0 and not _is_within(tenant, line, resource, limit, amount):
        _tell(tenant, session, resource, line, limit, True)
    line = &quota.lines[<int> resource]
    limit = atomic_load_u64(&line.limit)
    if atomic_load_u32(&quota.closed) >> <int> resource & 1 or (
        limit != 0 and not _is_within(tenant, line, resource, limit, amount)
    ):
        _tell(tenant, session, resource, line, limit, False)
        return False
    return True


cdef uint64_t _spend(QuotaLine *line, uint64_t limit, uint64_t amount, uint64_t now_ns) noexcept nogil:
    """Up to when it is paid for; what is saved up counts."""
    cdef uint64_t paid_ns, begin_ns
    while True:
        paid_ns = atomic_load_u64(&line.paid_ns)
        begin_ns = paid_ns if paid_ns + _BURST_NS > now_ns else now_ns - _BURST_NS
        if atomic_replace_u64(&line.paid_ns, paid_ns, begin_ns + _cost_ns(amount, limit)):
            return begin_ns + _cost_ns(amount, limit)


cdef void quota_charge(Tenant *tenant, Resource resource, uint64_t amount) noexcept nogil:
    cdef Quota *quota = <Quota *> atomic_load_pointer(<void **> &tenant.shared.quota)
    cdef uint64_t now_ns = tenant.world.now_ms * _NS_PER_MS
    cdef uint64_t limit = atomic_load_u64(&quota.shadows[<int> resource].limit)
    if limit != 0:
        _spend(&quota.shadows[<int> resource], limit, amount, now_ns)
    limit = atomic_load_u64(&quota.lines[<int> resource].limit)
    if limit != 0:
        _spend(&quota.lines[<int> resource], limit, amount, now_ns)


cdef uint64_t quota_spend_ms(
    Tenant *tenant, const Session *session, Resource resource, uint64_t amount
) noexcept nogil:
    cdef Quota *quota = <Quota *> atomic_load_pointer(<void **> &tenant.shared.quota)
    cdef uint64_t now_ns = tenant.world.now_ms * _NS_PER_MS
    cdef QuotaLine *line = &quota.shadows[<int> resource]
    cdef uint64_t limit = atomic_load_u64(&line.limit)
    cdef uint64_t due_ns
    if limit != 0 and not _take_rate(line, limit, amount, now_ns):
        _tell(tenant, session, resource, line, limit, True)
    line = &quota.lines[<int> resource]
    limit = atomic_load_u64(&line.limit)
    if atomic_load_u32(&quota.closed) >> <int> resource & 1:
        _tell(tenant, session, resource, line, limit, False)
        return tenant.world.now_ms + _CLOSED_PAUSE_MS
    if limit == 0:
        return 0
    due_ns = _spend(line, limit, amount, now_ns)
    if due_ns <= now_ns:
        return 0
    _tell(tenant, session, resource, line, limit, False)
    return due_ns // _NS_PER_MS + 1


# Usage

cdef void usage_add(SharedTenant *tenant, Resource resource, int64_t amount) noexcept nogil:
    if amount != 0:
        atomic_add_u64(&tenant.usage[<int> resource], <uint64_t> amount)


cdef void _measure(const Session *session, Measure *measure) noexcept nogil:
    measure.connections = session.link != NULL
    measure.bytes = (
        sizeof(Session) + session.user_id_size + session.client_id_size
        + <uint64_t> session.subscription_capacity * sizeof(Subscription)
        + session.inbox.kept_bytes + session.inflight.kept_bytes
    )
    measure.shared_subscriptions = session.shared_subscription_count
    if session.is_persistent:
        measure.persistent_sessions = 1
        measure.persistent_bytes = measure.bytes
        measure.persistent_subscriptions = session.subscription_count
    else:
        measure.transient_subscriptions = session.subscription_count


cdef void session_measure(Session *session, bint is_ending) noexcept nogil:
    cdef SharedTenant *tenant = session.tenant.shared
    cdef Measure *before = &session.measure
    cdef Measure after
    memset(&after, 0, sizeof(after))
    if not is_ending:
        _measure(session, &after)
    usage_add(tenant, RESOURCE_CONNECTIONS, <int64_t> after.connections - before.connections)
    usage_add(tenant, RESOURCE_SESSION_MEMORY_BYTES, <int64_t> (after.bytes - before.bytes))
    usage_add(tenant, RESOURCE_PERSISTENT_SESSIONS, <int64_t> after.persistent_sessions - before.persistent_sessions)
    usage_add(tenant, RESOURCE_PERSISTENT_SPACE_BYTES, <int64_t> (after.persistent_bytes - before.persistent_bytes))
    usage_add(
        tenant, RESOURCE_TRANSIENT_SUBSCRIPTIONS,
        <int64_t> after.transient_subscriptions - before.transient_subscriptions)
    usage_add(
        tenant, RESOURCE_PERSISTENT_SUBSCRIPTIONS,
        <int64_t> after.persistent_subscriptions - before.persistent_subscriptions)
    usage_add(
        tenant, RESOURCE_SHARED_SUBSCRIPTIONS, <int64_t> after.shared_subscriptions - before.shared_subscriptions)
    before[0] = after
