"""See commands.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rookery.core.sessions.drops cimport DROP_OVERFLOW_OLDEST, DROP_REASON_COUNT
from rookery.core.sessions.notices cimport NOTICE_KIND_COUNT
from rookery.core.sessions.outbox cimport SEGMENT_CAPACITY
from rookery.core.sessions.publish cimport Outcome
from rookery.core.sessions.message cimport Publication, publication_end, publication_of
from rookery.core.sessions.quota cimport has_quota, quota_make, quota_set_limits, session_measure
from rookery.core.sessions.retain cimport RETAIN_NO_MEMORY, tenant_retain
from rookery.core.sessions.session cimport session_find
from rookery.core.sessions.state cimport RESOURCE_COUNT, Counters, Quota, Session, Tenant
from rookery.core.shards.admission cimport admission_admit, admission_refuse
from rookery.core.shards.answers cimport answer_begin, answer_put
from rookery.core.shards.authentication cimport authentication_challenge, authentication_confirm
from rookery.core.shards.connections cimport connection_by_handle, connection_drop, connection_new
from rookery.core.shards.lifecycle cimport connection_close, connection_close_with, connection_refuse
from rookery.core.shards.listeners cimport adopt, listener_add, listeners_clear
from rookery.core.shards.ownership cimport session_key_hash
from rookery.core.shards.pages cimport page_tell
from rookery.core.shards.permissions cimport permissions_replace, permissions_set
from rookery.core.shards.publishing cimport shard_publish_here
from rookery.core.shards.queues cimport (
    command_free, command_string, command_take_all, event_new, event_put,
)
from rookery.core.shards.state cimport (
    ATTACHED, AUTH_DUE, COMMAND_ADMIT, COMMAND_ADOPT, COMMAND_CHALLENGE, COMMAND_CONFIGURE, COMMAND_CONFIRM,
    COMMAND_DISCONNECT, COMMAND_FIND_SESSION, COMMAND_FORGET_VERDICTS, COMMAND_KILL, COMMAND_LINK, COMMAND_LISTEN,
    COMMAND_OBSERVE, COMMAND_PUBLISH, COMMAND_PUBLISH_BATCH, COMMAND_REFUSE, COMMAND_REPLACE_PERMISSIONS,
    COMMAND_RETAIN, COMMAND_SET_PERMISSIONS, COMMAND_STATISTICS, COMMAND_STOP, COMMAND_STOP_LISTENING,
    COMMAND_SUBSCRIBE, COMMAND_SWEEP_CONNECTIONS, COMMAND_SWEEP_RETAINED, COMMAND_SWEEP_SESSIONS, COMMAND_TELL_TENANTS,
    COMMAND_THROTTLE, COMMAND_UNSUBSCRIBE, CONNECT_DUE, EVENT_NO_SESSION, EVENT_NUMBER, EVENT_PUBLISHED, EVENT_SESSION,
    EVENT_STATISTICS, FAREWELL_REASON_STRING, FAREWELL_SERVER_REFERENCE, KEY_REASON_STRING, KEY_SERVER_REFERENCE,
    KEY_TOPIC_FILTER, PUBLISHED_DROPS, VERDICT_DUE, Command, Connection, Event, Shard,
)
from rookery.core.shards.subscribe_packets cimport subscribe_for, unsubscribe_for
from rookery.core.shards.sweeps cimport SWEEP_CONNECTIONS, SWEEP_RETAINED, SWEEP_SESSIONS, sweep_begin
from rookery.core.shards.tenants cimport tenant_acquire, tenant_find, tenant_release
from rookery.core.shards.transport cimport memory_link_release
from rookery.core.shards.verdicts cimport verdicts_forget
from rookery.core.structures.atomics cimport atomic_store_u32
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.pointer_map cimport pointer_map_each
from rookery.core.topics.cache cimport cache_topic_count
from rookery.core.topics.retained cimport retained_count
from rookery.core.wire.packets cimport SubscriptionRequest
from rookery.core.wire.spec cimport REASON_SERVER_SHUTTING_DOWN, REASON_SERVER_UNAVAILABLE

cdef enum:
    _CONNECTIONS_PER_CHUNK = 256


cdef void _reply(Shard *shard, Event *event) noexcept nogil:
    # Without memory for the reply the asker runs into its deadline.
    if event != NULL:
        event_put(shard, event)


cdef void _tell_drops(const Shard *shard, Event *event, const uint64_t *before) noexcept nogil:
    """Why the messages of an EVENT_PUBLISHED were dropped. What made room for them in an inbox was another message."""
    cdef uint32_t reason
    for reason in range(DROP_REASON_COUNT):
        if reason != DROP_OVERFLOW_OLDEST:
            event.numbers[PUBLISHED_DROPS + reason] = shard.world.drops[reason] - before[reason]


cdef void _publish(Shard *shard, Command *command) noexcept nogil:
    cdef Tenant *tenant
    cdef Outcome outcome
    cdef Event *event = event_new(EVENT_PUBLISHED, command.request, NULL, 0)
    cdef bint is_promised = command.message.qos > 0 or command.message.retain
    cdef bint is_retained = False
    cdef uint64_t began = answer_begin(shard)
    cdef uint64_t drops[DROP_REASON_COUNT]
    memset(&outcome, 0, sizeof(outcome))
    memcpy(drops, shard.world.drops, sizeof(drops))
    if command.number != 0:
        command.message.expires_at_ms = shard.world.now_ms + command.number * 1000
    # A tenant that nobody uses has no subscriber; only a retained message makes it known.
    tenant = tenant_find(shard, command_string(command, 0))
    if tenant != NULL or command.message.retain:
        tenant = tenant_acquire(shard, command_string(command, 0))
    if tenant != NULL:
        is_retained = shard_publish_here(shard, tenant, command.message, &outcome)
        tenant_release(shard, tenant)
    if event != NULL:
        event.numbers[0] = outcome.matched
        event.numbers[1] = outcome.queued
        event.numbers[2] = outcome.dropped
        event.numbers[3] = is_retained
        _tell_drops(shard, event, drops)
    if is_promised:
        answer_put(shard, event, began, outcome.given_to)
    else:
        _reply(shard, event)


cdef void _publish_batch(Shard *shard, Command *command) noexcept nogil:
    cdef Event *event = event_new(EVENT_PUBLISHED, command.request, NULL, 0)
    cdef Tenant *tenant = tenant_acquire(shard, command_string(command, 0))
    cdef Outcome outcome
    cdef uint64_t sums[4]
    cdef uint64_t began = answer_begin(shard)
    cdef uint64_t given_to = 0
    cdef bint is_promised = False
    cdef uint32_t place
    cdef uint64_t drops[DROP_REASON_COUNT]
    memset(sums, 0, sizeof(sums))
    memcpy(drops, shard.world.drops, sizeof(drops))
    for place in range(command.batch_count if tenant != NULL else 0):
        memset(&outcome, 0, sizeof(outcome))
        if command.batch[place].expires_at_ms != 0:
            command.batch[place].expires_at_ms += shard.world.now_ms
        sums[3] += shard_publish_here(shard, tenant, command.batch[place], &outcome)
        sums[0] += outcome.matched
        sums[1] += outcome.queued
        sums[2] += outcome.dropped
        given_to |= outcome.given_to
        if command.batch[place].qos > 0 or command.batch[place].retain:
            is_promised = True
    if tenant != NULL:
        tenant_release(shard, tenant)
    if event != NULL:
        memcpy(event.numbers, sums, sizeof(sums))
        _tell_drops(shard, event, drops)
    if is_promised:
        answer_put(shard, event, began, given_to)
    else:
        _reply(shard, event)


cdef Session *_session_of(Shard *shard, Command *command) noexcept nogil:
    cdef Bytes user_id = command_string(command, 1)
    cdef Bytes client_id = command_string(command, 2)
    cdef Tenant *tenant = tenant_find(shard, command_string(command, 0))
    if tenant == NULL:
        return NULL
    return session_find(
        tenant, session_key_hash(shard, user_id, client_id), user_id.data, <unsigned short> user_id.size,
        client_id.data, <unsigned short> client_id.size)


cdef void _find_session(Shard *shard, Command *command) noexcept nogil:
    cdef Session *session = _session_of(shard, command)
    cdef uint64_t wall_offset_ms = shard.universe.wall_offset_ms
    cdef Connection *connection
    cdef Bytes strings[2]
    cdef Event *event
    if session == NULL:
        _reply(shard, event_new(EVENT_NO_SESSION, command.request, NULL, 0))
        return
    memset(strings, 0, sizeof(strings))
    strings[0].data = session.attributes
    strings[0].size = session.attributes_size
    if session.link != NULL:
        connection = <Connection *> session.link
        strings[1].data = connection.peer
        strings[1].size = connection.peer_size
    event = event_new(EVENT_SESSION, command.request, strings, 2)
    if event != NULL:
        event.flags[0] = session.version
        event.flags[1] = session.link != NULL
        event.flags[2] = session.is_persistent
        event.numbers[0] = session.serial
        event.numbers[1] = session.subscription_count
        event.numbers[2] = session.inbox.qos0_count + session.inbox.qos12_count
        event.numbers[3] = session.inflight.count
        event.numbers[4] = session.session_expiry_interval
        event.numbers[5] = session.keep_alive
        event.numbers[6] = session.connected_at_ms + wall_offset_ms
        event.numbers[7] = session.detached_at_ms + wall_offset_ms
    _reply(shard, event)


cdef void _set_permissions(Shard *shard, Command *command) noexcept nogil:
    cdef Session *session = _session_of(shard, command)
    if session != NULL:
        permissions_set(shard, session, command)


cdef void _add_counters(Event *event, const Counters *counters) noexcept nogil:
    event.numbers[5] += counters.received[0] + counters.received[1] + counters.received[2]
    event.numbers[6] += counters.sent[0] + counters.sent[1] + counters.sent[2]
    event.numbers[7] += counters.messages_dropped
    event.numbers[8] += counters.bytes_received
    event.numbers[9] += counters.bytes_sent
    event.numbers[11] += counters.actions_denied
    event.numbers[12] += counters.connections_held
    event.numbers[13] += counters.resources_throttled


cdef void _statistics(Shard *shard, Command *command) noexcept nogil:
    cdef Event *event = event_new(EVENT_STATISTICS, command.request, NULL, 0)
    cdef uint32_t cursor = 0
    cdef Tenant *tenant
    if event == NULL:
        return
    event.numbers[0] = shard.connection_count
    event.numbers[1] = shard.world.session_count
    event.numbers[2] = shard.tenants.count
    event.numbers[3] = shard.world.subscription_count
    event.numbers[10] = shard.turns
    event.numbers[14] = shard.verdicts_recalled
    event.numbers[15] = cache_topic_count(shard.world.cache)
    event.numbers[16] = <uint64_t> shard.pool.free_count * SEGMENT_CAPACITY
    _add_counters(event, &shard.departed.total)
    tenant = <Tenant *> pointer_map_each(&shard.tenants, &cursor)
    while tenant != NULL:
        if tenant.retained != NULL:
            event.numbers[4] += retained_count(tenant.retained)
        _add_counters(event, &tenant.counters)
        tenant = <Tenant *> pointer_map_each(&shard.tenants, &cursor)
    _reply(shard, event)


cdef void _measure_all(Tenant *tenant) noexcept nogil:
    """While the tenant had no quota nobody counted what fell into its inboxes."""
    cdef uint32_t cursor = 0
    cdef Session *session = <Session *> pointer_map_each(&tenant.sessions, &cursor)
    while session != NULL:
        session_measure(session, False)
        session = <Session *> pointer_map_each(&tenant.sessions, &cursor)


cdef void _set_quota(Shard *shard, Tenant *tenant, const uint64_t *limits) noexcept nogil:
    cdef uint64_t none[2 * RESOURCE_COUNT]
    cdef Quota *quota
    if limits == NULL:
        if not has_quota(tenant):
            return
        memset(none, 0, sizeof(none))
        limits = none
    quota = quota_make(tenant.shared)
    if quota != NULL:
        quota_set_limits(quota, limits)
        _measure_all(tenant)


cdef void _throttle(Shard *shard, Command *command) noexcept nogil:
    cdef Tenant *tenant = tenant_acquire(shard, command_string(command, 0))
    cdef Quota *quota = NULL
    if tenant == NULL:
        return
    if command.number != 0 or has_quota(tenant):
        quota = quota_make(tenant.shared)
    if quota != NULL:
        atomic_store_u32(&quota.closed, <uint32_t> command.number)
    # While something is closed the tenant stays, or its next client would find it open.
    if tenant.is_throttled != (command.number != 0):
        tenant.is_throttled = command.number != 0
        if tenant.is_throttled:
            tenant.users += 1
        else:
            tenant.users -= 1
    tenant_release(shard, tenant)


cdef void _configure(Shard *shard, Command *command) noexcept nogil:
    cdef Tenant *tenant = tenant_acquire(shard, command_string(command, 0))
    if tenant == NULL:
        return
    tenant.settings = command.settings
    _set_quota(shard, tenant, command.quota_limits)
    if tenant.is_configured:
        tenant_release(shard, tenant)
    else:
        # Its settings must outlive its last session.
        tenant.is_configured = 1


cdef void _link(Shard *shard, Command *command) noexcept nogil:
    cdef uint8_t *peer = <uint8_t *> malloc(6)
    cdef Connection *connection = NULL
    if peer != NULL:
        memcpy(peer, b"memory", 6)
        connection = connection_new(shard, -1, command.memory, command.listener_id, peer, 6)
    if connection == NULL:
        free(peer)
        memory_link_release(command.memory)


cdef void _observe(Shard *shard, Command *command) noexcept nogil:
    cdef Bytes wanted = command_string(command, 0)
    memcpy(shard.notices.wanted, wanted.data, NOTICE_KIND_COUNT)


cdef Event *_number(const Command *command, uint64_t number) noexcept nogil:
    cdef Event *event = event_new(EVENT_NUMBER, command.request, NULL, 0)
    if event != NULL:
        event.numbers[0] = number
    return event


cdef Connection *_connection_of(Shard *shard, Command *command) noexcept nogil:
    """The connection of the session that the command names; NULL, and the asker is told, when it is not online."""
    cdef Session *session = _session_of(shard, command)
    if session == NULL or session.link == NULL:
        _reply(shard, event_new(EVENT_NO_SESSION, command.request, NULL, 0))
        return NULL
    return <Connection *> session.link


cdef void _kill(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = _connection_of(shard, command)
    if connection != NULL:
        connection_close_with(
            connection, command.reason_code, command_string(command, KEY_REASON_STRING),
            command_string(command, KEY_SERVER_REFERENCE), True)
        _reply(shard, _number(command, 1))


cdef void _subscribe(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = _connection_of(shard, command)
    cdef SubscriptionRequest request
    cdef bint existed = False
    cdef uint64_t reason_code
    cdef uint64_t began = answer_begin(shard)
    if connection != NULL:
        memset(&request, 0, sizeof(request))
        request.topic_filter = command_string(command, KEY_TOPIC_FILTER)
        request.qos = <uint8_t> command.number
        reason_code = subscribe_for(connection, &request, &existed)
        answer_put(shard, _number(command, reason_code | <uint64_t> existed << 8), began, 0)


cdef void _unsubscribe(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = _connection_of(shard, command)
    cdef uint64_t began = answer_begin(shard)
    cdef uint64_t reason_code
    if connection != NULL:
        reason_code = unsubscribe_for(connection, command_string(command, KEY_TOPIC_FILTER))
        answer_put(shard, _number(command, reason_code), began, 0)


cdef void _retain(Shard *shard, Command *command) noexcept nogil:
    cdef Tenant *tenant = tenant_acquire(shard, command_string(command, 0))
    cdef Publication publication
    cdef int result = RETAIN_NO_MEMORY
    cdef uint64_t began = answer_begin(shard)
    if command.number != 0:
        command.message.expires_at_ms = shard.world.now_ms + command.number * 1000
    if tenant != NULL:
        publication_of(command.message, &publication)
        result = tenant_retain(tenant, &publication)
        publication_end(&publication)
        tenant_release(shard, tenant)
    answer_put(shard, _number(command, <uint64_t> (result + 1)), began, 0)


cdef void _disconnect(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = connection_by_handle(shard, command.request)
    if connection != NULL and connection.state == ATTACHED:
        connection_close_with(
            connection, command.reason_code, command_string(command, FAREWELL_REASON_STRING),
            command_string(command, FAREWELL_SERVER_REFERENCE), True)


cdef void _stop(Shard *shard, Command *command) noexcept nogil:
    cdef uint32_t chunk, place
    cdef Connection *connection
    shard.is_stopping = 1
    shard.stop_at_ms = shard.world.now_ms + command.number
    listeners_clear(shard)
    for chunk in range(shard.chunk_count):
        for place in range(_CONNECTIONS_PER_CHUNK):
            connection = &shard.chunks[chunk][place]
            if connection.state == ATTACHED:
                connection_close(
                    connection, REASON_SERVER_SHUTTING_DOWN, NULL,
                    not connection.tenant.settings.no_lwt_when_server_shutting_down)
            elif connection.state == VERDICT_DUE or connection.state == AUTH_DUE:
                connection_refuse(connection, connection.link.version, REASON_SERVER_UNAVAILABLE, NULL)
            elif connection.state == CONNECT_DUE:
                connection_drop(connection)


cdef void _run(Shard *shard, Command *command) noexcept nogil:
    cdef uint8_t kind = command.kind
    if kind == COMMAND_ADMIT:
        admission_admit(shard, command)
        return  # It took the command over.
    if kind == COMMAND_REFUSE:
        admission_refuse(shard, command)
        return
    if kind == COMMAND_SWEEP_CONNECTIONS:
        sweep_begin(shard, command, SWEEP_CONNECTIONS)
        return
    if kind == COMMAND_SWEEP_SESSIONS:
        sweep_begin(shard, command, SWEEP_SESSIONS)
        return
    if kind == COMMAND_SWEEP_RETAINED:
        sweep_begin(shard, command, SWEEP_RETAINED)
        return
    if kind == COMMAND_LISTEN:
        listener_add(shard, command.descriptor, command.listener_id)
    elif kind == COMMAND_FORGET_VERDICTS:
        verdicts_forget(shard)
    elif kind == COMMAND_STOP_LISTENING:
        listeners_clear(shard)
    elif kind == COMMAND_ADOPT:
        adopt(shard, command)
    elif kind == COMMAND_PUBLISH:
        _publish(shard, command)
    elif kind == COMMAND_PUBLISH_BATCH:
        _publish_batch(shard, command)
    elif kind == COMMAND_FIND_SESSION:
        _find_session(shard, command)
    elif kind == COMMAND_CONFIGURE:
        _configure(shard, command)
    elif kind == COMMAND_SET_PERMISSIONS:
        _set_permissions(shard, command)
    elif kind == COMMAND_REPLACE_PERMISSIONS:
        permissions_replace(shard)
    elif kind == COMMAND_STATISTICS:
        _statistics(shard, command)
    elif kind == COMMAND_STOP:
        _stop(shard, command)
    elif kind == COMMAND_OBSERVE:
        _observe(shard, command)
    elif kind == COMMAND_CHALLENGE:
        authentication_challenge(shard, command)
    elif kind == COMMAND_CONFIRM:
        authentication_confirm(shard, command)
    elif kind == COMMAND_DISCONNECT:
        _disconnect(shard, command)
    elif kind == COMMAND_KILL:
        _kill(shard, command)
    elif kind == COMMAND_SUBSCRIBE:
        _subscribe(shard, command)
    elif kind == COMMAND_UNSUBSCRIBE:
        _unsubscribe(shard, command)
    elif kind == COMMAND_RETAIN:
        _retain(shard, command)
    elif kind == COMMAND_THROTTLE:
        _throttle(shard, command)
    elif kind == COMMAND_LINK:
        _link(shard, command)
    elif kind >= COMMAND_TELL_TENANTS:
        page_tell(shard, command)
    command_free(command)


cdef void commands_run(Shard *shard) noexcept nogil:
    cdef Command *command = command_take_all(shard)
    cdef Command *next_command
    while command != NULL:
        next_command = command.next
        _run(shard, command)
        command = next_command
