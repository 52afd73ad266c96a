"""See turn.pxd.

    wait (epoll) -> mail -> commands -> resumed connections -> ready sockets -> timers -> replays, held publishers
         ^                                                                                        |
         '------ quiescent <- flush every dirty outbox once <- hand mail over <-------------------'

Mail is handed over before the flush: an acknowledgement must not reach a client before the retained message that it
acknowledges has reached its home shard. Whatever a turn produces leaves in one write per connection, unless it grows
beyond FLUSH_EARLY_BYTES.
"""

from libc.stdint cimport uint32_t, uint64_t

from rookery.core.log.writer cimport log_pressure
from rookery.core.sessions.outbox cimport OUTBOX_LOW_BYTES, Outbox
from rookery.core.sessions.retain cimport Retained, retained_expire
from rookery.core.sessions.session cimport session_has_waiting, session_pump
from rookery.core.sessions.state cimport (
    TIMER_CONNECTION, TIMER_LISTENER, TIMER_PACING, TIMER_SESSION, Session, Tenant,
)
from rookery.core.shards.admission cimport admission_take_transfer
from rookery.core.shards.answers cimport answers_have_work, answers_step
from rookery.core.shards.commands cimport commands_run
from rookery.core.shards.checkpoint cimport checkpoint_has_work
from rookery.core.shards.commits cimport commits_have_work, commits_step, commits_submit
from rookery.core.shards.connections cimport (
    connection_find, connection_flush, connection_release,
)
from rookery.core.shards.errands cimport errands_send, errands_take
from rookery.core.shards.holding cimport holding_step
from rookery.core.shards.input cimport connection_readable, connection_resume
from rookery.core.shards.lifecycle cimport connection_lost, connection_timer_fired, session_timer_fired
from rookery.core.shards.listeners cimport LISTENER_FIRST, listener_accept, listener_resume
from rookery.core.shards.mailbox cimport mail_free, mail_hand_over, mail_take_all, shard_awake, shard_may_sleep
from rookery.core.shards.pacing cimport pacing_timer_fired
from rookery.core.shards.permissions cimport permissions_step
from rookery.core.shards.publishing cimport publishing_take_mail
from rookery.core.shards.queues cimport event_new, event_put
from rookery.core.shards.relaxing cimport RELAX_MS, relax
from rookery.core.shards.replays cimport replays_have_work, replays_step, replays_take_batch, replays_take_request
from rookery.core.shards.shard cimport WAKE_NAME
from rookery.core.shards.state cimport (
    ATTACHED, CONNECTION_FREE, EVENT_STOPPED, EVENTS_PER_TURN, FLUSH_EARLY_BYTES, MAIL_CONNECTION, MAIL_ERRAND,
    MAIL_RETAINED, MAIL_WALK, STRANGERS_PER_TURN, Connection, Event, Listener, Mail, Shard,
)
from rookery.core.shards.sweeps cimport sweeps_have_work, sweeps_step
from rookery.core.shards.tenants cimport tenant_release
from rookery.core.shards.transport cimport memory_link_is_readable
from rookery.core.shards.wills cimport wills_step
from rookery.core.structures.gathering cimport (
    GATHER_MEASURE, GATHER_SLEEP, GATHER_US, GatheringStep, gathering_measure, gathering_turn,
)
from rookery.core.structures.reclaim cimport reclaim_offline, reclaim_online, reclaim_quiescent
from rookery.core.structures.spill cimport SPILL_RELAX_MS, spill_is_used, spill_step
from rookery.core.structures.timers cimport Timer, wheel_expire, wheel_wait_ms

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64

    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_wait(int epoll_descriptor, epoll_event *events, int count, int timeout_ms)
    int EPOLLERR
    int EPOLLHUP
    int EPOLLIN
    int EPOLLOUT

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int descriptor, void *data, size_t size)

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long one, unsigned long two, unsigned long three, unsigned long four)
    int PR_SET_TIMERSLACK

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec

    ctypedef int clockid_t
    int clock_gettime(clockid_t clock, timespec *time)
    int nanosleep(const timespec *pause, timespec *rest)
    int CLOCK_MONOTONIC
    int CLOCK_THREAD_CPUTIME_ID

