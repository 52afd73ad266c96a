"""See publishing.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from rookery.core.sessions.message cimport (
    Message, Publication, message_release, publication_end, publication_keep, publication_of,
)
from rookery.core.sessions.publish cimport Outcome, forget_recent_topic, tenant_publish
from rookery.core.sessions.retain cimport RETAIN_CLEARED, RETAIN_NO_MEMORY, RETAIN_STORED, tenant_retain
from rookery.core.sessions.state cimport Link, Tenant
from rookery.core.shards.holding cimport holding_tell
from rookery.core.shards.mailbox cimport mail_put
from rookery.core.shards.registry cimport home_shard
from rookery.core.shards.state cimport MAIL_PUBLISH, MAIL_RETAIN, Mail, Shard
from rookery.core.shards.tenants cimport tenant_acquire_shared, tenant_release


cdef void _mail_to(Shard *shard, uint64_t targets, Tenant *tenant, Publication *publication) noexcept nogil:
    cdef uint32_t target
    cdef Message *message
    for target in range(shard.universe.shard_count):
        if targets >> target & 1:
            message = publication_keep(publication)
            if message == NULL or mail_put(shard, target, MAIL_PUBLISH, tenant.shared, message, NULL) != 0:
                message_release(message)
                tenant.counters.messages_dropped += 1
            else:
                shard.out_mail[target].last.origin = publication.origin


cdef void shard_publish(Shard *shard, Tenant *tenant, Publication *publication, Outcome *outcome) noexcept nogil:
    tenant_publish(tenant, publication, outcome)
    if outcome.other_shards != 0:
        _mail_to(shard, outcome.other_shards, tenant, publication)
    if publication.retain:
        shard_retain(shard, tenant, publication)


cdef int shard_retain(Shard *shard, Tenant *tenant, Publication *publication) noexcept nogil:
    cdef uint32_t home = home_shard(tenant.shared, shard.universe.shard_count)
    cdef Message *message
    if home == shard.index:
        return tenant_retain(tenant, publication)
    message = publication_keep(publication)
    if message == NULL or mail_put(shard, home, MAIL_RETAIN, tenant.shared, message, NULL) != 0:
        message_release(message)
        return RETAIN_NO_MEMORY
    shard.out_mail[home].last.origin = publication.origin
    return RETAIN_CLEARED if publication.payload.size == 0 else RETAIN_STORED


cdef bint shard_publish_here(Shard *shard, Tenant *tenant, Message *message, Outcome *outcome) noexcept nogil:
    cdef Publication publication
    cdef bint is_retained = False
    cdef int result
    publication_of(message, &publication)
    tenant_publish(tenant, &publication, outcome)
    if publication.retain and home_shard(tenant.shared, shard.universe.shard_count) == shard.index:
        result = tenant_retain(tenant, &publication)
        is_retained = result == RETAIN_STORED or result == RETAIN_CLEARED
    forget_recent_topic(&shard.world)
    publication_end(&publication)
    return is_retained


cdef void publishing_take_mail(Shard *shard, Mail *mail) noexcept nogil:
    cdef Tenant *tenant = tenant_acquire_shared(shard, mail.tenant)
    cdef Publication publication
    cdef Outcome outcome
    if tenant == NULL:
        return
    memset(&outcome, 0, sizeof(outcome))
    publication_of(mail.message, &publication)
    publication.origin = mail.origin
    if mail.kind == MAIL_RETAIN:
        tenant_retain(tenant, &publication)
    else:
        # The shard that sent it told all others, too: what matches elsewhere is not ours to pass on.
        tenant_publish(tenant, &publication, &outcome)
        forget_recent_topic(&shard.world)
        if publication.congested != NULL:
            holding_tell(shard, tenant, <Link *> publication.congested)
    publication_end(&publication)
    tenant_release(shard, tenant)
