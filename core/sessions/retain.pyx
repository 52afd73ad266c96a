"""See retain.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from rookery.core.sessions.journal cimport (
    journal_arrived, journal_cleared, journal_is_retaining, journal_retained, journal_retains_nothing,
)
from rookery.core.sessions.message cimport NEVER, Message, Publication, message_release, message_size, message_topic
from rookery.core.sessions.message cimport publication_keep
from rookery.core.sessions.notices cimport (
    NOTICE_MESSAGE_RETAINED, NOTICE_RETAIN_FAILED, NOTICE_RETAINED_CLEARED,
)
from rookery.core.sessions.quota cimport has_quota, quota_take, usage_add
from rookery.core.sessions.state cimport (
    RESOURCE_RETAIN_BYTES, RESOURCE_RETAIN_MESSAGES, RESOURCE_RETAINED_BYTES, RESOURCE_RETAINED_TOPICS, TIMER_RETAINED,
    Tenant,
)
from rookery.core.sessions.witness cimport is_noticed, notice_tenant
from rookery.core.structures.timers cimport Timer, wheel_arm, wheel_cancel
from rookery.core.topics.retained cimport (
    RetainedWalk, retained_free, retained_get, retained_new, retained_remove, retained_set, retained_walk_all,
    retained_walk_free, retained_walk_next,
)

cdef enum:
    _BATCH = 256


cdef void _forget(Retained *retained) noexcept nogil:
    """What is no longer in the tree."""
    cdef Tenant *tenant = retained.tenant
    tenant.retained_bytes -= message_size(retained.message)
    usage_add(tenant.shared, RESOURCE_RETAINED_TOPICS, -1)
    usage_add(tenant.shared, RESOURCE_RETAINED_BYTES, -<int64_t> message_size(retained.message))
    tenant.users -= 1
    if retained.timer != NULL:
        wheel_cancel(tenant.world.wheel, retained.timer)
        free(retained.timer)
    message_release(retained.message)
    free(retained)


cdef inline void _write_cleared(Retained *retained) noexcept nogil:
    if retained.tenant.world.journal != NULL:
        journal_cleared(retained.tenant, message_topic(retained.message), retained.message.topic_size)


cdef int _clear(Tenant *tenant, Publication *publication) noexcept nogil:
    cdef Retained *retained
    if tenant.retained != NULL:
        retained = <Retained *> retained_remove(tenant.retained, publication.topic.data, publication.topic.size)
        if retained != NULL:
            if is_noticed(tenant.world, NOTICE_RETAINED_CLEARED):
                notice_tenant(tenant, NOTICE_RETAINED_CLEARED, publication.topic, 0, 0, 0, 0)
            _write_cleared(retained)
            _forget(retained)
    return RETAIN_CLEARED


cdef bint _is_affordable(Tenant *tenant, const Publication *publication) noexcept nogil:
    """By the tenant's quota: the totals with what it replaces taken off, and the rates."""
    cdef uint64_t size = (
        sizeof(Message) + publication.topic.size + publication.payload.size + publication.forwarded.size)
    cdef Retained *previous = NULL
    cdef uint64_t growth = size
    if tenant.retained != NULL:
        previous = <Retained *> retained_get(tenant.retained, publication.topic.data, publication.topic.size)
    if previous != NULL:
        growth = size - message_size(previous.message) if size > message_size(previous.message) else 0
    return (
        (previous != NULL or quota_take(tenant, NULL, RESOURCE_RETAINED_TOPICS, 1))
        and (growth == 0 or quota_take(tenant, NULL, RESOURCE_RETAINED_BYTES, growth))
        and quota_take(tenant, NULL, RESOURCE_RETAIN_MESSAGES, 1)
        and quota_take(tenant, NULL, RESOURCE_RETAIN_BYTES, size)
    )


cdef int tenant_retain(Tenant *tenant, Publication *publication) noexcept nogil:
    cdef int result = RETAIN_OVER_QUOTA
    if not has_quota(tenant) or publication.payload.size == 0 or _is_affordable(tenant, publication):
        result = tenant_retain_at(tenant, publication, tenant.world.now_ms)
    if publication.origin != 0:
        journal_arrived(tenant.world.journal, 0, publication.origin)
    return result


cdef int tenant_retain_at(Tenant *tenant, Publication *publication, uint64_t stored_at_ms) noexcept nogil:
    cdef Retained *retained
    cdef void *previous
    if publication.payload.size == 0:
        return _clear(tenant, publication)
    if tenant.retained == NULL:
        tenant.retained = retained_new(tenant.world.key)
        if tenant.retained == NULL:
            return RETAIN_NO_MEMORY
        journal_is_retaining(tenant)
    retained = <Retained *> calloc(1, sizeof(Retained))
    if retained == NULL:
        return RETAIN_NO_MEMORY
    retained.tenant = tenant
    retained.stored_at_ms = stored_at_ms
    retained.message = publication_keep(publication)
    if retained.message != NULL and publication.expires_at_ms != NEVER:
        retained.timer = <Timer *> calloc(1, sizeof(Timer))
    if (
        retained.message == NULL
        or (publication.expires_at_ms != NEVER and retained.timer == NULL)
        or retained_set(
            tenant.retained, publication.topic.data, publication.topic.size, retained, &previous) != 0
    ):
        message_release(retained.message)
        free(retained.timer)
        free(retained)
        if is_noticed(tenant.world, NOTICE_RETAIN_FAILED):
            notice_tenant(tenant, NOTICE_RETAIN_FAILED, publication.topic, publication.payload.size, 0, 0, 0)
        return RETAIN_NO_MEMORY
    if retained.timer != NULL:
        retained.timer.owner = retained
        retained.timer.kind = TIMER_RETAINED
        wheel_arm(tenant.world.wheel, retained.timer, publication.expires_at_ms)
    tenant.retained_bytes += message_size(retained.message)
    usage_add(tenant.shared, RESOURCE_RETAINED_TOPICS, 1)
    usage_add(tenant.shared, RESOURCE_RETAINED_BYTES, message_size(retained.message))
    tenant.users += 1
    if tenant.world.journal != NULL:
        journal_retained(tenant, publication, retained.stored_at_ms)
    if previous != NULL:
        _forget(<Retained *> previous)
    if is_noticed(tenant.world, NOTICE_MESSAGE_RETAINED):
        notice_tenant(
            tenant, NOTICE_MESSAGE_RETAINED, publication.topic, publication.qos, publication.payload.size, 0, 0)
    return RETAIN_STORED


cdef void retained_expire(Retained *retained) noexcept nogil:
    cdef Tenant *tenant = retained.tenant
    retained_remove(tenant.retained, message_topic(retained.message), retained.message.topic_size)
    _write_cleared(retained)
    _forget(retained)


cdef void tenant_drop_retained(Tenant *tenant) noexcept nogil:
    cdef void *batch[_BATCH]
    cdef RetainedWalk *walk
    cdef bint is_done = False
    cdef uint32_t count, index
    if tenant.retained == NULL:
        return
    walk = retained_walk_all(tenant.retained)
    # Without memory for the walk the messages are leaked rather than left dangling: the process is ending.
    while walk != NULL and not is_done:
        count = retained_walk_next(walk, batch, _BATCH, _BATCH, &is_done)
        for index in range(count):
            _forget(<Retained *> batch[index])
    if walk != NULL:
        retained_walk_free(walk)
    retained_free(tenant.retained)
    journal_retains_nothing(tenant)
    tenant.retained = NULL