cdef enum:
    _HELD_LOOK_MS = 5        # how often held publishers are looked at when nothing else happens
    _STOPPING_LOOK_MS = 10   # the same for the end of the shard
    _WAIT_LIMIT_MS = 60000


cdef inline uint64_t _clock_ns(clockid_t clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <uint64_t> now.tv_sec * 1000000000 + <uint64_t> now.tv_nsec


cdef uint64_t clock_ms() noexcept nogil:
    return _clock_ns(CLOCK_MONOTONIC) // 1000000


# Sending

cdef void _flush_one(Connection *connection) noexcept nogil:
    cdef Session *session
    if not connection_flush(connection):
        if connection.state != CONNECTION_FREE:
            connection_lost(connection)
        return
    session = connection.link.session
    if session != NULL and session_has_waiting(session) and connection.link.outbox.size < OUTBOX_LOW_BYTES:
        session_pump(session)


cdef void _flush_all(Shard *shard) noexcept nogil:
    """Every dirty outbox once; what is written meanwhile (wills of dead connections, inboxes) goes out as well."""
    cdef Outbox *outbox
    cdef Connection *connection
    while shard.flush_list.first != NULL:
        outbox = shard.flush_list.first
        shard.flush_list.first = outbox.next_dirty
        outbox.is_dirty = 0
        connection = <Connection *> outbox  # The outbox is the first field of the link, which is the first of this.
        if connection.state == CONNECTION_FREE:
            connection_release(connection)
        elif connection.blocked_since_ms == 0:
            _flush_one(connection)
    shard.flush_list.queued_bytes = 0


# Receiving

cdef void turn_take_mail(Shard *shard) noexcept nogil:
    cdef Mail *mail = mail_take_all(shard)
    cdef Mail *next_mail
    while mail != NULL:
        next_mail = mail.next
        if mail.kind == MAIL_CONNECTION:
            admission_take_transfer(shard, mail)
        elif mail.kind == MAIL_WALK:
            replays_take_request(shard, mail)
        elif mail.kind == MAIL_RETAINED:
            replays_take_batch(shard, mail)
        elif mail.kind == MAIL_ERRAND:
            errands_take(shard, mail)
        else:
            publishing_take_mail(shard, mail)
        mail_free(shard, mail)
        if shard.flush_list.queued_bytes > FLUSH_EARLY_BYTES:
            _flush_all(shard)
        mail = next_mail


cdef void _serve(Shard *shard, uint64_t name, uint32_t ready) noexcept nogil:
    cdef Connection *connection
    cdef uint64_t count
    if name == WAKE_NAME:
        read(shard.mailbox.wake_descriptor, &count, sizeof(count))
        return
    if name >= LISTENER_FIRST and name < WAKE_NAME:
        listener_accept(shard, <uint32_t> name - LISTENER_FIRST)
        return
    connection = connection_find(shard, <uint32_t> name, <uint32_t> (name >> 32))
    if connection == NULL:
        return
    if ready & EPOLLOUT:
        _flush_one(connection)
        connection = connection_find(shard, <uint32_t> name, <uint32_t> (name >> 32))
        if connection == NULL:
            return
    if ready & EPOLLIN and connection.is_reading:
        connection_readable(connection)
    elif ready & (EPOLLERR | EPOLLHUP) and not connection.is_reading:
        # Nothing can be read while it waits for us, but it is gone all the same.
        connection_lost(connection)
    if shard.flush_list.queued_bytes > FLUSH_EARLY_BYTES:
        errands_send(shard)
        mail_hand_over(shard)
        _flush_all(shard)


cdef inline bint _is_client(Shard *shard, uint64_t name) noexcept nogil:
    """Does the event concern a client that is let in, or the shard itself? Else it is a stranger's, or a listener's."""
    cdef Connection *connection
    if name <= WAKE_NAME:  # Names of connections begin with their generation, which is never 0.
        return name == WAKE_NAME
    connection = connection_find(shard, <uint32_t> name, <uint32_t> (name >> 32))
    return connection != NULL and connection.state == ATTACHED


cdef int _serve_events(Shard *shard, epoll_event *events, int count) noexcept nogil:
    """Clients first, then a few strangers: a storm of them does not make the turn longer. Returns how many there are.

    The kernel tells of those again. They begin at another place each turn, so that each gets its turn.
    """
    cdef int strangers = 0
    cdef int index, first
    for index in range(count):
        if _is_client(shard, events[index].data.u64):
            _serve(shard, events[index].data.u64, events[index].events)
        else:
            events[strangers] = events[index]
            strangers += 1
    if strangers <= STRANGERS_PER_TURN:
        for index in range(strangers):
            _serve(shard, events[index].data.u64, events[index].events)
        return strangers
    first = <int> (shard.turns * STRANGERS_PER_TURN % <uint64_t> strangers)
    for index in range(STRANGERS_PER_TURN):
        _serve(shard, events[(first + index) % strangers].data.u64, events[(first + index) % strangers].events)
    return strangers


cdef void _serve_ready(Shard *shard) noexcept nogil:
    cdef Connection *connection = shard.memory_connections
    cdef Connection *following
    while connection != NULL:
        following = connection.next_memory
        if connection.is_reading and memory_link_is_readable(connection.memory):
            connection_resume(connection)
            # Whatever closed connections on the way may have changed the list.
            if connection.state == CONNECTION_FREE or connection.transport == 0:
                following = shard.memory_connections
        connection = following
    while shard.ready != NULL:
        connection = shard.ready
        shard.ready = connection.next
        connection.is_ready = 0
        connection_resume(connection)


# What time brings

cdef void _run_timers(Shard *shard) noexcept nogil:
    cdef Timer *timer = wheel_expire(shard.world.wheel, shard.world.now_ms)
    cdef Tenant *tenant
    while timer != NULL:
        if timer.kind == TIMER_CONNECTION:
            connection_timer_fired(shard, <Connection *> timer.owner)
        elif timer.kind == TIMER_SESSION:
            session_timer_fired(shard, <Session *> timer.owner)
        elif timer.kind == TIMER_PACING:
            pacing_timer_fired(<Connection *> timer.owner)
        elif timer.kind == TIMER_LISTENER:
            listener_resume(shard, <Listener *> timer.owner)
        else:
            tenant = (<Retained *> timer.owner).tenant
            tenant.users += 1
            retained_expire(<Retained *> timer.owner)
            tenant_release(shard, tenant)
        timer = wheel_expire(shard.world.wheel, shard.world.now_ms)


cdef void _look_at_end(Shard *shard) noexcept nogil:
    cdef uint32_t aborted = shard.connection_count
    cdef Event *event
    if aborted > 0 and shard.world.now_ms < shard.stop_at_ms:
        return
    shard.is_stopped = 1
    event = event_new(EVENT_STOPPED, 0, NULL, 0)
    if event != NULL:
        event.numbers[0] = aborted
        event_put(shard, event)


cdef bint _finish(Shard *shard) noexcept nogil:
    """Everything behind the ready sockets. True when there is work that need not wait for anything."""
    _run_timers(shard)
    if shard.replays != NULL:
        replays_step(shard)
    if shard.sweeps != NULL:
        sweeps_step(shard)
    if shard.is_walking_rules:
        permissions_step(shard)
    if shard.held != NULL:
        holding_step(shard)
    errands_send(shard)
    if shard.sent_wills != NULL:
        wills_step(shard)
    # Whatever follows from mail in the log of another shard stands behind what led to it here.
    commits_submit(shard)
    mail_hand_over(shard)
    commits_step(shard)
    answers_step(shard)
    if shard.world.spill != NULL:
        spill_step(shard.world.spill, shard.world.now_ms)
    shard.flushed_bytes = shard.flush_list.queued_bytes
    _flush_all(shard)
    relax(shard)
    reclaim_quiescent(shard.universe.reclaim, shard.index)
    shard.turns += 1
    if shard.is_stopping:
        _look_at_end(shard)
    return (
        shard.ready != NULL
        or replays_have_work(shard)
        or sweeps_have_work(shard)
        or shard.is_walking_rules
        or shard.journal.batch.size > 0
        or checkpoint_has_work(shard)
    )


cdef void _begin(Shard *shard) noexcept nogil:
    shard.effort = 0
    if shard.world.journal != NULL:
        shard.world.log_pressure = log_pressure(shard.journal.log)
    turn_take_mail(shard)
    commands_run(shard)
    _serve_ready(shard)


cdef bint shard_turn(Shard *shard, uint64_t now_ms) noexcept nogil:
    cdef epoll_event events[EVENTS_PER_TURN]
    cdef int count
    shard.world.now_ms = now_ms
    reclaim_online(shard.universe.reclaim, shard.index)
    count = epoll_wait(shard.epoll_descriptor, events, EVENTS_PER_TURN, 0)
    _begin(shard)
    _serve_events(shard, events, count)
    _finish(shard)
    reclaim_offline(shard.universe.reclaim, shard.index)
    return not shard.is_stopped


cdef int _wait_ms(Shard *shard) noexcept nogil:
    # By the time at which the turn began: late by the length of a turn at most.
    cdef uint64_t wait = wheel_wait_ms(shard.world.wheel, shard.world.now_ms)
    if wait > _WAIT_LIMIT_MS:
        wait = _WAIT_LIMIT_MS
    if not shard.relaxing.is_at_rest and wait > RELAX_MS:
        wait = RELAX_MS
    if shard.held != NULL and wait > _HELD_LOOK_MS:
        wait = _HELD_LOOK_MS
    if shard.world.spill != NULL and spill_is_used(shard.world.spill) and wait > SPILL_RELAX_MS:
        wait = SPILL_RELAX_MS
    if shard.is_stopping and wait > _STOPPING_LOOK_MS:
        wait = _STOPPING_LOOK_MS
    return <int> wait


cdef void _gather(Shard *shard, int count) noexcept nogil:
    """Sleep for a moment where a trickle is served with less CPU that way."""
    cdef GatheringStep step = gathering_turn(
        &shard.gathering, _clock_ns(CLOCK_MONOTONIC) // 1000, <uint32_t> count, shard.flushed_bytes)
    cdef timespec pause
    if step == GATHER_MEASURE:
        step = gathering_measure(&shard.gathering, _clock_ns(CLOCK_THREAD_CPUTIME_ID))
    if step == GATHER_SLEEP:
        pause.tv_sec = 0
        pause.tv_nsec = GATHER_US * 1000
        nanosleep(&pause, NULL)


cdef void shard_run(Shard *shard) noexcept nogil:
    cdef epoll_event events[EVENTS_PER_TURN]
    cdef int count, strangers, wait
    cdef bint has_more = True
    # Without it the kernel adds 50 us to every short sleep.
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    reclaim_online(shard.universe.reclaim, shard.index)
    while not shard.is_stopped:
        wait = 0 if has_more else _wait_ms(shard)
        if wait > 0 and shard_may_sleep(shard):
            # One call both for a busy shard, which finds sockets ready at once, and for an idle one.
            reclaim_offline(shard.universe.reclaim, shard.index)
            if commits_have_work(shard) or answers_have_work(shard):
                wait = 0  # The log has committed since the turn.
            count = epoll_wait(shard.epoll_descriptor, events, EVENTS_PER_TURN, wait)
            shard_awake(shard)
            reclaim_online(shard.universe.reclaim, shard.index)
        else:
            count = epoll_wait(shard.epoll_descriptor, events, EVENTS_PER_TURN, 0)
        shard.world.now_ms = clock_ms()
        _begin(shard)
        strangers = _serve_events(shard, events, count)
        has_more = _finish(shard) or strangers > STRANGERS_PER_TURN
        if count > 0:
            shard.relaxing.is_at_rest = 0
        # Waiting is for messages: strangers bring none, and the few of a turn would each wait for the next few.
        if not has_more and strangers == 0:
            _gather(shard, count)
    commits_step(shard)
    answers_step(shard)
    reclaim_offline(shard.universe.reclaim, shard.index)
