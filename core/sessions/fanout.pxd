"""Limits on what one publication may reach: MaxPersistentFanout, MaxPersistentFanoutBytes, and the fan-out bytes per
second of the tenant's quota.

Where none is set a publication pays one branch per session. Of the first two each shard counts for itself: a
publication of a broker with several shards may reach that many persistent sessions on each of them.
"""

from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.publish cimport Outcome
from rookery.core.sessions.quota cimport has_quota
from rookery.core.sessions.state cimport Session, Tenant


# Before the publication is handed out: does anything limit it?
cdef inline void fanout_begin(const Tenant *tenant, Outcome *outcome) noexcept nogil:
    outcome.is_limited = tenant.settings.limits_persistent_fanout or has_quota(tenant)


# Where something does: may this session get it? If not, that has been counted and told.
cdef bint fanout_allows(Session *session, const Publication *publication, Outcome *outcome) noexcept nogil
