"""See pacing.pxd."""

from libc.stdint cimport UINT64_MAX, uint64_t
from libc.stdlib cimport calloc, free

from rookery.core.sessions.notices cimport NOTICE_PUBLISH_RATE_EXCEEDED
from rookery.core.sessions.outbox cimport outbox_enlist
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport TIMER_PACING
from rookery.core.sessions.witness cimport absent, is_noticed, notice_session
from rookery.core.shards.connections cimport connection_ready, connection_want
from rookery.core.shards.lifecycle cimport connection_close
from rookery.core.shards.state cimport HELD_FOR_RATE, Connection, Rates, Shard
from rookery.core.structures.timers cimport TICK_MS, wheel_arm, wheel_cancel
from rookery.core.wire.spec cimport MQTT_5_0, REASON_MESSAGE_RATE_TOO_HIGH

cdef enum:
    _NS_PER_MS = 1000000
    _NS_PER_S = 1000000000
    _BURST_NS = 1000000000      # what a silent connection saves up: one second's worth
    _PAUSE_MS = 50              # the least pause, for small pauses would cost a wake-up per message
    _LEAST_READ = 512           # bytes: smaller reads would cost a system call for nearly nothing
    _LEAST_FLUSH = 512
    _NOTICE_PAUSE_MS = 1000     # one notice a second and connection says it well enough


cdef inline uint64_t _now_ns(const Connection *connection) noexcept nogil:
    return connection.shard.world.now_ms * _NS_PER_MS


cdef Rates *_rates(Connection *connection) noexcept nogil:
    """NULL when memory is short: then nothing is held back."""
    cdef Rates *rates = connection.rates
    if rates == NULL:
        rates = <Rates *> calloc(1, sizeof(Rates))
        if rates != NULL:
            rates.timer.owner = connection
            rates.timer.kind = TIMER_PACING
            connection.rates = rates
    return rates


cdef inline uint64_t _earliest(const Connection *connection, uint64_t paid_ns) noexcept nogil:
    cdef uint64_t now_ns = _now_ns(connection)
    return paid_ns if paid_ns + _BURST_NS > now_ns else now_ns - _BURST_NS


cdef inline uint64_t _cost_ns(uint64_t count, uint64_t rate) noexcept nogil:
    # One call passes 256 MiB at most, so the product fits: 2 ** 28 * 10 ** 9 < 2 ** 64.
    return count * _NS_PER_S // rate


cdef inline uint64_t _worth(const Connection *connection, uint64_t paid_ns, uint64_t rate) noexcept nogil:
    """What may pass now at this rate."""
    cdef uint64_t now_ns = _now_ns(connection)
    cdef uint64_t saved_ns
    paid_ns = _earliest(connection, paid_ns)
    if paid_ns >= now_ns:
        return 0
    saved_ns = now_ns - paid_ns  # a second at most
    return rate // _NS_PER_S * saved_ns + rate % _NS_PER_S * saved_ns // _NS_PER_S


cdef inline uint64_t _pause_end_ms(const Connection *connection, uint64_t paid_ns) noexcept nogil:
    cdef uint64_t now_ms = connection.shard.world.now_ms
    cdef uint64_t due_ms = paid_ns // _NS_PER_MS + 1
    return due_ms if due_ms > now_ms + _PAUSE_MS else now_ms + _PAUSE_MS


cdef void _arm(Connection *connection) noexcept nogil:
    cdef Rates *rates = connection.rates
    cdef uint64_t due_ms = UINT64_MAX
    if rates.read_due_ms != 0:
        due_ms = rates.read_due_ms
    if rates.flush_due_ms != 0 and rates.flush_due_ms < due_ms:
        due_ms = rates.flush_due_ms
    if due_ms != UINT64_MAX:
        wheel_arm(connection.shard.world.wheel, &rates.timer, due_ms)


cdef void pacing_hold_until(Connection *connection, uint64_t due_ms) noexcept nogil:
    cdef Rates *rates = _rates(connection)
    if rates == NULL or due_ms <= rates.read_due_ms:
        return
    rates.read_due_ms = due_ms
    connection.is_held |= HELD_FOR_RATE
    connection_want(connection, False, connection.is_writable_awaited)
    connection.tenant.counters.connections_held += 1
    _arm(connection)


cdef void _notice_rate(Connection *connection, Rates *rates, uint64_t limit) noexcept nogil:
    cdef uint64_t now_ms = connection.shard.world.now_ms
    if rates.noticed_at_ms + _NOTICE_PAUSE_MS > now_ms and rates.noticed_at_ms != 0:
        return
    rates.noticed_at_ms = now_ms
    if is_noticed(&connection.shard.world, NOTICE_PUBLISH_RATE_EXCEEDED):
        notice_session(
            connection.link.session, NOTICE_PUBLISH_RATE_EXCEEDED, absent(), absent(), limit, 0, 0, 0)


