"""See fanout.pxd."""

from libc.stdint cimport uint64_t

from rookery.core.sessions.drops cimport DROP_FANOUT_LIMITED, drop_publication
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.notices cimport NOTICE_PERSISTENT_FANOUT_BYTES_LIMITED, NOTICE_PERSISTENT_FANOUT_LIMITED
from rookery.core.sessions.publish cimport Outcome
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport Session, Tenant
from rookery.core.sessions.witness cimport is_noticed, notice_tenant


cdef void fanout_begin(const Tenant *tenant, Outcome *outcome) noexcept nogil:
    outcome.is_limited = tenant.settings.limits_persistent_fanout


cdef inline uint64_t _size(const Publication *publication) noexcept nogil:
    return <uint64_t> publication.topic.size + publication.payload.size + publication.forwarded.size


cdef bint fanout_allows(Session *session, const Publication *publication, Outcome *outcome) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef const Settings *settings = &tenant.settings
    cdef uint64_t size
    if not session.is_persistent or not settings.limits_persistent_fanout:
        return True
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
    drop_publication(session, publication, publication.qos, DROP_FANOUT_LIMITED)
    outcome.matched += 1
    outcome.dropped += 1
    return False
