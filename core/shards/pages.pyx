"""See pages.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from rookery.core.permissions.rule_set cimport ACTION_PUBLISH, ACTION_SUBSCRIBE
from rookery.core.permissions.rule_tree cimport NO_RULE
from rookery.core.sessions.inbox cimport Delivery, inbox_at
from rookery.core.sessions.inflight cimport InflightSlot
from rookery.core.sessions.message cimport NEVER, Message, message_payload, message_topic
from rookery.core.sessions.retain cimport Retained
from rookery.core.sessions.rights cimport session_decide
from rookery.core.sessions.routes cimport route_at, routes_of
from rookery.core.sessions.session cimport session_find
from rookery.core.sessions.state cimport (
    IS_SHARED, Counters, RouteList, Session, Subscription, Tenant,
)
from rookery.core.sessions.subscriptions cimport subscription_find, subscription_parsed
from rookery.core.shards.ownership cimport session_key_hash
from rookery.core.shards.queues cimport command_string, event_new, event_put
from rookery.core.shards.state cimport (
    COMMAND_LIST_INBOX, COMMAND_LIST_INFLIGHT, COMMAND_LIST_MATCHES, COMMAND_LIST_RETAINED, COMMAND_LIST_SESSIONS,
    COMMAND_LIST_SUBSCRIPTIONS, COMMAND_TELL_TENANTS, EVENT_PAGE, Command, Connection, Event, Shard,
)
from rookery.core.shards.tenants cimport tenant_find
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.pointer_map cimport pointer_map_each, pointer_map_scan
from rookery.core.structures.rows cimport Rows, rows_free, rows_put_number, rows_put_string
from rookery.core.topics.names cimport SHARE_NONE, ParsedFilter
from rookery.core.topics.retained cimport (
    RetainedWalk, retained_count, retained_walk_free, retained_walk_new, retained_walk_next, retained_walk_place,
    retained_walk_resume,
)
from rookery.core.topics.tree cimport NO_FILTER, FilterIds, tree_filter_text, tree_match

cdef enum:
    _AT_HOME = 256              # sessions with one home place in their map, which is keyed at random: there are few
    _RETAINED_BATCH = 64

cdef struct SessionPlace:       # where a list of sessions goes on
    uint64_t serial             # of the first session to be told of those with this home place
    uint32_t cursor             # of the walk over the map
    uint32_t capacity           # of the map, for its growth moves sessions from one home place to another
    uint32_t subscription       # the first to be told of that session
    uint32_t unused

cdef struct Page:
    Rows rows
    uint32_t limit              # rows at most
    const Session *asked        # whose rights are told, too; NULL = nobody's


cdef inline bint _is_full(const Page *page) noexcept nogil:
    return page.rows.count >= page.limit or page.rows.size >= PAGE_BYTES or page.rows.has_failed


cdef void _put_verdicts(const Session *session, Bytes topic, uint64_t *numbers) noexcept nogil:
    """What the session's rules say about the topic, into the numbers of an EVENT_PAGE."""
    cdef uint32_t place
    numbers[PAGE_HAS_RULES] = session.rules != NULL
    numbers[PAGE_MAY_PUBLISH] = session_decide(session, ACTION_PUBLISH, topic, &place)
    numbers[PAGE_PUBLISH_RULE] = 0 if place == NO_RULE else 1 + <uint64_t> place
    numbers[PAGE_MAY_SUBSCRIBE] = session_decide(session, ACTION_SUBSCRIBE, topic, &place)
    numbers[PAGE_SUBSCRIBE_RULE] = 0 if place == NO_RULE else 1 + <uint64_t> place
    numbers[PAGE_RULES] = <uint64_t> <size_t> session.rules


cdef void _answer(
    Shard *shard, const Command *command, Page *page, uint64_t following, bint is_found, Bytes place
) noexcept nogil:
    cdef Bytes strings[2]
    cdef Event *event
    strings[0].data = page.rows.data
    strings[0].size = page.rows.size
    strings[1] = place
    # Without memory for the answer the asker runs into its deadline.
    event = NULL if page.rows.has_failed else event_new(EVENT_PAGE, command.request, strings, 2)
    if event != NULL:
        event.numbers[PAGE_KIND] = command.kind
        event.numbers[PAGE_ROW_COUNT] = page.rows.count
        event.numbers[PAGE_NEXT] = following
        event.numbers[PAGE_IS_FOUND] = is_found
        if page.asked != NULL:
            _put_verdicts(page.asked, command_string(command, PAGE_TOPIC), event.numbers)
        event_put(shard, event)
    rows_free(&page.rows)


