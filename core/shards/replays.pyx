"""See replays.pxd."""

from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from rookery.core.sessions.message cimport (
    Message, Publication, message_acquire, message_release, message_share, publication_end, publication_of,
)
from rookery.core.sessions.notices cimport NOTICE_RETAINED_MATCHED
from rookery.core.sessions.outbox cimport OUTBOX_LOW_BYTES
from rookery.core.sessions.quota cimport has_quota, quota_charge
from rookery.core.sessions.retain cimport Retained
from rookery.core.sessions.session cimport session_deliver
from rookery.core.sessions.state cimport RESOURCE_RETAIN_MATCH_BYTES, Session, SharedTenant, Tenant
from rookery.core.sessions.witness cimport absent, is_noticed, notice_session
from rookery.core.shards.mailbox cimport mail_put
from rookery.core.shards.registry cimport home_shard
from rookery.core.shards.state cimport (
    MAIL_RETAINED, MAIL_WALK, REPLAY_BATCH, RETAINED_NODES_PER_TURN, RETAINED_PER_TURN, WALK_CLOSE, WALK_NEXT,
    WALK_OPEN, Mail, RemoteWalk, Replay, Shard, WalkBatch, WalkRequest,
)
from rookery.core.shards.tenants cimport tenant_acquire_shared, tenant_release
from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.retained cimport (
    RetainedWalk, retained_walk_free, retained_walk_new, retained_walk_next,
)
from rookery.core.topics.tree cimport NO_FILTER


# The session's side

cdef int _mail_request(
    Shard *shard, SharedTenant *tenant, Replay *replay, uint8_t step, Bytes topic_filter
) noexcept nogil:
    cdef WalkRequest *request = <WalkRequest *> calloc(1, sizeof(WalkRequest) + topic_filter.size)
    if request == NULL:
        return -1
    request.step = step
    request.origin = shard.index
    request.replay = replay.number
    request.walk = replay.remote
    request.filter_size = <uint32_t> topic_filter.size
    if topic_filter.size > 0:
        memcpy(<uint8_t *> request + sizeof(WalkRequest), topic_filter.data, topic_filter.size)
    if mail_put(shard, home_shard(tenant, shard.universe.shard_count), MAIL_WALK, tenant, NULL, request) != 0:
        free(request)
        return -1
    return 0


cdef int replay_begin(
    Shard *shard, Session *session, Bytes topic_filter, uint32_t filter_id, uint32_t subscription_id, uint8_t qos,
    uint8_t no_local
) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef bint is_home = home_shard(tenant.shared, shard.universe.shard_count) == shard.index
    cdef Replay *replay
    if is_home and tenant.retained == NULL:
        return 0
    replay = <Replay *> calloc(1, sizeof(Replay) + topic_filter.size)
    if replay == NULL:
        return -1
    replay.filter_size = <uint32_t> topic_filter.size
    memcpy(<uint8_t *> replay + sizeof(Replay), topic_filter.data, topic_filter.size)
    shard.last_replay += 1
    replay.number = shard.last_replay
    replay.session = session
    replay.filter_id = filter_id
    replay.subscription_id = subscription_id
    replay.limit = tenant.settings.retain_message_match_limit
    replay.qos = qos
    replay.no_local = no_local
    if is_home:
        replay.walk = retained_walk_new(tenant.retained, topic_filter.data, topic_filter.size)
        if replay.walk == NULL:
            free(replay)
            return -1
    else:
        if _mail_request(shard, tenant.shared, replay, WALK_OPEN, topic_filter) != 0:
            free(replay)
            return -1
        replay.is_awaiting = 1
    replay.next = shard.replays
    shard.replays = replay
    return 0


cdef void _end(Shard *shard, Replay *replay) noexcept nogil:
    """Not in the list any more."""
    cdef Bytes nothing
    nothing.data = NULL
    nothing.size = 0
    while replay.batch_next < replay.batch_count:
        message_release(replay.batch[replay.batch_next])
        replay.batch_next += 1
    if replay.walk != NULL:
        retained_walk_free(replay.walk)
    # A batch that is under way finds no replay of its number, and its walk is closed then.
    if replay.remote != NULL and not replay.is_awaiting:
        _mail_request(shard, replay.session.tenant.shared, replay, WALK_CLOSE, nothing)
    free(replay)


