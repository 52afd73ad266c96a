"""See publish.pxd.

Most topics match one filter on this shard: its routes are walked and each is delivered to at once. Where several
filters match, the routes are first folded into targets, one per session: a stamp in the session says whether this
publication has met it before, and where its target stands. Both ways cost O(routes) and allocate nothing when warm.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport malloc, free, realloc

from rookery.core.sessions.drops cimport DROP_FANOUT_LIMITED, DROP_NO_MEMORY, count_drop
from rookery.core.sessions.fanout cimport fanout_allows, fanout_begin
from rookery.core.sessions.groups cimport group_identity, group_pick
from rookery.core.sessions.memberships cimport errand_put, membership_acquire, membership_drop
from rookery.core.sessions.message cimport Message, Publication, message_release, publication_keep
from rookery.core.sessions.notices cimport NOTICE_GROUP_FANOUT_LIMITED
from rookery.core.sessions.routes cimport route_at, routes_of
from rookery.core.sessions.session cimport DELIVERY_DROPPED, DELIVERY_QUEUED, DeliveryResult, session_deliver
from rookery.core.sessions.state cimport (
    ERRAND_GIVE, HAS_SUBSCRIPTION_ID, IS_REMOTE, IS_SHARED, NO_LOCAL, RETAIN_AS_PUBLISHED, Membership, Route,
    RouteList, Session, SharedGroup, Subscription, Target, TargetId, Tenant, World,
)
from rookery.core.sessions.witness cimport is_noticed, notice_tenant
from rookery.core.structures.atomics cimport atomic_load_u64, prefetch
from rookery.core.topics.cache cimport FORESEEN_TOPICS, MatchEntry, cache_foresee, cache_match
from rookery.core.topics.tree cimport NO_FILTER, tree_shard_mask

cdef enum:
    _IDS_ON_STACK = 16


cdef inline void _count(Outcome *outcome, DeliveryResult result) noexcept nogil:
    outcome.matched += 1
    if result == DELIVERY_QUEUED:
        outcome.queued += 1
    elif result == DELIVERY_DROPPED:
        outcome.dropped += 1


cdef inline void _deliver_route(Publication *publication, const Route *route, Outcome *outcome) noexcept nogil:
    cdef Session *session = <Session *> route.target
    cdef uint32_t subscription_id
    cdef uint32_t id_count = 0
    if route.flags:
        if route.flags & NO_LOCAL and publication.publisher == session.serial:
            return  # [MQTT-3.8.3-3]
        if route.flags & HAS_SUBSCRIPTION_ID:
            subscription_id = session.subscriptions[route.subscription_index].subscription_id
            id_count = 1
    if outcome.is_limited and not fanout_allows(session, publication, outcome):
        return
    _count(outcome, session_deliver(
        session, publication,
        route.qos if route.qos < publication.qos else publication.qos,
        publication.retain if route.flags & RETAIN_AS_PUBLISHED else 0,
        &subscription_id, id_count,
    ))


cdef void _give_remote(World *world, Publication *publication, Membership *membership, Outcome *outcome) noexcept nogil:
    """A group's member on another shard gets the message by mail."""
    cdef Message *message = publication_keep(publication)
    outcome.matched += 1
    if message != NULL:
        membership_acquire(membership)
        if errand_put(world, membership, message, ERRAND_GIVE) == 0:
            world.last_errand.origin = publication.origin
            world.last_errand.group = publication.group
            membership.given += 1
            outcome.given_to |= <uint64_t> 1 << membership.shard
            outcome.queued += 1
            return
        # Not the last reference: the group holds one.
        membership_drop(membership)
        message_release(message)
    outcome.dropped += 1
    count_drop(world, DROP_NO_MEMORY)


cdef void group_deliver(SharedGroup *group, Publication *publication, Outcome *outcome) noexcept nogil:
    cdef const Route *member
    if outcome.groups == group.tenant.settings.max_group_fanout:
        outcome.matched += 1
        outcome.dropped += 1
        group.tenant.counters.messages_dropped += 1
        count_drop(group.tenant.world, DROP_FANOUT_LIMITED)
        if is_noticed(group.tenant.world, NOTICE_GROUP_FANOUT_LIMITED):
            notice_tenant(group.tenant, NOTICE_GROUP_FANOUT_LIMITED, publication.topic, outcome.groups, 0, 0, 0)
        return
    outcome.groups += 1
    member = group_pick(group, publication.publisher)
    if member == NULL:
        return
    if publication.origin != 0:
        publication.group = group_identity(group)
    if member.flags & IS_REMOTE:
        _give_remote(group.tenant.world, publication, <Membership *> member.target, outcome)
    else:
        publication.shared_place = member.subscription_index + 1
        _deliver_route(publication, member, outcome)
        publication.shared_place = 0
    publication.group = 0