# Tenants

cdef inline uint32_t _counter_count() noexcept nogil:
    return sizeof(Counters) // sizeof(uint64_t)  # Every field is one.


cdef void _put_figures(Page *page, uint64_t sessions, uint64_t retained, const Counters *counters) noexcept nogil:
    cdef uint32_t place
    rows_put_number(&page.rows, sessions)
    rows_put_number(&page.rows, retained)
    for place in range(_counter_count()):
        rows_put_number(&page.rows, (<const uint64_t *> counters)[place])
    page.rows.count += 1


cdef uint64_t _retained_of(const Tenant *tenant) noexcept nogil:
    return 0 if tenant.retained == NULL else retained_count(tenant.retained)


cdef void _tell_all(Shard *shard, Page *page) noexcept nogil:
    cdef Counters sums
    cdef uint32_t cursor = 0
    cdef uint32_t place
    cdef uint64_t retained = 0
    cdef const Tenant *tenant = <const Tenant *> pointer_map_each(&shard.tenants, &cursor)
    sums = shard.departed.total
    while tenant != NULL:
        retained += _retained_of(tenant)
        for place in range(_counter_count()):
            (<uint64_t *> &sums)[place] += (<const uint64_t *> &tenant.counters)[place]
        tenant = <const Tenant *> pointer_map_each(&shard.tenants, &cursor)
    _put_figures(page, shard.world.session_count, retained, &sums)


cdef void _tell_tenants(Shard *shard, const Command *command, Page *page) noexcept nogil:
    cdef Bytes ids = command_string(command, PAGE_TENANT_ID)
    cdef const uint8_t *end = ids.data + ids.size
    cdef Bytes tenant_id
    cdef uint32_t size
    cdef const Tenant *tenant
    cdef Counters nothing
    memset(&nothing, 0, sizeof(nothing))
    _tell_all(shard, page)
    while ids.data + sizeof(size) <= end:
        memcpy(&size, ids.data, sizeof(size))
        tenant_id.data = ids.data + sizeof(size)
        tenant_id.size = size
        ids.data += sizeof(size) + size
        tenant = tenant_find(shard, tenant_id)
        if tenant == NULL:
            _put_figures(page, 0, 0, &nothing)
        else:
            _put_figures(page, tenant.sessions.count, _retained_of(tenant), &tenant.counters)


# Sessions and their subscriptions

cdef void _put_session(Shard *shard, Page *page, const Session *session) noexcept nogil:
    cdef uint64_t wall_offset_ms = shard.universe.wall_offset_ms
    cdef const Connection *connection = <const Connection *> session.link
    cdef const Message *will = session.will.message
    rows_put_number(&page.rows, session.version)
    rows_put_number(&page.rows, session.link != NULL)
    rows_put_number(&page.rows, session.is_persistent)
    rows_put_number(&page.rows, session.serial)
    rows_put_number(&page.rows, session.subscription_count)
    rows_put_number(&page.rows, session.inbox.qos0_count)
    rows_put_number(&page.rows, session.inbox.qos12_count)
    rows_put_number(&page.rows, session.inflight.count)
    rows_put_number(&page.rows, session.session_expiry_interval)
    rows_put_number(&page.rows, session.keep_alive)
    rows_put_number(&page.rows, 0 if session.created_at_ms == 0 else session.created_at_ms + wall_offset_ms)
    rows_put_number(&page.rows, session.connected_at_ms + wall_offset_ms)
    rows_put_number(&page.rows, 0 if session.link != NULL else session.detached_at_ms + wall_offset_ms)
    rows_put_number(&page.rows, session.dropped_messages)
    rows_put_number(&page.rows, session.last_drop_reason)
    rows_put_number(
        &page.rows, 0 if session.last_drop_reason == 0 else session.last_dropped_at_ms + wall_offset_ms)
    rows_put_number(&page.rows, session.inbox.kept_bytes + session.inflight.kept_bytes)
    rows_put_number(&page.rows, will != NULL)
    rows_put_number(&page.rows, 0 if will == NULL else will.qos)
    rows_put_number(&page.rows, 0 if will == NULL else will.retain)
    rows_put_number(&page.rows, session.will.delay_interval)
    rows_put_string(&page.rows, session.key, session.user_id_size)
    rows_put_string(&page.rows, session.key + session.user_id_size, session.client_id_size)
    if connection == NULL:
        rows_put_string(&page.rows, NULL, 0)
    else:
        rows_put_string(&page.rows, connection.peer, connection.peer_size)
    rows_put_string(&page.rows, session.attributes, session.attributes_size)
    if will == NULL:
        rows_put_string(&page.rows, NULL, 0)
    else:
        rows_put_string(&page.rows, message_topic(will), will.topic_size)
    page.rows.count += 1


