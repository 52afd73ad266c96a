"""See errands.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from rookery.core.sessions.groups cimport group_find, group_join_remote, group_leave_remote
from rookery.core.sessions.memberships cimport errand_put, membership_drop, membership_parsed
from rookery.core.sessions.message cimport Message, Publication, message_release, publication_end, publication_of
from rookery.core.sessions.publish cimport Outcome, group_deliver, membership_deliver
from rookery.core.sessions.state cimport (
    ERRAND_GIVE, ERRAND_JOIN, ERRAND_LEAVE, ERRAND_RETURN, Errand, Membership, Session, SharedGroup, Tenant,
)
from rookery.core.shards.mailbox cimport mail_put
from rookery.core.shards.registry cimport registry_release
from rookery.core.shards.state cimport MAIL_ERRAND, Mail, Shard
from rookery.core.shards.tenants cimport tenant_acquire_shared, tenant_find, tenant_release
from rookery.core.structures.atomics cimport atomic_load_u32, atomic_store_u32
from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.names cimport ParsedFilter
from rookery.core.topics.tree cimport NO_FILTER, tree_find


cdef void _release(Shard *shard, Membership *membership) noexcept nogil:
    if membership_drop(membership):
        registry_release(&shard.universe.registry, shard.universe.reclaim, membership.tenant)
        free(membership)


cdef void _count_dropped(Shard *shard, const Membership *membership, const Message *message) noexcept nogil:
    """Memory is short: what was to be handed on is lost, but not silently."""
    cdef Bytes tenant_id
    cdef Tenant *tenant
    tenant_id.data = membership.tenant.id
    tenant_id.size = membership.tenant.id_size
    tenant = tenant_find(shard, tenant_id)
    if tenant != NULL and message != NULL:
        tenant.counters.messages_dropped += 1


cdef void errands_send(Shard *shard) noexcept nogil:
    cdef Errand *errand
    cdef uint32_t target
    while shard.world.first_errand != NULL:
        errand = shard.world.first_errand
        shard.world.first_errand = errand.next
        target = errand.membership.shard if errand.kind == ERRAND_GIVE else errand.membership.home
        if errand.message != NULL:
            shard.given_to |= <uint64_t> 1 << target
        if mail_put(shard, target, MAIL_ERRAND, errand.membership.tenant, errand.message, errand) != 0:
            _count_dropped(shard, errand.membership, errand.message)
            message_release(errand.message)
            _release(shard, errand.membership)
            free(errand)
    shard.world.last_errand = NULL


cdef void _join(Shard *shard, Membership *membership) noexcept nogil:
    """Takes over the errand's reference; the tenant stays as long as the member does."""
    cdef Tenant *tenant = tenant_acquire_shared(shard, membership.tenant)
    if tenant == NULL:
        _release(shard, membership)
    elif group_join_remote(tenant, membership) != 0:
        tenant_release(shard, tenant)
        _release(shard, membership)


cdef void _leave(Shard *shard, Membership *membership) noexcept nogil:
    cdef Tenant *tenant
    if membership.group != NULL:
        tenant = membership.group.tenant
        group_leave_remote(membership)
        tenant_release(shard, tenant)
        _release(shard, membership)  # The group's reference,
    _release(shard, membership)  # and that of the session, which came with the errand.


cdef void _give(Shard *shard, const Errand *errand) noexcept nogil:
    cdef Membership *membership = errand.membership
    cdef Message *message = errand.message
    cdef Session *session = membership.session
    cdef Publication publication
    cdef Outcome outcome
    if session == NULL:
        # It left while the message was under way: back to the group, with the references.
        if errand_put(&shard.world, membership, message, ERRAND_RETURN) != 0:
            _count_dropped(shard, membership, message)
            message_release(message)
            _release(shard, membership)
        else:
            shard.world.last_errand.origin = errand.origin
        return
    memset(&outcome, 0, sizeof(outcome))
    publication_of(message, &publication)
    publication.origin = errand.origin
    publication.group = errand.group
    membership_deliver(membership, &publication, &outcome)
    publication_end(&publication)
    message_release(message)
    atomic_store_u32(&membership.load, session.inflight.count + session.inbox.length)
    atomic_store_u32(&membership.taken, atomic_load_u32(&membership.taken) + 1)
    _release(shard, membership)


cdef void _return(Shard *shard, const Errand *errand) noexcept nogil:
    """Another member of the group gets the message, if there is one left."""
    cdef Membership *membership = errand.membership
    cdef Message *message = errand.message
    cdef Tenant *tenant = tenant_acquire_shared(shard, membership.tenant)
    cdef ParsedFilter parsed
    cdef uint32_t filter_id
    cdef SharedGroup *group = NULL
    cdef Publication publication
    cdef Outcome outcome
    if tenant != NULL:
        membership_parsed(membership, &parsed)
        filter_id = tree_find(tenant.shared.tree, parsed.topic_filter.data, parsed.topic_filter.size)
        if filter_id != NO_FILTER:
            group = group_find(tenant, filter_id, &parsed)
        if group != NULL:
            memset(&outcome, 0, sizeof(outcome))
            publication_of(message, &publication)
            publication.origin = errand.origin
            group_deliver(group, &publication, &outcome)
            publication_end(&publication)
        else:
            tenant.counters.messages_dropped += 1
        tenant_release(shard, tenant)
    message_release(message)
    _release(shard, membership)


cdef void errands_take(Shard *shard, Mail *mail) noexcept nogil:
    cdef Errand *errand = <Errand *> mail.data
    # The references of the errand are passed on.
    mail.message = NULL
    if errand.kind == ERRAND_JOIN:
        _join(shard, errand.membership)
    elif errand.kind == ERRAND_LEAVE:
        _leave(shard, errand.membership)
    elif errand.kind == ERRAND_GIVE:
        _give(shard, errand)
    else:
        _return(shard, errand)


cdef void errand_discard(Shard *shard, Mail *mail) noexcept nogil:
    _release(shard, (<Errand *> mail.data).membership)


cdef void errands_clear(Shard *shard) noexcept nogil:
    cdef Errand *errand
    while shard.world.first_errand != NULL:
        errand = shard.world.first_errand
        shard.world.first_errand = errand.next
        message_release(errand.message)
        _release(shard, errand.membership)
        free(errand)
    shard.world.last_errand = NULL