cdef void membership_deliver(Membership *membership, Publication *publication, Outcome *outcome) noexcept nogil:
    cdef Session *session = membership.session
    cdef Subscription *subscription = &session.subscriptions[membership.place]
    fanout_begin(session.tenant, outcome)
    if outcome.is_limited and not fanout_allows(session, publication, outcome):
        return
    publication.shared_place = membership.place + 1
    _count(outcome, session_deliver(
        session, publication,
        subscription.qos if subscription.qos < publication.qos else publication.qos,
        publication.retain if subscription.flags & RETAIN_AS_PUBLISHED else 0,
        &subscription.subscription_id, subscription.subscription_id != 0,
    ))


cdef void _deliver_list(Publication *publication, RouteList *routes, Outcome *outcome) noexcept nogil:
    cdef uint32_t index
    cdef const Route *route
    publication.is_fanout = routes.count > 1
    for index in range(routes.count):
        route = route_at(routes, index)
        if route.flags & IS_SHARED:
            group_deliver(<SharedGroup *> route.target, publication, outcome)
        else:
            _deliver_route(publication, route, outcome)


# Several filters

cdef Target *_target_of(World *world, Session *session) noexcept nogil:
    cdef uint32_t capacity
    cdef Target *targets
    if session.match_stamp == world.publication_stamp:
        return &world.targets[session.match_index]
    if world.target_count == world.target_capacity:
        capacity = world.target_capacity * 2 if world.target_capacity > 0 else 64
        targets = <Target *> realloc(world.targets, capacity * sizeof(Target))
        if targets == NULL:
            return NULL
        world.targets = targets
        world.target_capacity = capacity
    targets = &world.targets[world.target_count]
    targets.session = session
    targets.qos = 0
    targets.retain_as_published = 0
    targets.id_first = 0
    targets.id_count = 0
    session.match_stamp = world.publication_stamp
    session.match_index = world.target_count
    world.target_count += 1
    return targets


cdef void _chain_id(World *world, Target *target, uint32_t subscription_id) noexcept nogil:
    cdef uint32_t capacity
    cdef TargetId *ids
    if world.target_id_count == world.target_id_capacity:
        capacity = world.target_id_capacity * 2 if world.target_id_capacity > 0 else 64
        ids = <TargetId *> realloc(world.target_ids, capacity * sizeof(TargetId))
        if ids == NULL:
            return
        world.target_ids = ids
        world.target_id_capacity = capacity
    world.target_ids[world.target_id_count].subscription_id = subscription_id
    world.target_ids[world.target_id_count].next = target.id_first
    world.target_id_count += 1
    target.id_first = world.target_id_count
    target.id_count += 1


cdef bint _has_got_it(const SharedGroup *group, const uint64_t *groups, uint32_t group_count) noexcept nogil:
    cdef uint64_t identity
    cdef uint32_t index
    if group_count == 0:
        return False
    identity = group_identity(group)
    for index in range(group_count):
        if groups[index] == identity:
            return True
    return False


cdef void _fold_list(
    World *world, Publication *publication, RouteList *routes, const uint64_t *groups, uint32_t group_count,
    Outcome *outcome
) noexcept nogil:
    """Without the groups that are named."""
    cdef uint32_t index
    cdef const Route *route
    cdef Session *session
    cdef Target *target
    for index in range(routes.count):
        route = route_at(routes, index)
        if route.flags & IS_SHARED:
            # A shared subscription is a delivery of its own, beside the session's other ones.
            if not _has_got_it(<SharedGroup *> route.target, groups, group_count):
                group_deliver(<SharedGroup *> route.target, publication, outcome)
            continue
        session = <Session *> route.target
        if route.flags & NO_LOCAL and publication.publisher == session.serial:
            continue
        target = _target_of(world, session)
        if target == NULL:
            outcome.matched += 1
            outcome.dropped += 1
            count_drop(world, DROP_NO_MEMORY)
            continue
        if route.qos > target.qos:
            target.qos = route.qos
        if route.flags & RETAIN_AS_PUBLISHED:
            target.retain_as_published = 1
        if route.flags & HAS_SUBSCRIPTION_ID:
            _chain_id(world, target, session.subscriptions[route.subscription_index].subscription_id)


cdef void _deliver_target(World *world, Publication *publication, Target *target, Outcome *outcome) noexcept nogil:
    cdef uint32_t on_stack[_IDS_ON_STACK]
    cdef uint32_t *ids = on_stack
    cdef uint32_t count = target.id_count
    cdef uint32_t link = target.id_first
    cdef uint32_t index
    if outcome.is_limited and not fanout_allows(target.session, publication, outcome):
        return
    if count > _IDS_ON_STACK:
        ids = <uint32_t *> malloc(count * sizeof(uint32_t))
        if ids == NULL:
            ids = on_stack
            count = _IDS_ON_STACK
    for index in range(count):
        ids[index] = world.target_ids[link - 1].subscription_id
        link = world.target_ids[link - 1].next
    _count(outcome, session_deliver(
        target.session, publication,
        target.qos if target.qos < publication.qos else publication.qos,
        publication.retain if target.retain_as_published else 0,
        ids, count,
    ))
    if ids != on_stack:
        free(ids)


