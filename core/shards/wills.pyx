"""See wills.pxd."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rookery.core.sessions.journal cimport (
    journal_begin_group, journal_end_group, journal_message, journal_will, journal_will_sent, journal_will_spread,
)
from rookery.core.sessions.message cimport Publication, message_release, publication_end, publication_of
from rookery.core.sessions.publish cimport Outcome, forget_recent_topic
from rookery.core.sessions.state cimport Session, Tenant
from rookery.core.shards.commits cimport commitment_is_met
from rookery.core.shards.publishing cimport shard_publish
from rookery.core.shards.registry cimport home_shard
from rookery.core.shards.state cimport SentWill, Shard
from rookery.core.structures.atomics cimport atomic_load_u64


cdef void will_drop(Session *session) noexcept nogil:
    message_release(session.will.message)
    session.will.is_armed = 0
    if session.will.message != NULL:
        session.will.message = NULL
        if session.is_written:
            journal_will(session)


cdef inline bint _is_retained_elsewhere(Shard *shard, Tenant *tenant, const Publication *publication) noexcept nogil:
    return publication.retain and home_shard(tenant.shared, shard.universe.shard_count) != shard.index


cdef bint _may_cross(Shard *shard, Tenant *tenant, const Publication *publication) noexcept nogil:
    """May it have to become durable on another shard?"""
    if _is_retained_elsewhere(shard, tenant, publication):
        return True
    return publication.qos > 0 and (
        atomic_load_u64(&tenant.shared.durable_shards) & ~(<uint64_t> 1 << shard.index)) != 0


cdef void _await_others(Shard *shard, uint64_t number, uint64_t crossing) noexcept nogil:
    cdef SentWill *sent
    if crossing == 0:
        journal_will_spread(&shard.journal, number)
        return
    sent = <SentWill *> calloc(1, sizeof(SentWill))
    if sent == NULL:
        return  # A start will look who has not got it, and find nobody.
    sent.number = number
    sent.due.shards = crossing
    sent.due.handover = shard.handovers + 1
    sent.next = shard.sent_wills
    shard.sent_wills = sent


cdef void _publish(Shard *shard, Tenant *tenant, Publication *publication, Outcome *outcome) noexcept nogil:
    shard_publish(shard, tenant, publication, outcome)
    forget_recent_topic(&shard.world)


cdef void _publish_durably(Shard *shard, Tenant *tenant, Publication *publication) noexcept nogil:
    cdef Outcome outcome
    cdef uint64_t crossing
    memset(&outcome, 0, sizeof(outcome))
    if not _may_cross(shard, tenant, publication):
        _publish(shard, tenant, publication, &outcome)
        return
    publication.journal_number = journal_message(&shard.journal, publication)
    publication.origin = publication.journal_number
    journal_will_sent(tenant, publication.origin)
    _publish(shard, tenant, publication, &outcome)
    crossing = outcome.given_to | outcome.other_shards & atomic_load_u64(&tenant.shared.durable_shards)
    if _is_retained_elsewhere(shard, tenant, publication):
        crossing |= <uint64_t> 1 << home_shard(tenant.shared, shard.universe.shard_count)
    _await_others(shard, publication.origin, crossing)


cdef void will_publish(Shard *shard, Session *session) noexcept nogil:
    cdef Publication publication
    cdef Outcome outcome
    publication_of(session.will.message, &publication)
    if session.is_written:
        journal_begin_group(&shard.journal)
        _publish_durably(shard, session.tenant, &publication)
        publication_end(&publication)
        will_drop(session)
        journal_end_group(&shard.journal)
        return
    memset(&outcome, 0, sizeof(outcome))
    _publish(shard, session.tenant, &publication, &outcome)
    publication_end(&publication)
    will_drop(session)


cdef void wills_step(Shard *shard) noexcept nogil:
    cdef SentWill **place = &shard.sent_wills
    cdef SentWill *sent
    while place[0] != NULL:
        sent = place[0]
        if not commitment_is_met(shard, &sent.due):
            place = &sent.next
            continue
        place[0] = sent.next
        journal_will_spread(&shard.journal, sent.number)
        free(sent)


cdef void wills_clear(Shard *shard) noexcept nogil:
    cdef SentWill *sent
    while shard.sent_wills != NULL:
        sent = shard.sent_wills
        shard.sent_wills = sent.next
        free(sent)
