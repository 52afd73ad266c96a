"""See groups.pxd."""

from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

from rookery.core.sessions.journal cimport journal_concerns, journal_concerns_no_more
from rookery.core.sessions.memberships cimport membership_parsed
from rookery.core.sessions.routes cimport route_add, route_remove, routes_make, routes_of
from rookery.core.sessions.state cimport (
    IS_REMOTE, IS_SHARED, Membership, Route, RouteList, Session, SharedGroup, Subscription, Tenant,
)
from rookery.core.structures.atomics cimport atomic_load_u32
from rookery.core.structures.hashing cimport HashKey, hash_bytes
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_first, pointer_map_next, pointer_map_remove,
)
from rookery.core.topics.names cimport SHARE_ORDERED, ParsedFilter
from rookery.core.topics.tree cimport NO_FILTER, tree_add, tree_filter_text, tree_remove


cdef inline uint8_t *_name(SharedGroup *group) noexcept nogil:
    return <uint8_t *> group + sizeof(SharedGroup)


cdef uint64_t _hash(Tenant *tenant, uint32_t filter_id, const ParsedFilter *parsed) noexcept nogil:
    cdef uint64_t hash = hash_bytes(tenant.world.key, parsed.share_name.data, parsed.share_name.size)
    return hash ^ (<uint64_t> filter_id * 0x9E3779B97F4A7C15ULL) ^ <uint64_t> (parsed.share_kind == SHARE_ORDERED)


cdef SharedGroup *group_find(Tenant *tenant, uint32_t filter_id, const ParsedFilter *parsed) noexcept nogil:
    cdef uint32_t cursor
    cdef uint64_t hash = _hash(tenant, filter_id, parsed)
    cdef SharedGroup *group = <SharedGroup *> pointer_map_first(&tenant.groups, hash, &cursor)
    while group != NULL:
        if (
            group.filter_id == filter_id
            and group.is_ordered == (parsed.share_kind == SHARE_ORDERED)
            and group.name_size == parsed.share_name.size
            and memcmp(_name(group), parsed.share_name.data, parsed.share_name.size) == 0
        ):
            return group
        group = <SharedGroup *> pointer_map_next(&tenant.groups, hash, &cursor)
    return NULL


cdef SharedGroup *_make(Tenant *tenant, uint32_t filter_id, const ParsedFilter *parsed) noexcept nogil:
    cdef RouteList *routes = routes_make(&tenant.routes, filter_id)
    cdef SharedGroup *group
    cdef Route route
    if routes == NULL:
        return NULL
    group = <SharedGroup *> calloc(1, sizeof(SharedGroup) + parsed.share_name.size)
    if group == NULL:
        return NULL
    group.tenant = tenant
    group.hash = _hash(tenant, filter_id, parsed)
    group.filter_id = filter_id
    group.is_ordered = parsed.share_kind == SHARE_ORDERED
    group.name_size = <uint32_t> parsed.share_name.size
    memcpy(_name(group), parsed.share_name.data, parsed.share_name.size)
    route.target = group
    route.subscription_index = 0
    route.qos = 2
    route.flags = IS_SHARED
    group.route_index = route_add(routes, &route)
    if group.route_index == UINT32_MAX:
        free(group)
        return NULL
    if pointer_map_add(&tenant.groups, group.hash, group) != 0:
        # Just added, so it is the last route and none moves.
        route_remove(routes, group.route_index)
        free(group)
        return NULL
    return group


cdef void _drop(SharedGroup *group) noexcept nogil:
    cdef Tenant *tenant = group.tenant
    cdef RouteList *routes = routes_of(&tenant.routes, group.filter_id)
    cdef Route *moved = route_remove(routes, group.route_index)
    if moved != NULL:
        if moved.flags & IS_SHARED:
            (<SharedGroup *> moved.target).route_index = group.route_index
        else:
            (<Session *> moved.target).subscriptions[moved.subscription_index].route_index = group.route_index
    if routes.count == 0:
        tree_remove(tenant.shared.tree, group.filter_id, tenant.world.shard)
    pointer_map_remove(&tenant.groups, group.hash, group)
    free(group.members)
    free(group)


cdef Route *_add_member(
    Tenant *tenant, uint32_t filter_id, const ParsedFilter *parsed, SharedGroup **joined
) noexcept nogil:
    """A place for a member more, in the group that is made if need be; NULL when memory is short."""
    cdef SharedGroup *group = group_find(tenant, filter_id, parsed)
    cdef Route *members
    cdef uint32_t capacity
    if group == NULL:
        group = _make(tenant, filter_id, parsed)
        if group == NULL:
            return NULL
    if group.member_count == group.member_capacity:
        capacity = group.member_capacity * 2 if group.member_capacity > 0 else 4
        members = <Route *> realloc(group.members, capacity * sizeof(Route))
        if members == NULL:
            if group.member_count == 0:
                _drop(group)
            return NULL
        group.members = members
        group.member_capacity = capacity
    group.member_count += 1
    joined[0] = group
    return &group.members[group.member_count - 1]


cdef int group_join(
    Tenant *tenant, uint32_t filter_id, const ParsedFilter *parsed, Session *session, uint32_t place
) noexcept nogil:
    cdef Subscription *subscription = &session.subscriptions[place]
    cdef SharedGroup *group
    cdef Route *member = _add_member(tenant, filter_id, parsed, &group)
    if member == NULL:
        return -1
    member.target = session
    member.subscription_index = place
    member.qos = subscription.qos
    member.flags = subscription.flags
    subscription.route_index = group.member_count - 1
    subscription.group = group
    return 0


