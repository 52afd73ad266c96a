"""See redelivery.pxd."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memset

from rookery.core.sessions.journal cimport journal_will_spread
from rookery.core.sessions.message cimport (
    Message, Publication, message_acquire, message_release, publication_end, publication_of,
)
from rookery.core.sessions.publish cimport Outcome, tenant_publish_again
from rookery.core.sessions.retain cimport tenant_retain
from rookery.core.sessions.state cimport Journal, Session, SharedTenant, Tenant
from rookery.core.shards.registry cimport home_shard
from rookery.core.shards.state cimport Shard, Universe
from rookery.core.shards.tenants cimport tenant_acquire_shared, tenant_release
from rookery.core.structures.packet_ids cimport packet_ids_has
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_each, pointer_map_first, pointer_map_free, pointer_map_next, pointer_map_remove,
)


cdef uint64_t number_hash(uint64_t number) noexcept nogil:
    number *= 0x9E3779B97F4A7C15ULL
    return number ^ number >> 32


cdef inline uint64_t _packet_hash(uint64_t serial, uint16_t packet_id) noexcept nogil:
    return number_hash(serial * 65537 + packet_id)


cdef Session *session_of_serial(const PointerMap *sessions, uint64_t serial) noexcept nogil:
    cdef uint32_t cursor
    cdef Session *session = <Session *> pointer_map_first(sessions, number_hash(serial), &cursor)
    while session != NULL and session.serial != serial:
        session = <Session *> pointer_map_next(sessions, number_hash(serial), &cursor)
    return session


# What the log says

cdef int _append(NumberList *list_, uint64_t number) noexcept nogil:
    cdef uint32_t capacity
    cdef uint64_t *numbers
    if list_.count == list_.capacity:
        capacity = list_.capacity * 2 if list_.capacity > 0 else 4
        numbers = <uint64_t *> realloc(list_.numbers, capacity * sizeof(uint64_t))
        if numbers == NULL:
            return -1
        list_.numbers = numbers
        list_.capacity = capacity
    list_.numbers[list_.count] = number
    list_.count += 1
    return 0


cdef Taken *_by_packet(const Redelivery *redelivery, uint64_t serial, uint16_t packet_id) noexcept nogil:
    cdef uint32_t cursor
    cdef uint64_t hash = _packet_hash(serial, packet_id)
    cdef Taken *taken = <Taken *> pointer_map_first(&redelivery.by_packet, hash, &cursor)
    while taken != NULL and (taken.serial != serial or taken.packet_id != packet_id):
        taken = <Taken *> pointer_map_next(&redelivery.by_packet, hash, &cursor)
    return taken


cdef Taken *_by_number(const Redelivery *redelivery, uint64_t number) noexcept nogil:
    cdef uint32_t cursor
    cdef Taken *taken = <Taken *> pointer_map_first(&redelivery.by_number, number_hash(number), &cursor)
    while taken != NULL and taken.number != number:
        taken = <Taken *> pointer_map_next(&redelivery.by_number, number_hash(number), &cursor)
    return taken


cdef void _free(Taken *taken) noexcept nogil:
    if taken.tenant != NULL:
        tenant_release(taken.shard, taken.tenant)
    message_release(taken.message)
    free(taken.sessions.numbers)
    free(taken.groups.numbers)
    free(taken)


cdef int redelivery_taken(
    Redelivery *redelivery, uint64_t serial, uint16_t packet_id, uint64_t number, Message *message
) noexcept nogil:
    cdef Taken *taken
    redelivery_released(redelivery, serial, packet_id)
    taken = <Taken *> calloc(1, sizeof(Taken))
    if taken == NULL:
        return -1
    taken.serial = serial
    taken.packet_id = packet_id
    taken.number = number
    if pointer_map_add(&redelivery.by_packet, _packet_hash(serial, packet_id), taken) != 0:
        free(taken)
        return -1
    if pointer_map_add(&redelivery.by_number, number_hash(number), taken) != 0:
        pointer_map_remove(&redelivery.by_packet, _packet_hash(serial, packet_id), taken)
        free(taken)
        return -1
    message_acquire(message)
    taken.message = message
    return 0


cdef void redelivery_released(Redelivery *redelivery, uint64_t serial, uint16_t packet_id) noexcept nogil:
    cdef Taken *taken = _by_packet(redelivery, serial, packet_id)
    if taken != NULL:
        pointer_map_remove(&redelivery.by_packet, _packet_hash(serial, packet_id), taken)
        pointer_map_remove(&redelivery.by_number, number_hash(taken.number), taken)
        _free(taken)


cdef int redelivery_will_sent(
    Redelivery *redelivery, Shard *shard, Tenant *tenant, uint64_t number, Message *message
) noexcept nogil:
    cdef Taken *taken
    if redelivery_taken(redelivery, number, 0, number, message) != 0:
        tenant_release(shard, tenant)
        return -1
    taken = _by_number(redelivery, number)
    taken.tenant = tenant
    taken.shard = shard
    return 0


cdef void redelivery_will_spread(Redelivery *redelivery, uint64_t number) noexcept nogil:
    redelivery_released(redelivery, number, 0)


cdef int redelivery_arrived(Redelivery *redelivery, uint64_t number, uint64_t serial, uint64_t group) noexcept nogil:
    cdef Taken *taken = _by_number(redelivery, number)
    if taken == NULL:
        return 0
    if group != 0:
        return _append(&taken.groups, group)
    return _append(&taken.sessions, serial)


cdef void redelivery_retained(Redelivery *redelivery, uint64_t number) noexcept nogil:
    cdef Taken *taken = _by_number(redelivery, number)
    if taken != NULL:
        taken.is_retained = True


# Handing out

cdef int _hand_out(
    const Taken *taken, Shard *shard, SharedTenant *shared, const PointerMap *sessions
) noexcept nogil:
    """On one shard. -1 when memory is short."""
    cdef Tenant *tenant = tenant_acquire_shared(shard, shared)
    cdef Session **served
    cdef uint32_t served_count = 0
    cdef uint32_t index
    cdef Publication publication
    cdef Outcome outcome
    if tenant == NULL:
        return -1
    served = <Session **> malloc((taken.sessions.count + 1) * sizeof(Session *))
    if served == NULL:
        tenant_release(shard, tenant)
        return -1
    for index in range(taken.sessions.count):
        served[served_count] = session_of_serial(sessions, taken.sessions.numbers[index])
        if served[served_count] != NULL and served[served_count].tenant == tenant:
            served_count += 1
    memset(&outcome, 0, sizeof(outcome))
    publication_of(taken.message, &publication)
    publication.origin = taken.number
    tenant_publish_again(
        tenant, &publication, served, served_count, taken.groups.numbers, taken.groups.count, &outcome)
    if publication.retain and not taken.is_retained and (
        home_shard(tenant.shared, shard.universe.shard_count) == shard.index
    ):
        tenant_retain(tenant, &publication)
    publication_end(&publication)
    free(served)
    tenant_release(shard, tenant)
    return 0


cdef int _compare(const void *left, const void *right) noexcept nogil:
    cdef uint64_t first = (<Taken **> left)[0].number
    cdef uint64_t second = (<Taken **> right)[0].number
    return 0 if first == second else (-1 if first < second else 1)


cdef SharedTenant *_tenant_of(const Taken *taken, const PointerMap *sessions) noexcept nogil:
    """NULL when nobody is to get it any more: its publisher has released it, or has gone."""
    cdef const Session *publisher
    if taken.tenant != NULL:
        return taken.tenant.shared
    publisher = session_of_serial(sessions, taken.serial)
    if publisher != NULL and packet_ids_has(&publisher.received, taken.packet_id):
        return publisher.tenant.shared
    return NULL


cdef int redelivery_run(Redelivery *redelivery, Universe *universe, const PointerMap *sessions) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef uint32_t count = 0
    cdef uint32_t place, index
    cdef SharedTenant *shared
    cdef int result = 0
    # What one publisher has sent is numbered in its order.
    cdef Taken **ordered = <Taken **> malloc((redelivery.by_packet.count + 1) * sizeof(Taken *))
    cdef Taken *taken = <Taken *> pointer_map_each(&redelivery.by_packet, &cursor)
    if ordered == NULL:
        return -1
    while taken != NULL:
        ordered[count] = taken
        count += 1
        taken = <Taken *> pointer_map_each(&redelivery.by_packet, &cursor)
    qsort(ordered, count, sizeof(Taken *), _compare)
    for place in range(count):
        shared = _tenant_of(ordered[place], sessions)
        if shared != NULL:
            for index in range(universe.shard_count):
                result |= _hand_out(ordered[place], universe.shards[index], shared, sessions)
    free(ordered)
    return result


cdef void redelivery_end(const Redelivery *redelivery, Journal *journal) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef const Taken *taken = <const Taken *> pointer_map_each(&redelivery.by_packet, &cursor)
    while taken != NULL:
        if taken.tenant != NULL:
            journal_will_spread(journal, taken.number)
        taken = <const Taken *> pointer_map_each(&redelivery.by_packet, &cursor)


cdef void redelivery_clear(Redelivery *redelivery) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef Taken *taken = <Taken *> pointer_map_each(&redelivery.by_packet, &cursor)
    while taken != NULL:
        _free(taken)
        taken = <Taken *> pointer_map_each(&redelivery.by_packet, &cursor)
    pointer_map_free(&redelivery.by_packet)
    pointer_map_free(&redelivery.by_number)