cdef void _put_subscription(Page *page, const Session *session, uint32_t place) noexcept nogil:
    cdef uint8_t buffer[65535]
    cdef ParsedFilter parsed
    cdef const Subscription *subscription = &session.subscriptions[place]
    subscription_parsed(session, place, buffer, sizeof(buffer), &parsed)
    rows_put_number(&page.rows, subscription.qos)
    rows_put_number(&page.rows, subscription.flags)
    rows_put_number(&page.rows, subscription.retain_handling)
    rows_put_number(&page.rows, subscription.subscription_id)
    rows_put_number(&page.rows, parsed.share_kind)
    rows_put_string(&page.rows, session.key, session.user_id_size)
    rows_put_string(&page.rows, session.key + session.user_id_size, session.client_id_size)
    rows_put_string(&page.rows, parsed.share_name.data, parsed.share_name.size)
    rows_put_string(&page.rows, parsed.topic_filter.data, parsed.topic_filter.size)
    page.rows.count += 1


cdef uint32_t _put_subscriptions(Page *page, const Session *session, uint32_t place) noexcept nogil:
    """Those from place on, until the page is full; the place to go on from, 0 when there is none."""
    while place < session.subscription_places:
        if session.subscriptions[place].filter_id != NO_FILTER:
            if _is_full(page):
                return place
            _put_subscription(page, session, place)
        place += 1
    return 0


cdef Session *_session_of(Shard *shard, Tenant *tenant, const Command *command) noexcept nogil:
    cdef Bytes user_id = command_string(command, PAGE_USER_ID)
    cdef Bytes client_id = command_string(command, PAGE_CLIENT_ID)
    return session_find(
        tenant, session_key_hash(shard, user_id, client_id), user_id.data, <uint16_t> user_id.size,
        client_id.data, <uint16_t> client_id.size)


cdef bint _is_wanted(const Session *session, const Command *command, Bytes user_id) noexcept nogil:
    if command.flag & PAGE_ONLINE_ONLY and session.link == NULL:
        return False
    return user_id.size == 0 or (
        session.user_id_size == user_id.size and memcmp(session.key, user_id.data, user_id.size) == 0)


cdef const Session *_next_at_home(void **found, uint32_t count, uint64_t serial) noexcept nogil:
    """The one with the lowest serial of at least this; NULL when there is none."""
    cdef const Session *lowest = NULL
    cdef const Session *session
    cdef uint32_t index
    for index in range(count):
        session = <const Session *> found[index]
        if session.serial >= serial and (lowest == NULL or session.serial < lowest.serial):
            lowest = session
    return lowest


cdef bint _put_home(
    Shard *shard, Page *page, const Command *command, void **found, uint32_t count, SessionPlace *place
) noexcept nogil:
    """What is told of the sessions with one home place. False when the page is full; place says where it goes on."""
    cdef Bytes user_id = command_string(command, PAGE_USER_ID)
    cdef const Session *session = _next_at_home(found, count, place.serial)
    while session != NULL:
        place.serial = session.serial
        if _is_wanted(session, command, user_id):
            if _is_full(page):
                return False
            if command.kind == COMMAND_LIST_SESSIONS:
                _put_session(shard, page, session)
            else:
                place.subscription = _put_subscriptions(page, session, place.subscription)
                if place.subscription != 0:
                    return False
        place.serial += 1
        place.subscription = 0
        session = _next_at_home(found, count, place.serial)
    place.serial = 0
    return True


