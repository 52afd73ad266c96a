"""See fanout.pxd."""

from libc.stdint cimport uint64_t

from rookery.core.sessions.drops cimport (
    DROP_FANOUT_LIMITED, DROP_OUT_OF_RESOURCE, DropReason, drop_publication,
)
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.notices cimport NOTICE_PERSISTENT_FANOUT_BYTES_LIMITED, NOTICE_PERSISTENT_FANOUT_LIMITED
from rookery.core.sessions.publish cimport Outcome
from rookery.core.sessions.quota cimport quota_take
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport (
    RESOURCE_PERSISTENT_FANOUT_BYTES, RESOURCE_TRANSIENT_FANOUT_BYTES, Resource, Session, Tenant,
)
from rookery.core.sessions.witness cimport is_noticed, notice_tenant


cdef inline uint64_t _size(const Publication *publication) noexcept nogil:
    return <uint64_t> publication.topic.size + publication.payload.size + publication.forwarded.size


cdef bint _is_affordable(Session *session, const Publication *publication, const Outcome *outcome) noexcept nogil:
    cdef Resource resource = (
        RESOURCE_PERSISTENT_FANOUT_BYTES if session.is_persistent else RESOURCE_TRANSIENT_FANOUT_BYTES)
    # The first session gets the message in any case: a tenant above its limit is thinned out, not cut off.
    return (
        quota_take(session.tenant, session, resource, _size(publication)) or outcome.matched == 0
    )


cdef bint _is_within_fanout(Session *session, const Publication *publication, Outcome *outcome) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef const Settings *settings = &tenant.settings
    cdef uint64_t size
    size = _size(publication)
    if outcome.persistent < settings.max_persistent_fanout and (
        outcome.persistent_bytes + size <= settings.max_persistent_fanout_bytes
    ):
        outcome.persistent += 1
        outcome.persistent_bytes += size
        return True
    # Once per publication is enough.
    if not outcome.is_limit_noticed:
        outcome.is_limit_noticed = 1
        if outcome.persistent >= settings.max_persistent_fanout:
            if is_noticed(tenant.world, NOTICE_PERSISTENT_FANOUT_LIMITED):
                notice_tenant(
                    tenant, NOTICE_PERSISTENT_FANOUT_LIMITED, publication.topic, settings.max_persistent_fanout, 0, 0,
                    0)
        elif is_noticed(tenant.world, NOTICE_PERSISTENT_FANOUT_BYTES_LIMITED):
            notice_tenant(
                tenant, NOTICE_PERSISTENT_FANOUT_BYTES_LIMITED, publication.topic,
                settings.max_persistent_fanout_bytes, 0, 0, 0)
    return False


cdef bint fanout_allows(Session *session, const Publication *publication, Outcome *outcome) noexcept nogil:
    cdef DropReason reason
    if (
        session.is_persistent
        and session.tenant.settings.limits_persistent_fanout
        and not _is_within_fanout(session, publication, outcome)
    ):
        reason = DROP_FANOUT_LIMITED
    elif has_quota(session.tenant) and not _is_affordable(session, publication, outcome):
        reason = DROP_OUT_OF_RESOURCE
    else:
        return True
    drop_publication(session, publication, publication.qos, reason)
    outcome.matched += 1
    outcome.dropped += 1
    return False
