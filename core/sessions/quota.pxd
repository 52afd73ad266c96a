r"""Quotas: how much of each resource a tenant may have, in all shards together.

    SharedTenant -- usage[resource]      what there is now: kept for every tenant, since limits may come later
             \-- quota (NULL = none) -- lines[resource]    limit, and for rates up to when all that passed is paid for
                                     \-- shadows[resource]  the same for a limit that only counts what it would refuse
                                     \-- closed             resources that a plugin says the tenant has no more of

Everything is atomic: shards take and give at the same time without waiting for each other, so that a total may pass its
limit by one per shard in the same instant. Rates are kept as in pacing.pxd: a tenant that was silent has one second's
worth to spend at once.

A tenant without a quota pays one branch where something is taken. docs/quotas.md says what happens at each limit.
"""

from libc.stdint cimport int64_t, uint64_t
from rookery.core.sessions.state cimport Quota, Resource, Session, SharedTenant, Tenant
from rookery.core.structures.atomics cimport atomic_load_pointer


# Make room for limits, if the tenant has none yet. NULL when memory is short.
cdef Quota *quota_make(SharedTenant *tenant) noexcept nogil
# limits: those of all resources, then those of their shadows; 0 = none.
cdef void quota_set_limits(Quota *quota, const uint64_t *limits) noexcept nogil
# Take amount of a resource. False when the tenant has not that much left: counted and told; session may be NULL.
cdef bint quota_take(
    Tenant *tenant, const Session *session, Resource resource, uint64_t amount) noexcept nogil
# Take from a rate what has passed already. When it will be paid for, clock of the shards; 0 = it is.
cdef uint64_t quota_spend_ms(Tenant *tenant, const Session *session, Resource resource, uint64_t amount) noexcept nogil
# The same where nobody waits for it: what follows finds less.
cdef void quota_charge(Tenant *tenant, Resource resource, uint64_t amount) noexcept nogil
cdef void usage_add(SharedTenant *tenant, Resource resource, int64_t amount) noexcept nogil
# What the session uses is counted anew: after each step that changes it, and with is_ending before it is freed.
cdef void session_measure(Session *session, bint is_ending) noexcept nogil


cdef inline bint has_quota(const Tenant *tenant) noexcept nogil:
    return atomic_load_pointer(<void **> &tenant.shared.quota) != NULL


cdef inline bint quota_allows(
    Tenant *tenant, const Session *session, Resource resource, uint64_t amount
) noexcept nogil:
    return not has_quota(tenant) or quota_take(tenant, session, resource, amount)