cdef bint _list_sessions(
    Shard *shard, Tenant *tenant, const Command *command, Page *page, SessionPlace *place
) noexcept nogil:
    """False when it is over; else place says where the next page begins."""
    cdef void *found[_AT_HOME]
    cdef Bytes after = command_string(command, PAGE_AFTER)
    cdef uint32_t following, count
    cdef uint32_t looked_at = 0
    memset(place, 0, sizeof(SessionPlace))
    if after.size == sizeof(SessionPlace):
        memcpy(place, after.data, sizeof(SessionPlace))
    if place.capacity != tenant.sessions.capacity:
        # Other sessions have come to this home place: it is told from its beginning.
        place.serial = 0
        place.subscription = 0
    place.capacity = tenant.sessions.capacity
    while looked_at < PAGE_LOOKED_AT:
        following = place.cursor
        count = min(pointer_map_scan(&tenant.sessions, &following, found, _AT_HOME), <uint32_t> _AT_HOME)
        looked_at += 1 + count
        if not _put_home(shard, page, command, found, count, place):
            return True
        place.cursor = following
        if following == 0:
            return False
    return True


# Messages

cdef void _put_message(Shard *shard, Page *page, const Message *message, uint64_t payload_limit) noexcept nogil:
    rows_put_number(&page.rows, message.qos)
    rows_put_number(&page.rows, message.retain)
    rows_put_number(
        &page.rows, 0 if message.expires_at_ms == NEVER else message.expires_at_ms + shard.universe.wall_offset_ms)
    rows_put_number(&page.rows, message.payload_size)
    rows_put_string(&page.rows, message_topic(message), message.topic_size)
    rows_put_string(&page.rows, message_payload(message), min(<uint64_t> message.payload_size, payload_limit))
    page.rows.count += 1


cdef Bytes _list_retained(
    Shard *shard, Tenant *tenant, const Command *command, Page *page, uint8_t *buffer, Py_ssize_t capacity
) noexcept nogil:
    """Where the next page goes on."""
    cdef void *batch[_RETAINED_BATCH]
    cdef Bytes topic_filter = command_string(command, PAGE_TOPIC)
    cdef Bytes after = command_string(command, PAGE_AFTER)
    cdef RetainedWalk *walk = NULL
    cdef Bytes place
    cdef bint is_done = False
    cdef uint32_t looked_at = 0
    cdef uint32_t count, index
    cdef const Retained *retained
    place.data = NULL
    place.size = 0
    if tenant.retained == NULL:
        return place
    walk = retained_walk_new(tenant.retained, topic_filter.data, topic_filter.size)
    if walk == NULL:
        page.rows.has_failed = True
        return place
    if after.size > 0:
        retained_walk_resume(walk, after.data, after.size)
    while not is_done and not _is_full(page) and looked_at < PAGE_LOOKED_AT:
        count = retained_walk_next(
            walk, batch, min(page.limit - page.rows.count, <uint32_t> _RETAINED_BATCH), _RETAINED_BATCH, &is_done)
        looked_at += _RETAINED_BATCH
        for index in range(count):
            retained = <const Retained *> batch[index]
            rows_put_number(&page.rows, retained.stored_at_ms + shard.universe.wall_offset_ms)
            _put_message(shard, page, retained.message, <uint64_t> command.descriptor)
    if not is_done:
        place.data = buffer
        place.size = min(retained_walk_place(walk, buffer, capacity), capacity)
    retained_walk_free(walk)
    return place


cdef uint64_t _list_inbox(Shard *shard, Session *session, const Command *command, Page *page) noexcept nogil:
    cdef uint32_t place = <uint32_t> command.number
    cdef const Delivery *delivery
    while place < session.inbox.length:
        delivery = inbox_at(&session.inbox, place)
        if delivery != NULL:
            if _is_full(page):
                return place
            rows_put_number(&page.rows, delivery.qos)
            _put_message(shard, page, delivery.message, <uint64_t> command.descriptor)
        place += 1
    return 0


cdef void _list_inflight(Shard *shard, Session *session, const Command *command, Page *page) noexcept nogil:
    cdef uint16_t packet_id = session.inflight.oldest
    cdef const InflightSlot *slot
    while packet_id != 0 and not _is_full(page):
        slot = &session.inflight.slots[packet_id - 1]
        rows_put_number(&page.rows, packet_id)
        rows_put_number(&page.rows, slot.state)
        rows_put_number(&page.rows, slot.sent_for != 0)
        rows_put_number(&page.rows, slot.resend_count)
        if slot.message == NULL:
            rows_put_string(&page.rows, NULL, 0)
        else:
            rows_put_string(&page.rows, message_topic(slot.message), slot.message.topic_size)
        page.rows.count += 1
        packet_id = slot.next


