"""See subscriptions.pxd."""

from libc.stdint cimport UINT32_MAX, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from rookery.core.sessions.census cimport CENSUS_ENTERED, CENSUS_FULL, CensusAnswer, census_enter, census_leave
from rookery.core.sessions.groups cimport group_find, group_join, group_leave
from rookery.core.sessions.inbox cimport Delivery, inbox_at
from rookery.core.sessions.inflight cimport InflightSlot
from rookery.core.sessions.journal cimport journal_subscribed, journal_unsubscribed
from rookery.core.sessions.memberships cimport (
    group_home, membership_index_id, membership_is_for, membership_join, membership_leave, membership_parsed,
)
from rookery.core.sessions.routes cimport route_add, route_at, route_remove, routes_make, routes_of
from rookery.core.sessions.state cimport (
    HAS_SUBSCRIPTION_ID, IS_SHARED, Route, RouteList, Session, SharedGroup, Subscription, Tenant, World,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.id_map cimport id_map_free, id_map_get, id_map_remove, id_map_set
from rookery.core.topics.names cimport SHARE_NONE, SHARE_ORDERED, SHARE_UNORDERED, ParsedFilter
from rookery.core.topics.tree cimport (
    NO_FILTER, tree_add, tree_filter_text, tree_find, tree_remove, tree_shard_mask,
)

cdef enum:
    _INDEXED_SUBSCRIPTIONS = 16  # up to here a scan of the array beats a hash map
    _NONE = 0xFFFFFFFF


cdef inline bint _is_same(
    const Subscription *subscription, uint32_t filter_id, const SharedGroup *group, const ParsedFilter *parsed
) noexcept nogil:
    if subscription.filter_id != filter_id or subscription.group != group:
        return False
    # Two memberships may have the same index id.
    return subscription.membership == NULL or membership_is_for(subscription.membership, parsed)


cdef uint32_t _place_of(
    Session *session, uint32_t filter_id, const SharedGroup *group, const ParsedFilter *parsed
) noexcept nogil:
    """The place of the subscription, or _NONE."""
    cdef uint32_t place
    cdef Subscription *subscription
    if session.subscription_index.count > 0:
        place = id_map_get(&session.subscription_index, filter_id, _NONE)
        while place != _NONE:
            subscription = &session.subscriptions[place]
            if _is_same(subscription, filter_id, group, parsed):
                return place
            place = subscription.next_same - 1  # 0 becomes _NONE.
        return _NONE
    for place in range(session.subscription_places):
        subscription = &session.subscriptions[place]
        if _is_same(subscription, filter_id, group, parsed):
            return place
    return _NONE


cdef int _index(Session *session, uint32_t place) noexcept nogil:
    cdef Subscription *subscription = &session.subscriptions[place]
    cdef uint32_t first = id_map_get(&session.subscription_index, subscription.filter_id, _NONE)
    subscription.next_same = first + 1  # _NONE becomes 0.
    return id_map_set(&session.subscription_index, subscription.filter_id, place)


cdef void _unindex(Session *session, uint32_t place) noexcept nogil:
    cdef Subscription *subscription = &session.subscriptions[place]
    cdef uint32_t other = id_map_get(&session.subscription_index, subscription.filter_id, _NONE)
    if other == place:
        if subscription.next_same == 0:
            id_map_remove(&session.subscription_index, subscription.filter_id)
        else:
            # The key is there, so that setting it again needs no memory.
            id_map_set(&session.subscription_index, subscription.filter_id, subscription.next_same - 1)
        return
    while session.subscriptions[other].next_same != place + 1:
        other = session.subscriptions[other].next_same - 1
    session.subscriptions[other].next_same = subscription.next_same


cdef uint32_t _take_place(Session *session) noexcept nogil:
    """A free place in the array, or _NONE when memory is short."""
    cdef uint32_t place, capacity
    cdef Subscription *subscriptions
    if session.subscription_free != 0:
        place = session.subscription_free - 1
        session.subscription_free = session.subscriptions[place].route_index
        return place
    if session.subscription_places == session.subscription_capacity:
        capacity = session.subscription_capacity * 2 if session.subscription_capacity > 0 else 2
        subscriptions = <Subscription *> realloc(session.subscriptions, capacity * sizeof(Subscription))
        if subscriptions == NULL:
            return _NONE
        session.subscriptions = subscriptions
        session.subscription_capacity = capacity
    session.subscription_places += 1
    return session.subscription_places - 1


cdef void _give_place(Session *session, uint32_t place) noexcept nogil:
    memset(&session.subscriptions[place], 0, sizeof(Subscription))
    session.subscriptions[place].route_index = session.subscription_free
    session.subscription_free = place + 1


cdef int _build_index(Session *session) noexcept nogil:
    cdef uint32_t place
    for place in range(session.subscription_places):
        if session.subscriptions[place].filter_id != NO_FILTER and _index(session, place) != 0:
            id_map_free(&session.subscription_index)
            return -1
    return 0


cdef int _add_route(Tenant *tenant, uint32_t filter_id, Session *session, uint32_t place) noexcept nogil:
    cdef Subscription *subscription = &session.subscriptions[place]
    cdef RouteList *routes = routes_make(&tenant.routes, filter_id)
    cdef Route route
    if routes == NULL:
        return -1
    route.target = session
    route.subscription_index = place
    route.qos = subscription.qos
    route.flags = subscription.flags
    subscription.route_index = route_add(routes, &route)
    return 0 if subscription.route_index != UINT32_MAX else -1


cdef void _remove_route(Tenant *tenant, Subscription *subscription) noexcept nogil:
    cdef RouteList *routes = routes_of(&tenant.routes, subscription.filter_id)
    cdef Route *moved = route_remove(routes, subscription.route_index)
    if moved != NULL:
        if moved.flags & IS_SHARED:
            (<SharedGroup *> moved.target).route_index = subscription.route_index
        else:
            (<Session *> moved.target).subscriptions[moved.subscription_index].route_index = subscription.route_index
    if routes.count == 0:
        tree_remove(tenant.shared.tree, subscription.filter_id, tenant.world.shard)


cdef int _replace(
    Session *session, uint32_t place, uint8_t qos, uint8_t flags, uint8_t retain_handling, uint32_t subscription_id
) noexcept nogil:
    cdef Subscription *subscription = &session.subscriptions[place]
    cdef Route *route
    subscription.qos = qos
    subscription.flags = flags
    subscription.retain_handling = retain_handling
    subscription.subscription_id = subscription_id
    if subscription.membership != NULL:
        return SUBSCRIBED_REPLACED  # The home shard knows nothing of the options.
    if subscription.group != NULL:
        route = &subscription.group.members[subscription.route_index]
    else:
        route = route_at(routes_of(&session.tenant.routes, subscription.filter_id), subscription.route_index)
    route.qos = qos
    route.flags = flags
    return SUBSCRIBED_REPLACED


cdef int session_subscribe(
    Session *session, const ParsedFilter *parsed, uint8_t qos, uint8_t flags, uint8_t retain_handling,
    uint32_t subscription_id
) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef World *world = tenant.world
    cdef uint32_t filter_id, index_id, place
    cdef uint32_t target = world.shard
    cdef SharedGroup *group = NULL
    cdef CensusAnswer answer
    cdef int result
    if subscription_id != 0:
        flags |= HAS_SUBSCRIPTION_ID
    if parsed.share_kind != SHARE_NONE:
        target = group_home(world, tenant.shared, parsed)
    filter_id = tree_find(tenant.shared.tree, parsed.topic_filter.data, parsed.topic_filter.size)
    index_id = filter_id if target == world.shard else membership_index_id(world, parsed)
    if index_id != NO_FILTER:
        if parsed.share_kind != SHARE_NONE and target == world.shard:
            group = group_find(tenant, filter_id, parsed)
        if parsed.share_kind == SHARE_NONE or group != NULL or target != world.shard:
            place = _place_of(session, index_id, group, parsed)
            if place != _NONE:
                if session.is_written:
                    journal_subscribed(session, parsed, qos, flags, retain_handling, subscription_id)
                return _replace(session, place, qos, flags, retain_handling, subscription_id)
    if session.subscription_count >= tenant.settings.max_topic_filters_per_inbox:
        return SUBSCRIBE_TOO_MANY
    if group != NULL and group.member_count >= tenant.settings.max_shared_group_members:
        return SUBSCRIBE_GROUP_FULL
    if parsed.share_kind == SHARE_NONE:
        return _subscribe_anew(session, parsed, qos, flags, retain_handling, subscription_id, target, index_id)
    answer = census_enter(world, tenant.shared, parsed, tenant.settings.max_shared_group_members)
    if answer != CENSUS_ENTERED:
        return SUBSCRIBE_GROUP_FULL if answer == CENSUS_FULL else SUBSCRIBE_NO_MEMORY
    result = _subscribe_anew(session, parsed, qos, flags, retain_handling, subscription_id, target, index_id)
    if result != SUBSCRIBED_NEW:
        census_leave(world, tenant.shared, parsed)
    return result


cdef int _subscribe_anew(
    Session *session, const ParsedFilter *parsed, uint8_t qos, uint8_t flags, uint8_t retain_handling,
    uint32_t subscription_id, uint32_t target, uint32_t index_id
) noexcept nogil:
    """A subscription that the session has not, to a group on the shard target; it has been counted in the census."""
    cdef Tenant *tenant = session.tenant
    cdef World *world = tenant.world
    cdef uint32_t filter_id, place
    cdef RouteList *routes
    cdef Subscription *subscription
    cdef int result
    if session.subscription_count == _INDEXED_SUBSCRIPTIONS and session.subscription_index.count == 0:
        if _build_index(session) != 0:
            return SUBSCRIBE_NO_MEMORY
    # For a group on another shard this announces its wish at once: whoever publishes after the SUBACK must find it.
    filter_id = tree_add(tenant.shared.tree, parsed.topic_filter.data, parsed.topic_filter.size, target)
    if filter_id == NO_FILTER:
        return SUBSCRIBE_NO_MEMORY
    session.has_shared |= parsed.share_kind != SHARE_NONE
    place = _take_place(session)
    if place != _NONE:
        subscription = &session.subscriptions[place]
        memset(subscription, 0, sizeof(Subscription))
        subscription.filter_id = filter_id if target == world.shard else index_id
        subscription.qos = qos
        subscription.flags = flags
        subscription.retain_handling = retain_handling
        subscription.subscription_id = subscription_id
        if target != world.shard:
            subscription.membership = membership_join(session, parsed, target, place)
            result = 0 if subscription.membership != NULL else -1
        elif parsed.share_kind != SHARE_NONE:
            result = group_join(tenant, filter_id, parsed, session, place)
        else:
            result = _add_route(tenant, filter_id, session, place)
        if result == 0:
            if session.subscription_index.count == 0 or _index(session, place) == 0:
                session.subscription_count += 1
                session.shared_subscription_count += parsed.share_kind != SHARE_NONE
                tenant.subscription_count += 1
                world.subscription_count += 1
                if session.is_written:
                    journal_subscribed(session, parsed, qos, flags, retain_handling, subscription_id)
                return SUBSCRIBED_NEW
            # Without an index entry nobody would find it again.
            _part(session, place)
        _give_place(session, place)
    if target != world.shard:
        return SUBSCRIBE_NO_MEMORY  # The wish of the home shard stays until its group is drained: it does no harm.
    # Taking a route away again may have dropped the filter already; its number rests until the end of the turn.
    routes = routes_of(&tenant.routes, filter_id)
    if tree_shard_mask(tenant.shared.tree, filter_id) >> world.shard & 1 and (routes == NULL or routes.count == 0):
        tree_remove(tenant.shared.tree, filter_id, world.shard)
    return SUBSCRIBE_NO_MEMORY


cdef void _part(Session *session, uint32_t place) noexcept nogil:
    """Nothing is routed to this subscription any more."""
    cdef Subscription *subscription = &session.subscriptions[place]
    if subscription.membership != NULL:
        membership_leave(session.tenant.world, subscription.membership)
    elif subscription.group != NULL:
        group_leave(session, place)
    else:
        _remove_route(session.tenant, subscription)


cdef void _leave_census(Session *session, uint32_t place) noexcept nogil:
    cdef uint8_t buffer[65535]
    cdef ParsedFilter parsed
    if session.tenant.world.census != NULL:
        subscription_parsed(session, place, buffer, sizeof(buffer), &parsed)
        census_leave(session.tenant.world, session.tenant.shared, &parsed)


cdef void _leave(Session *session, uint32_t place) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef const Subscription *subscription = &session.subscriptions[place]
    if subscription.group != NULL or subscription.membership != NULL:
        session.shared_subscription_count -= 1
        _leave_census(session, place)
    if session.subscription_index.count > 0:
        _unindex(session, place)
    _part(session, place)
    _give_place(session, place)
    session.subscription_count -= 1
    tenant.subscription_count -= 1
    tenant.world.subscription_count -= 1


cdef void _wipe(Session *session, uint32_t place) noexcept nogil:
    """What came by this shared subscription stays with the session: its place may soon be another subscription's."""
    cdef const Subscription *subscription = &session.subscriptions[place]
    cdef uint16_t packet_id = session.inflight.oldest
    cdef InflightSlot *slot
    cdef Delivery *delivery
    cdef uint32_t position
    if subscription.group == NULL and subscription.membership == NULL:
        return
    while packet_id != 0:
        slot = &session.inflight.slots[packet_id - 1]
        if slot.shared_place == place + 1:
            slot.shared_place = 0
        packet_id = slot.next
    for position in range(session.inbox.length):
        delivery = inbox_at(&session.inbox, position)
        if delivery != NULL and delivery.shared_place == place + 1:
            delivery.shared_place = 0


cdef Subscription *subscription_find(Session *session, const ParsedFilter *parsed) noexcept nogil:
    cdef World *world = session.tenant.world
    cdef SharedGroup *group = NULL
    cdef uint32_t place
    cdef uint32_t filter_id = tree_find(
        session.tenant.shared.tree, parsed.topic_filter.data, parsed.topic_filter.size)
    if filter_id == NO_FILTER:
        return NULL
    if parsed.share_kind != SHARE_NONE:
        if group_home(world, session.tenant.shared, parsed) != world.shard:
            filter_id = membership_index_id(world, parsed)
        else:
            group = group_find(session.tenant, filter_id, parsed)
            if group == NULL:
                return NULL
    place = _place_of(session, filter_id, group, parsed)
    return NULL if place == _NONE else &session.subscriptions[place]


cdef Bytes subscription_filter(
    const Session *session, uint32_t place, uint8_t *buffer, Py_ssize_t capacity
) noexcept nogil:
    cdef const Subscription *subscription = &session.subscriptions[place]
    cdef ParsedFilter parsed
    cdef Bytes topic_filter
    if subscription.membership != NULL:
        membership_parsed(subscription.membership, &parsed)
        return parsed.topic_filter
    topic_filter.data = buffer
    topic_filter.size = tree_filter_text(
        session.tenant.shared.tree, subscription.filter_id, buffer, capacity)
    return topic_filter


cdef void subscription_parsed(
    const Session *session, uint32_t place, uint8_t *buffer, Py_ssize_t capacity, ParsedFilter *parsed
) noexcept nogil:
    cdef const Subscription *subscription = &session.subscriptions[place]
    if subscription.membership != NULL:
        membership_parsed(subscription.membership, parsed)
        return
    memset(parsed, 0, sizeof(ParsedFilter))
    parsed.topic_filter = subscription_filter(session, place, buffer, capacity)
    parsed.share_kind = SHARE_NONE
    if subscription.group != NULL:
        parsed.share_kind = SHARE_ORDERED if subscription.group.is_ordered else SHARE_UNORDERED
        parsed.share_name.data = <const uint8_t *> subscription.group + sizeof(SharedGroup)
        parsed.share_name.size = subscription.group.name_size


cdef void subscription_end(Session *session, uint32_t place) noexcept nogil:
    cdef uint8_t buffer[65535]
    cdef ParsedFilter parsed
    if session.is_written:
        subscription_parsed(session, place, buffer, sizeof(buffer), &parsed)
        journal_unsubscribed(session, &parsed)
    _wipe(session, place)
    _leave(session, place)


cdef void subscription_lower_qos(Session *session, uint32_t place, uint8_t qos) noexcept nogil:
    cdef const Subscription *subscription = &session.subscriptions[place]
    _replace(
        session, place, qos, subscription.flags, subscription.retain_handling, subscription.subscription_id)


cdef bint session_unsubscribe(Session *session, const ParsedFilter *parsed) noexcept nogil:
    cdef Subscription *subscription = subscription_find(session, parsed)
    if subscription == NULL:
        return False
    if session.is_written:
        journal_unsubscribed(session, parsed)
    _wipe(session, <uint32_t> (subscription - session.subscriptions))
    _leave(session, <uint32_t> (subscription - session.subscriptions))
    return True


cdef void session_unsubscribe_all(Session *session) noexcept nogil:
    cdef uint32_t place
    id_map_free(&session.subscription_index)
    for place in range(session.subscription_places):
        if session.subscriptions[place].filter_id != NO_FILTER:
            _leave(session, place)
    free(session.subscriptions)
    session.subscriptions = NULL
    session.subscription_places = 0
    session.subscription_capacity = 0
    session.subscription_free = 0
