from libc.stdint cimport uint32_t, uint64_t

from rookery.bench.clients cimport mark_dirty, now_ns, start_connections, watch
from rookery.bench.deliveries cimport receive
from rookery.bench.flows cimport flush_all, keep_schedule
from rookery.bench.load_state cimport (
    ANSWERED, CONNECTED, DRAINED, EVENT_LIMIT, FETCHED, GONE, NO_FAULT, POLL_NS, PUBLISHED, SPIN_NS, SUBSCRIBED,
    Connection, Engine, Goal)
from rookery.bench.sockets cimport (
    EPOLL_CTL_MOD, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll_event, epoll_wait)

cdef enum:
    WAIT_MS = 100               # longest sleep in one wait


cdef bint is_reached(const Engine *engine, Goal goal) noexcept nogil:
    cdef uint32_t index
    if goal == CONNECTED or goal == GONE:
        return engine.wanted == 0
    if goal == SUBSCRIBED:
        return engine.subacks_due == 0
    if goal == DRAINED:
        return (
            engine.delivered + engine.tally.missing >= engine.due
            and engine.handshakes_open == 0
            and engine.pings_open == 0
        )
    if goal == FETCHED:
        return engine.subacks_due == 0 and engine.flows[0].sightings.floor == engine.flows[0].sent
    if goal == ANSWERED:
        return engine.pings_open == 0
    if goal == PUBLISHED:
        if engine.handshakes_open or engine.dirty_count:
            return False
        for index in range(engine.flow_count):
            if engine.flows[index].sent < engine.flows[index].limit or engine.flows[index].publisher.is_blocked:
                return False
        return True
    return False


cdef int patience_ms(const Engine *engine, uint64_t now, uint64_t until) noexcept nogil:
    """How long the next wait may take."""
    cdef uint64_t next_ns = until
    cdef uint64_t due
    if engine.dirty_count or now < engine.busy_ns + POLL_NS:
        return 0
    if engine.is_publishing and engine.interval_ns > 0:
        due = engine.schedule_ns + <uint64_t> (<double> engine.schedule_position * engine.interval_ns)
        next_ns = min(next_ns, due)
    if engine.ping_interval_ns > 0:
        due = engine.ping_ns + <uint64_t> (<double> engine.ping_position * engine.ping_interval_ns)
        next_ns = min(next_ns, due)
    if next_ns < now + SPIN_NS:
        return 0
    return <int> min((next_ns - now) // 1000000, <uint64_t> WAIT_MS)


cdef int turn(Engine *engine, uint64_t now, int timeout_ms) noexcept nogil:
    cdef epoll_event events[EVENT_LIMIT]
    cdef Connection *connection
    cdef uint32_t ready
    cdef int index
    cdef int count = epoll_wait(engine.epoll, events, EVENT_LIMIT, timeout_ms)
    engine.waits += 1
    engine.is_busy = count > 0 or engine.dirty_count > 0
    if timeout_ms or not engine.is_busy:
        engine.idle_ns += now_ns() - now
    for index in range(count):
        connection = &engine.connections[events[index].data.u64]
        ready = events[index].events
        if connection.fd < 0:
            continue
        if ready & EPOLLOUT and connection.is_blocked:
            connection.is_blocked = False
            watch(engine, connection, EPOLLIN, EPOLL_CTL_MOD)
            mark_dirty(engine, connection)
        if ready & (EPOLLIN | EPOLLHUP | EPOLLERR) and receive(engine, connection) < 0:
            return -1
    if engine.interval_ns > 0 or engine.ping_interval_ns > 0:
        keep_schedule(engine, now_ns())
    if engine.wanted and start_connections(engine) < 0:
        return -1
    return flush_all(engine)


cdef bint run_until(Engine *engine, uint64_t until, Goal goal) noexcept nogil:
    """Turn until the goal is reached (True), the time is up, or something failed."""
    cdef uint64_t now
    while engine.fault == NO_FAULT:
        if is_reached(engine, goal):
            return True
        now = now_ns()
        if engine.is_busy:
            engine.busy_ns = now
        if now >= until or turn(engine, now, patience_ms(engine, now, until)) < 0:
            return False
    return False
