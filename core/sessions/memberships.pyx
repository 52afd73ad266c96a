"""See memberships.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from rookery.core.sessions.message cimport Message
from rookery.core.sessions.state cimport (
    ERRAND_JOIN, ERRAND_LEAVE, Errand, Membership, Session, SharedTenant, World,
)
from rookery.core.structures.atomics cimport atomic_load_u32, atomic_replace_u32, atomic_store_u32
from rookery.core.structures.hashing cimport hash_bytes
from rookery.core.topics.names cimport SHARE_ORDERED, SHARE_UNORDERED, ParsedFilter

cdef enum:
    _INDEX_BIT = 0x80000000  # filter ids stay below
    _INDEX_MASK = 0x7FFFFFFF


cdef inline const uint8_t *_text(const Membership *membership) noexcept nogil:
    return <const uint8_t *> membership + sizeof(Membership)


cdef uint64_t group_hash(const World *world, const ParsedFilter *parsed) noexcept nogil:
    cdef uint64_t name = hash_bytes(world.key, parsed.share_name.data, parsed.share_name.size)
    return (name << 17 | name >> 47) ^ hash_bytes(world.key, parsed.topic_filter.data, parsed.topic_filter.size)


cdef uint32_t group_home(const World *world, const SharedTenant *tenant, const ParsedFilter *parsed) noexcept nogil:
    return <uint32_t> (((tenant.hash ^ group_hash(world, parsed)) >> 32) % world.shard_count)


cdef uint32_t membership_index_id(const World *world, const ParsedFilter *parsed) noexcept nogil:
    # All ones is no key of the index.
    cdef uint32_t number = <uint32_t> group_hash(world, parsed) & _INDEX_MASK
    return _INDEX_BIT | (number if number != _INDEX_MASK else 0)


cdef bint membership_is_for(const Membership *membership, const ParsedFilter *parsed) noexcept nogil:
    return (
        membership.is_ordered == (parsed.share_kind == SHARE_ORDERED)
        and membership.name_size == parsed.share_name.size
        and membership.filter_size == parsed.topic_filter.size
        and memcmp(_text(membership), parsed.share_name.data, membership.name_size) == 0
        and memcmp(_text(membership) + membership.name_size, parsed.topic_filter.data, membership.filter_size) == 0
    )


cdef void membership_parsed(const Membership *membership, ParsedFilter *parsed) noexcept nogil:
    parsed.share_kind = SHARE_ORDERED if membership.is_ordered else SHARE_UNORDERED
    parsed.share_name.data = _text(membership)
    parsed.share_name.size = membership.name_size
    parsed.topic_filter.data = _text(membership) + membership.name_size
    parsed.topic_filter.size = membership.filter_size
    parsed.has_wildcard = False


cdef Membership *membership_join(
    Session *session, const ParsedFilter *parsed, uint32_t home, uint32_t place
) noexcept nogil:
    cdef World *world = session.tenant.world
    cdef SharedTenant *tenant = session.tenant.shared
    cdef uint32_t references
    cdef Membership *membership = <Membership *> calloc(
        1, sizeof(Membership) + parsed.share_name.size + parsed.topic_filter.size)
    if membership == NULL:
        return NULL
    membership.references = 2  # The session's and the errand's.
    membership.shard = world.shard
    membership.home = home
    membership.place = place
    membership.session = session
    membership.tenant = tenant
    membership.is_online = session.link != NULL
    membership.is_ordered = parsed.share_kind == SHARE_ORDERED
    membership.name_size = <uint32_t> parsed.share_name.size
    membership.filter_size = <uint32_t> parsed.topic_filter.size
    memcpy(<uint8_t *> _text(membership), parsed.share_name.data, parsed.share_name.size)
    memcpy(
        <uint8_t *> _text(membership) + membership.name_size, parsed.topic_filter.data, parsed.topic_filter.size)
    if errand_put(world, membership, NULL, ERRAND_JOIN) != 0:
        free(membership)
        return NULL
    # The session's tenant holds a reference, so the count does not leave zero here.
    references = atomic_load_u32(&tenant.references)
    while not atomic_replace_u32(&tenant.references, references, references + 1):
        references = atomic_load_u32(&tenant.references)
    session.membership_count += 1
    return membership


cdef void membership_leave(World *world, Membership *membership) noexcept nogil:
    membership.session.membership_count -= 1
    membership.session = NULL
    atomic_store_u32(&membership.is_online, 0)
    # Without memory for the errand the member stays in its group, and what it is given is returned.
    errand_put(world, membership, NULL, ERRAND_LEAVE)


cdef void membership_acquire(Membership *membership) noexcept nogil:
    cdef uint32_t references = atomic_load_u32(&membership.references)
    while not atomic_replace_u32(&membership.references, references, references + 1):
        references = atomic_load_u32(&membership.references)


cdef bint membership_drop(Membership *membership) noexcept nogil:
    cdef uint32_t references = atomic_load_u32(&membership.references)
    while not atomic_replace_u32(&membership.references, references, references - 1):
        references = atomic_load_u32(&membership.references)
    return references == 1


cdef void memberships_tell(Session *session) noexcept nogil:
    cdef uint32_t place
    cdef Membership *membership
    if session.membership_count == 0:
        return
    for place in range(session.subscription_places):
        membership = session.subscriptions[place].membership
        if membership != NULL:
            atomic_store_u32(&membership.is_online, session.link != NULL)


cdef int errand_put(World *world, Membership *membership, Message *message, int kind) noexcept nogil:
    cdef Errand *errand = <Errand *> calloc(1, sizeof(Errand))
    if errand == NULL:
        return -1
    errand.membership = membership
    errand.message = message
    errand.kind = <uint8_t> kind
    if world.last_errand == NULL:
        world.first_errand = errand
    else:
        world.last_errand.next = errand
    world.last_errand = errand
    return 0