cdef void tenant_publish(Tenant *tenant, Publication *publication, Outcome *outcome) noexcept nogil:
    cdef World *world = tenant.world
    cdef const MatchEntry *entry
    cdef RouteList *routes
    cdef RouteList *only = NULL
    cdef uint32_t index
    cdef uint32_t list_count = 0
    if is_recent_topic(world, tenant, &publication.topic):
        if world.recent_routes != NULL:
            fanout_begin(tenant, outcome)
            outcome.other_shards = world.recent_shards
            _deliver_list(publication, world.recent_routes, outcome)
            return
        entry = world.recent_entry
    else:
        entry = cache_match(
            world.cache, tenant.shared.tree, publication.topic.data, publication.topic.size)
        world.recent_topic = publication.topic
        world.recent_tenant = tenant
        world.recent_entry = entry
        world.recent_routes = NULL
        world.recent_publisher = 0
    if entry == NULL or entry.count == 0:
        return
    fanout_begin(tenant, outcome)
    for index in range(entry.count):
        routes = routes_of(&tenant.routes, entry.ids[index])
        if routes != NULL and routes.count > 0:
            only = routes
            list_count += 1
        if world.shard_count > 1:
            outcome.other_shards |= tree_shard_mask(tenant.shared.tree, entry.ids[index])
    outcome.other_shards &= ~(<uint64_t> 1 << world.shard)
    if list_count == 1:
        world.recent_routes = only
        world.recent_shards = outcome.other_shards
        _deliver_list(publication, only, outcome)
        return
    if list_count == 0:
        return
    world.publication_stamp += 1
    world.target_count = 0
    world.target_id_count = 0
    publication.is_fanout = True
    for index in range(entry.count):
        routes = routes_of(&tenant.routes, entry.ids[index])
        if routes != NULL and routes.count > 0:
            _fold_list(world, publication, routes, NULL, 0, outcome)
    for index in range(world.target_count):
        _deliver_target(world, publication, &world.targets[index], outcome)


cdef void tenant_foresee(Tenant *tenant, const Bytes *topics, uint32_t count) noexcept nogil:
    cdef uint32_t first_ids[FORESEEN_TOPICS]
    cdef uint32_t number
    cdef RouteList *routes
    if count > FORESEEN_TOPICS:
        count = FORESEEN_TOPICS
    cache_foresee(tenant.world.cache, tenant.shared.tree, topics, count, first_ids)
    for number in range(count):
        if first_ids[number] != NO_FILTER:
            routes = routes_of(&tenant.routes, first_ids[number])
            if routes != NULL:
                prefetch(routes)


# Asking beforehand

cdef bint _is_member_kept(const Route *member, uint64_t durable_shards) noexcept nogil:
    if member.flags & IS_REMOTE:
        return durable_shards >> (<Membership *> member.target).shard & 1
    return member.qos > 0 and (<Session *> member.target).is_written


cdef bint _is_route_kept(const Route *route, uint64_t durable_shards) noexcept nogil:
    cdef SharedGroup *group
    cdef uint32_t index
    if not route.flags & IS_SHARED:
        return route.qos > 0 and (<Session *> route.target).is_written
    group = <SharedGroup *> route.target
    for index in range(group.member_count):
        if _is_member_kept(&group.members[index], durable_shards):
            return True
    return False


cdef bint is_kept(Tenant *tenant, const Bytes *topic) noexcept nogil:
    cdef World *world = tenant.world
    cdef const MatchEntry *entry = cache_match(world.cache, tenant.shared.tree, topic.data, topic.size)
    cdef uint64_t durable_shards = atomic_load_u64(&tenant.shared.durable_shards)
    cdef uint64_t others = durable_shards & ~(<uint64_t> 1 << world.shard)
    cdef RouteList *routes
    cdef uint32_t index, place
    # The cache may have made room for it at the cost of the topic that was matched last.
    forget_recent_topic(world)
    if entry == NULL:
        return False
    for index in range(entry.count):
        if others != 0 and tree_shard_mask(tenant.shared.tree, entry.ids[index]) & others:
            return True
        routes = routes_of(&tenant.routes, entry.ids[index])
        if routes == NULL:
            continue
        for place in range(routes.count):
            if _is_route_kept(route_at(routes, place), durable_shards):
                return True
    return False


cdef void tenant_publish_again(
    Tenant *tenant, Publication *publication, Session **served, uint32_t served_count, const uint64_t *groups,
    uint32_t group_count, Outcome *outcome
) noexcept nogil:
    cdef World *world = tenant.world
    cdef const MatchEntry *entry = cache_match(
        world.cache, tenant.shared.tree, publication.topic.data, publication.topic.size)
    cdef RouteList *routes
    cdef uint32_t index
    if entry == NULL:
        return
    world.publication_stamp += 1
    world.target_count = 0
    world.target_id_count = 0
    publication.is_fanout = True
    # Those that have got it are folded first, so that all others stand behind them.
    for index in range(served_count):
        if _target_of(world, served[index]) == NULL:
            return
    served_count = world.target_count
    for index in range(entry.count):
        routes = routes_of(&tenant.routes, entry.ids[index])
        if routes != NULL and routes.count > 0:
            _fold_list(world, publication, routes, groups, group_count, outcome)
    for index in range(served_count, world.target_count):
        _deliver_target(world, publication, &world.targets[index], outcome)