cdef int group_join_remote(Tenant *tenant, Membership *membership) noexcept nogil:
    cdef ParsedFilter parsed
    cdef uint32_t filter_id
    cdef SharedGroup *group
    cdef Route *member
    membership_parsed(membership, &parsed)
    filter_id = tree_add(
        tenant.shared.tree, parsed.topic_filter.data, parsed.topic_filter.size, tenant.world.shard)
    if filter_id == NO_FILTER:
        return -1
    member = _add_member(tenant, filter_id, &parsed, &group)
    if member == NULL:
        return -1
    member.target = membership
    member.subscription_index = 0
    member.qos = 2
    member.flags = IS_REMOTE
    membership.group = group
    membership.member_index = group.member_count - 1
    journal_concerns(tenant)
    return 0


cdef void group_leave_remote(Membership *membership) noexcept nogil:
    cdef SharedGroup *group = membership.group
    journal_concerns_no_more(group.tenant)
    _fill_gap(group, membership.member_index)
    membership.group = NULL
    if group.member_count == 0:
        _drop(group)


cdef void _fill_gap(SharedGroup *group, uint32_t index) noexcept nogil:
    """The member at index has gone: the last one moves there."""
    cdef Route *moved
    group.member_count -= 1
    if index == group.member_count:
        return
    group.members[index] = group.members[group.member_count]
    moved = &group.members[index]
    if moved.flags & IS_REMOTE:
        (<Membership *> moved.target).member_index = index
    else:
        (<Session *> moved.target).subscriptions[moved.subscription_index].route_index = index


cdef void group_leave(Session *session, uint32_t place) noexcept nogil:
    cdef Subscription *subscription = &session.subscriptions[place]
    cdef SharedGroup *group = subscription.group
    cdef uint32_t index = subscription.route_index
    _fill_gap(group, index)
    subscription.group = NULL
    if group.member_count == 0:
        _drop(group)


cdef inline uint64_t _load(const Session *session) noexcept nogil:
    """What waits for a member: messages in flight and in the inbox, and unsent bytes counted as messages of 64."""
    cdef uint64_t load = session.inflight.count + session.inbox.length
    if session.link != NULL:
        load += session.link.outbox.size >> 6
    return load


cdef inline bint _is_online(const Route *member) noexcept nogil:
    if member.flags & IS_REMOTE:
        return atomic_load_u32(&(<Membership *> member.target).is_online) != 0
    return (<Session *> member.target).link != NULL


cdef inline uint64_t _member_load(const Route *member) noexcept nogil:
    cdef Membership *membership
    if member.flags & IS_REMOTE:
        membership = <Membership *> member.target
        return (
            <uint64_t> atomic_load_u32(&membership.load)
            + (membership.given - atomic_load_u32(&membership.taken))
        )
    return _load(<Session *> member.target)


cdef inline uint64_t _member_name(const Route *member) noexcept nogil:
    """What the ordered choice hashes: it must stay the same while the member stays."""
    if member.flags & IS_REMOTE:
        return <uint64_t> <size_t> member.target
    return (<Session *> member.target).serial


cdef Route *_pick_ordered(SharedGroup *group, uint64_t publisher) noexcept nogil:
    cdef uint64_t weight
    cdef uint64_t best_weight = 0
    cdef uint32_t index
    cdef Route *best = NULL
    for index in range(group.member_count):
        weight = (publisher ^ _member_name(&group.members[index])) * 0x9E3779B97F4A7C15ULL
        weight ^= weight >> 29
        weight *= 0xBF58476D1CE4E5B9ULL
        weight ^= weight >> 32
        if best == NULL or weight > best_weight:
            best = &group.members[index]
            best_weight = weight
    return best


cdef uint64_t group_identity(const SharedGroup *group) noexcept nogil:
    cdef uint8_t buffer[65535]
    cdef Py_ssize_t size = tree_filter_text(group.tenant.shared.tree, group.filter_id, buffer, sizeof(buffer))
    cdef HashKey key
    cdef uint64_t filter_hash, name_hash
    key.first = 1 + group.is_ordered
    key.second = 0
    filter_hash = hash_bytes(&key, buffer, size)
    name_hash = hash_bytes(&key, <const uint8_t *> group + sizeof(SharedGroup), group.name_size)
    return (filter_hash ^ (name_hash << 17 | name_hash >> 47)) | 1


cdef Route *group_pick(SharedGroup *group, uint64_t publisher) noexcept nogil:
    cdef uint32_t step, index
    cdef uint64_t load
    cdef uint64_t best_load = 0
    cdef Route *best = NULL
    cdef bint is_online
    cdef bint best_online = False
    if group.is_ordered:
        return _pick_ordered(group, publisher)
    if group.turn >= group.member_count:
        group.turn = 0  # Members behind it have left.
    for step in range(group.member_count):
        index = group.turn + step
        if index >= group.member_count:
            index -= group.member_count
        is_online = _is_online(&group.members[index])
        if best_online and not is_online:
            continue
        load = _member_load(&group.members[index])
        if best == NULL or load < best_load or (is_online and not best_online):
            best = &group.members[index]
            best_load = load
            best_online = is_online
            if best_online and load == 0:
                break
    if best != NULL:
        group.turn = <uint32_t> (best - group.members) + 1
        if group.turn >= group.member_count:
            group.turn = 0
    return best