cdef void replay_cancel(Shard *shard, Session *session, uint32_t filter_id) noexcept nogil:
    cdef Replay **place = &shard.replays
    cdef Replay *replay
    while place[0] != NULL:
        replay = place[0]
        if replay.session == session and (filter_id == NO_FILTER or replay.filter_id == filter_id):
            place[0] = replay.next
            _end(shard, replay)
        else:
            place = &replay.next


cdef uint32_t _take_from_walk(RetainedWalk *walk, Message **out, uint32_t node_limit, bint *is_done) noexcept nogil:
    cdef void *found[REPLAY_BATCH]
    cdef uint32_t count = retained_walk_next(walk, found, REPLAY_BATCH, node_limit, is_done)
    cdef uint32_t index
    for index in range(count):
        out[index] = (<Retained *> found[index]).message
        message_acquire(out[index])
    return count


cdef inline bint _is_session_ready(const Session *session) noexcept nogil:
    if session.link == NULL:
        return True
    return (
        session.link.outbox.size < OUTBOX_LOW_BYTES
        and session.inbox.qos12_count <= session.tenant.settings.session_inbox_size // 2
    )


cdef void _deliver(Replay *replay, Message *message) noexcept nogil:
    cdef Publication publication
    publication_of(message, &publication)
    if not (replay.no_local and publication.publisher == replay.session.serial):
        # RETAIN is 1: the message was retained when the subscription was made [MQTT-3.3.1-8].
        session_deliver(
            replay.session, &publication, replay.qos if replay.qos < publication.qos else publication.qos, 1,
            &replay.subscription_id, replay.subscription_id != 0)
        if has_quota(replay.session.tenant):
            quota_charge(replay.session.tenant, RESOURCE_RETAIN_MATCH_BYTES, message.payload_size)
        replay.sent += 1
    publication_end(&publication)
    if replay.limit != UINT32_MAX:
        replay.limit -= 1


cdef void _notice_matched(Shard *shard, const Replay *replay) noexcept nogil:
    cdef Bytes topic_filter
    replay.session.tenant.counters.retained_matched += replay.sent
    if replay.sent > 0 and is_noticed(&shard.world, NOTICE_RETAINED_MATCHED):
        topic_filter.data = <const uint8_t *> replay + sizeof(Replay)
        topic_filter.size = replay.filter_size
        notice_session(replay.session, NOTICE_RETAINED_MATCHED, absent(), topic_filter, replay.sent, 0, 0, 0)