cdef bint pacing_take_publish(Connection *connection) noexcept nogil:
    cdef const Settings *settings = &connection.tenant.settings
    cdef uint64_t rate = settings.msg_pub_per_sec
    cdef Rates *rates = _rates(connection)
    if rates == NULL:
        return True
    rates.publish_paid_ns = _earliest(connection, rates.publish_paid_ns)
    if settings.disconnect_for_pub_rate:
        # The second's worth is whole messages: the last one fits although it is paid for a moment from now.
        if rates.publish_paid_ns + _cost_ns(1, rate) > _now_ns(connection):
            _notice_rate(connection, rates, rate)
            connection.tenant.counters.messages_dropped += 1
            if connection.link.version == MQTT_5_0:
                connection_close(
                    connection, REASON_MESSAGE_RATE_TOO_HIGH, b"more messages per second than MsgPubPerSec", True)
            return False
        rates.publish_paid_ns += _cost_ns(1, rate)
        return True
    rates.publish_paid_ns += _cost_ns(1, rate)
    if rates.publish_paid_ns > _now_ns(connection):
        _notice_rate(connection, rates, rate)
        pacing_hold_until(connection, _pause_end_ms(connection, rates.publish_paid_ns))
    return True


cdef Py_ssize_t pacing_read_size(Connection *connection, Py_ssize_t size) noexcept nogil:
    cdef Rates *rates = _rates(connection)
    cdef uint64_t worth
    if rates == NULL:
        return size
    worth = _worth(connection, rates.read_paid_ns, connection.tenant.settings.in_bound_bandwidth)
    if worth < _LEAST_READ:
        worth = _LEAST_READ
    return size if <uint64_t> size < worth else <Py_ssize_t> worth


cdef void pacing_count_read(Connection *connection, uint64_t count) noexcept nogil:
    cdef Rates *rates = _rates(connection)
    if rates == NULL:
        return
    rates.read_paid_ns = _earliest(connection, rates.read_paid_ns) + _cost_ns(
        count, connection.tenant.settings.in_bound_bandwidth)
    if rates.read_paid_ns > _now_ns(connection):
        pacing_hold_until(connection, _pause_end_ms(connection, rates.read_paid_ns))


cdef uint64_t pacing_flush_size(Connection *connection) noexcept nogil:
    cdef Rates *rates = _rates(connection)
    cdef uint64_t worth
    if rates == NULL:
        return UINT64_MAX
    if rates.flush_due_ms > connection.shard.world.now_ms or rates.flush_paid_ns > _now_ns(connection):
        return 0
    worth = _worth(connection, rates.flush_paid_ns, connection.tenant.settings.out_bound_bandwidth)
    return worth if worth > _LEAST_FLUSH else _LEAST_FLUSH


cdef void pacing_count_flush(Connection *connection, uint64_t count) noexcept nogil:
    cdef Rates *rates = _rates(connection)
    if rates == NULL:
        return
    rates.flush_paid_ns = _earliest(connection, rates.flush_paid_ns) + _cost_ns(
        count, connection.tenant.settings.out_bound_bandwidth)


cdef void pacing_await_flush(Connection *connection) noexcept nogil:
    cdef Rates *rates = connection.rates
    if rates == NULL:
        return
    if rates.flush_due_ms <= connection.shard.world.now_ms:
        rates.flush_due_ms = _pause_end_ms(connection, rates.flush_paid_ns)
        connection.tenant.counters.connections_held += 1
    _arm(connection)


cdef void pacing_timer_fired(Connection *connection) noexcept nogil:
    cdef Rates *rates = connection.rates
    # The wheel may be a tick early at the border between two.
    cdef uint64_t now_ms = connection.shard.world.now_ms + TICK_MS
    if rates.flush_due_ms != 0 and rates.flush_due_ms <= now_ms:
        rates.flush_due_ms = 0
        outbox_enlist(&connection.link.outbox)
    if rates.read_due_ms != 0 and rates.read_due_ms <= now_ms:
        rates.read_due_ms = 0
        connection.is_held &= ~HELD_FOR_RATE
        if not connection.is_held:
            connection_want(connection, True, connection.is_writable_awaited)
            connection_ready(connection)
    _arm(connection)


cdef void pacing_end(Connection *connection) noexcept nogil:
    cdef Shard *shard = connection.shard
    if connection.rates != NULL:
        wheel_cancel(shard.world.wheel, &connection.rates.timer)
        free(connection.rates)
        connection.rates = NULL
    connection.is_held &= ~HELD_FOR_RATE