# Explaining

cdef uint32_t _members(const RouteList *routes, uint32_t *group_count) noexcept nogil:
    """Sessions that are routed to by themselves; beside them shared groups."""
    cdef uint32_t index
    cdef uint32_t count = 0
    for index in range(routes.count):
        if route_at(<RouteList *> routes, index).flags & IS_SHARED:
            group_count[0] += 1
        else:
            count += 1
    return count


cdef void _list_matches(Shard *shard, Tenant *tenant, const Command *command, Page *page) noexcept nogil:
    cdef uint8_t buffer[65535]
    cdef Bytes topic = command_string(command, PAGE_TOPIC)
    cdef FilterIds found
    cdef ParsedFilter parsed
    cdef const RouteList *routes
    cdef const Subscription *subscription
    cdef Session *session = NULL
    cdef uint32_t index, group_count
    memset(&found, 0, sizeof(found))
    memset(&parsed, 0, sizeof(parsed))
    parsed.share_kind = SHARE_NONE
    if command.flag & PAGE_ONE_SESSION:
        session = _session_of(shard, tenant, command)
    if tree_match(tenant.shared.tree, topic.data, topic.size, &found) != 0:
        page.rows.has_failed = True
    for index in range(found.count):
        routes = routes_of(&tenant.routes, found.ids[index])
        if routes == NULL or routes.count == 0:
            continue
        if _is_full(page):
            break
        group_count = 0
        parsed.topic_filter.data = buffer
        parsed.topic_filter.size = tree_filter_text(tenant.shared.tree, found.ids[index], buffer, sizeof(buffer))
        subscription = NULL if session == NULL else subscription_find(session, &parsed)
        rows_put_number(&page.rows, _members(routes, &group_count))
        rows_put_number(&page.rows, group_count)
        rows_put_number(&page.rows, subscription != NULL)
        rows_put_number(&page.rows, 0 if subscription == NULL else subscription.qos)
        rows_put_string(&page.rows, buffer, parsed.topic_filter.size)
        page.rows.count += 1
    free(found.ids)


cdef void page_tell(Shard *shard, Command *command) noexcept nogil:
    cdef uint8_t buffer[65536]
    cdef Tenant *tenant = NULL
    cdef Session *session = NULL
    cdef uint64_t following = 0
    cdef bint is_found = True
    cdef SessionPlace session_place
    cdef Bytes place
    cdef Page page
    memset(&page, 0, sizeof(page))
    page.limit = min(command.listener_id, <uint32_t> PAGE_ROWS_MAXIMUM)
    place.data = NULL
    place.size = 0
    if command.kind == COMMAND_TELL_TENANTS:
        _tell_tenants(shard, command, &page)
        _answer(shard, command, &page, 0, True, place)
        return
    tenant = tenant_find(shard, command_string(command, PAGE_TENANT_ID))
    if tenant == NULL:
        _answer(shard, command, &page, 0, False, place)
        return
    if command.flag & PAGE_ONE_SESSION:
        session = _session_of(shard, tenant, command)
        is_found = session != NULL
    if command.kind == COMMAND_LIST_RETAINED:
        place = _list_retained(shard, tenant, command, &page, buffer, sizeof(buffer))
    elif command.kind == COMMAND_LIST_MATCHES:
        _list_matches(shard, tenant, command, &page)
        page.asked = _session_of(shard, tenant, command)
    elif not command.flag & PAGE_ONE_SESSION:
        if _list_sessions(shard, tenant, command, &page, &session_place):
            place.data = <const uint8_t *> &session_place
            place.size = sizeof(session_place)
    elif session == NULL:
        pass
    elif command.kind == COMMAND_LIST_SESSIONS:
        _put_session(shard, &page, session)
    elif command.kind == COMMAND_LIST_SUBSCRIPTIONS:
        following = _put_subscriptions(&page, session, <uint32_t> command.number)
    elif command.kind == COMMAND_LIST_INBOX:
        following = _list_inbox(shard, session, command, &page)
    elif command.kind == COMMAND_LIST_INFLIGHT:
        _list_inflight(shard, session, command, &page)
    _answer(shard, command, &page, following, is_found, place)