cdef bint _step_one(Shard *shard, Replay *replay, uint32_t *budget) noexcept nogil:
    """True when the replay is over."""
    cdef Message *message
    cdef Bytes nothing
    cdef bint is_done
    nothing.data = NULL
    nothing.size = 0
    while budget[0] > 0 and replay.limit > 0 and _is_session_ready(replay.session):
        if replay.batch_next < replay.batch_count:
            message = replay.batch[replay.batch_next]
            replay.batch_next += 1
            _deliver(replay, message)
            message_release(message)
            budget[0] -= 1
        elif replay.is_done:
            return True
        elif replay.walk != NULL:
            replay.batch_next = 0
            replay.batch_count = _take_from_walk(replay.walk, replay.batch, RETAINED_NODES_PER_TURN // 4, &is_done)
            replay.is_done = is_done
            if replay.batch_count == 0:
                # Many places of the tree held nothing: they count as work, too.
                budget[0] -= budget[0] // 4 + 1
        elif replay.is_awaiting:
            return False
        else:
            if _mail_request(shard, replay.session.tenant.shared, replay, WALK_NEXT, nothing) != 0:
                return True
            replay.is_awaiting = 1
            return False
    return replay.limit == 0


cdef void replays_step(Shard *shard) noexcept nogil:
    cdef uint32_t budget = RETAINED_PER_TURN
    cdef Replay **place = &shard.replays
    cdef Replay *replay
    cdef Replay *unfinished = NULL
    cdef Replay **unfinished_end = &unfinished
    while place[0] != NULL and budget > 0:
        replay = place[0]
        if _step_one(shard, replay, &budget):
            place[0] = replay.next
            _notice_matched(shard, replay)
            _end(shard, replay)
            continue
        if budget == 0:
            # The others come first in the next turn.
            place[0] = replay.next
            replay.next = NULL
            unfinished_end[0] = replay
            unfinished_end = &replay.next
            break
        place = &replay.next
    if unfinished != NULL:
        place = &shard.replays
        while place[0] != NULL:
            place = &place[0].next
        place[0] = unfinished


cdef bint replays_have_work(const Shard *shard) noexcept nogil:
    cdef const Replay *replay = shard.replays
    while replay != NULL:
        if not replay.is_awaiting and _is_session_ready(replay.session):
            return True
        replay = replay.next
    return False


cdef void replays_take_batch(Shard *shard, Mail *mail) noexcept nogil:
    cdef WalkBatch *batch = <WalkBatch *> mail.data
    cdef Replay *replay = shard.replays
    cdef Replay orphan
    cdef Bytes nothing
    cdef uint32_t index
    while replay != NULL and replay.number != batch.replay:
        replay = replay.next
    if replay == NULL:
        for index in range(batch.count):
            message_release(batch.messages[index])
        if batch.walk != NULL:
            nothing.data = NULL
            nothing.size = 0
            orphan.number = batch.replay
            orphan.remote = batch.walk
            _mail_request(shard, mail.tenant, &orphan, WALK_CLOSE, nothing)
        return
    replay.is_awaiting = 0
    replay.remote = batch.walk
    replay.is_done = batch.walk == NULL
    replay.batch_next = 0
    replay.batch_count = batch.count
    memcpy(replay.batch, batch.messages, batch.count * sizeof(Message *))


# The home shard's side

cdef void _close_remote(Shard *shard, RemoteWalk *remote) noexcept nogil:
    cdef RemoteWalk **place = &shard.remote_walks
    while place[0] != remote:
        place = &place[0].next
    place[0] = remote.next
    if remote.walk != NULL:
        retained_walk_free(remote.walk)
    tenant_release(shard, remote.tenant)
    free(remote)


cdef RemoteWalk *_open_remote(Shard *shard, SharedTenant *shared, WalkRequest *request) noexcept nogil:
    cdef RemoteWalk *remote = <RemoteWalk *> calloc(1, sizeof(RemoteWalk))
    if remote == NULL:
        return NULL
    remote.tenant = tenant_acquire_shared(shard, shared)
    if remote.tenant == NULL:
        free(remote)
        return NULL
    if remote.tenant.retained != NULL:
        remote.walk = retained_walk_new(
            remote.tenant.retained, <const uint8_t *> request + sizeof(WalkRequest), request.filter_size)
    remote.next = shard.remote_walks
    shard.remote_walks = remote
    return remote


cdef void replays_take_request(Shard *shard, Mail *mail) noexcept nogil:
    cdef WalkRequest *request = <WalkRequest *> mail.data
    cdef RemoteWalk *remote = request.walk
    cdef WalkBatch *batch
    cdef bint is_done = True
    cdef uint32_t index
    if request.step == WALK_CLOSE:
        _close_remote(shard, remote)
        return
    if request.step == WALK_OPEN:
        remote = _open_remote(shard, mail.tenant, request)
    batch = <WalkBatch *> calloc(1, sizeof(WalkBatch))
    if batch == NULL:
        # The replay waits in vain and ends with its session.
        if remote != NULL:
            _close_remote(shard, remote)
        return
    batch.replay = request.replay
    if remote != NULL and remote.walk != NULL:
        batch.count = _take_from_walk(remote.walk, batch.messages, RETAINED_NODES_PER_TURN, &is_done)
        for index in range(batch.count):
            message_share(batch.messages[index])
    if remote != NULL and is_done:
        _close_remote(shard, remote)
        remote = NULL
    batch.walk = remote
    if mail_put(shard, request.origin, MAIL_RETAINED, mail.tenant, NULL, batch) != 0:
        for index in range(batch.count):
            message_release(batch.messages[index])
        free(batch)
        if remote != NULL:
            _close_remote(shard, remote)


cdef void replays_clear(Shard *shard) noexcept nogil:
    cdef Replay *replay
    while shard.replays != NULL:
        replay = shard.replays
        shard.replays = replay.next
        replay.remote = NULL
        _end(shard, replay)
    while shard.remote_walks != NULL:
        _close_remote(shard, shard.remote_walks)
