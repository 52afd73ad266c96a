"""See gate.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from rookery.core.structures.hashing cimport hash_word
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init, mutex_lock, mutex_unlock
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_each, pointer_map_first, pointer_map_free, pointer_map_next, pointer_map_remove,
)

cdef extern from * nogil:
    """
    #include <string.h>
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <arpa/inet.h>

    /* IPv4 addresses stand where no network of IPv6 is assigned: ffff:ffff::/32. */
    static uint64_t rookery_network_v4(uint32_t address, unsigned bits) {
        uint64_t mask = 0xFFFFFFFFull << (32 - bits) & 0xFFFFFFFFull;
        return 0xFFFFFFFF00000000ull | (ntohl(address) & mask);
    }

    static uint64_t rookery_network_v6(const struct in6_addr *address, unsigned v4_bits, unsigned v6_bits) {
        uint64_t first = 0;
        uint32_t v4;
        int index;
        if (IN6_IS_ADDR_V4MAPPED(address)) {
            memcpy(&v4, address->s6_addr + 12, 4);
            return rookery_network_v4(v4, v4_bits);
        }
        for (index = 0; index < 8; index++) first = first << 8 | address->s6_addr[index];
        first &= ~0ull << (64 - v6_bits);
        /* ::/64, where ::1 is: a network, too, and 0 stands for none. */
        return first != 0 ? first : 1;
    }

    static uint64_t rookery_network_of_socket(int descriptor, unsigned v4_bits, unsigned v6_bits) {
        struct sockaddr_storage address;
        socklen_t length = sizeof(address);
        if (getpeername(descriptor, (struct sockaddr *) &address, &length) != 0) return 0;
        if (address.ss_family == AF_INET)
            return rookery_network_v4(((struct sockaddr_in *) &address)->sin_addr.s_addr, v4_bits);
        if (address.ss_family == AF_INET6)
            return rookery_network_v6(&((struct sockaddr_in6 *) &address)->sin6_addr, v4_bits, v6_bits);
        return 0;
    }

    static uint64_t rookery_network_of_text(const char *text, unsigned v4_bits, unsigned v6_bits) {
        struct in_addr v4;
        struct in6_addr v6;
        if (inet_pton(AF_INET, text, &v4) == 1) return rookery_network_v4(v4.s_addr, v4_bits);
        if (inet_pton(AF_INET6, text, &v6) == 1) return rookery_network_v6(&v6, v4_bits, v6_bits);
        return 0;
    }
    """
    uint64_t rookery_network_of_socket(int descriptor, unsigned int v4_bits, unsigned int v6_bits)
    uint64_t rookery_network_of_text(const char *text, unsigned int v4_bits, unsigned int v6_bits)

cdef enum:
    _SECOND_US = 1000000
    _SWEEP_FIRST = 1024        # networks: fewer are not worth looking through


cdef Gate *gate_new(const HashKey *key, uint32_t listener_count) noexcept nogil:
    cdef Gate *gate = <Gate *> calloc(1, sizeof(Gate))
    if gate == NULL:
        return NULL
    gate.listeners = <GateListener *> calloc(listener_count, sizeof(GateListener))
    if gate.listeners == NULL:
        free(gate)
        return NULL
    mutex_init(&gate.mutex, NULL)
    gate.key = key[0]
    gate.listener_count = listener_count
    gate.ipv4_bits = 32
    gate.ipv6_bits = 64
    gate.sweep_at = _SWEEP_FIRST
    return gate


cdef void gate_free(Gate *gate) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef void *network
    if gate == NULL:
        return
    network = pointer_map_each(&gate.networks, &cursor)
    while network != NULL:
        free(network)
        network = pointer_map_each(&gate.networks, &cursor)
    pointer_map_free(&gate.networks)
    mutex_destroy(&gate.mutex)
    free(gate.listeners)
    free(gate)


cdef uint64_t gate_network_of_socket(const Gate *gate, int descriptor) noexcept nogil:
    return rookery_network_of_socket(descriptor, gate.ipv4_bits, gate.ipv6_bits)


cdef uint64_t gate_network_of_text(const Gate *gate, const char *address) noexcept nogil:
    return rookery_network_of_text(address, gate.ipv4_bits, gate.ipv6_bits)


cdef inline bint _has_room(const GateLimits *limits, const GateMeter *meter) noexcept nogil:
    return limits.connections == 0 or meter.connections < limits.connections


cdef inline uint64_t _paid_until_us(const GateLimits *limits, const GateMeter *meter, uint64_t now_us) noexcept nogil:
    """Up to when it would be paid for with one connection more."""
    return (meter.paid_until_us if meter.paid_until_us > now_us else now_us) + _SECOND_US // limits.rate_per_s


cdef inline bint _is_slow_enough(const GateLimits *limits, const GateMeter *meter, uint64_t now_us) noexcept nogil:
    return limits.rate_per_s == 0 or _paid_until_us(limits, meter, now_us) <= now_us + _SECOND_US


cdef inline void _count(const GateLimits *limits, GateMeter *meter, uint64_t now_us) noexcept nogil:
    meter.connections += 1
    if limits.rate_per_s != 0:
        meter.paid_until_us = _paid_until_us(limits, meter, now_us)


cdef GateNetwork *_find(Gate *gate, uint64_t network) noexcept nogil:
    cdef uint32_t cursor
    cdef uint64_t hash_value = hash_word(&gate.key, network)
    cdef GateNetwork *found = <GateNetwork *> pointer_map_first(&gate.networks, hash_value, &cursor)
    while found != NULL and found.network != network:
        found = <GateNetwork *> pointer_map_next(&gate.networks, hash_value, &cursor)
    return found


cdef inline bint _is_idle(const GateNetwork *network, uint64_t now_us) noexcept nogil:
    return network.meter.connections == 0 and network.meter.paid_until_us <= now_us


cdef void _forget(Gate *gate, GateNetwork *network) noexcept nogil:
    pointer_map_remove(&gate.networks, hash_word(&gate.key, network.network), network)
    free(network)


cdef void _sweep(Gate *gate, uint64_t now_us) noexcept nogil:
    """Forget those that owe nothing any more: beside open connections one second's worth of them is left."""
    cdef uint32_t cursor = 0
    cdef GateNetwork *idle = NULL
    cdef GateNetwork *network = <GateNetwork *> pointer_map_each(&gate.networks, &cursor)
    while network != NULL:
        if _is_idle(network, now_us):
            network.next = idle
            idle = network
        network = <GateNetwork *> pointer_map_each(&gate.networks, &cursor)
    while idle != NULL:
        network = idle
        idle = idle.next
        _forget(gate, network)
    gate.sweep_at = 2 * gate.networks.count
    if gate.sweep_at < _SWEEP_FIRST:
        gate.sweep_at = _SWEEP_FIRST


cdef GateNetwork *_add(Gate *gate, uint64_t network, uint64_t now_us) noexcept nogil:
    cdef GateNetwork *added
    if gate.networks.count >= gate.sweep_at:
        _sweep(gate, now_us)
    added = <GateNetwork *> calloc(1, sizeof(GateNetwork))
    if added == NULL:
        return NULL
    added.network = network
    if pointer_map_add(&gate.networks, hash_word(&gate.key, network), added) != 0:
        free(added)
        return NULL
    return added


cdef GateAnswer _judge(
    Gate *gate, const GateListener *listener, const GateNetwork *network, uint64_t now_us
) noexcept nogil:
    if not _has_room(&gate.limits, &gate.meter):
        return GATE_COUNT
    if not _has_room(&listener.limits, &listener.meter):
        return GATE_LISTENER_COUNT
    if network != NULL and not _has_room(&gate.network_limits, &network.meter):
        return GATE_NETWORK_COUNT
    # The narrowest first: who comes too often by himself takes nothing of the others' rates.
    if network != NULL and not _is_slow_enough(&gate.network_limits, &network.meter, now_us):
        return GATE_NETWORK_RATE
    if not _is_slow_enough(&listener.limits, &listener.meter, now_us):
        return GATE_LISTENER_RATE
    if not _is_slow_enough(&gate.limits, &gate.meter, now_us):
        return GATE_RATE
    return GATE_OPEN


cdef GateAnswer gate_enter(Gate *gate, uint32_t listener_id, uint64_t network, uint64_t now_ms) noexcept nogil:
    cdef GateListener *listener = &gate.listeners[listener_id]
    cdef GateNetwork *source = NULL
    cdef uint64_t now_us = now_ms * 1000
    cdef GateAnswer answer
    mutex_lock(&gate.mutex)
    if network != 0 and (gate.network_limits.connections | gate.network_limits.rate_per_s) != 0:
        source = _find(gate, network)
        if source == NULL:
            source = _add(gate, network, now_us)
    # Without memory for its network it is let in: what it does next needs more, and is refused then.
    answer = _judge(gate, listener, source, now_us)
    if answer == GATE_OPEN:
        _count(&gate.limits, &gate.meter, now_us)
        _count(&listener.limits, &listener.meter, now_us)
        if source != NULL:
            _count(&gate.network_limits, &source.meter, now_us)
    else:
        listener.refused[<int> answer] += 1
        if source != NULL and _is_idle(source, now_us):
            _forget(gate, source)
    mutex_unlock(&gate.mutex)
    return answer


cdef void gate_leave(Gate *gate, uint32_t listener_id, uint64_t network, uint64_t now_ms) noexcept nogil:
    cdef GateNetwork *source
    mutex_lock(&gate.mutex)
    gate.meter.connections -= 1
    gate.listeners[listener_id].meter.connections -= 1
    source = _find(gate, network) if network != 0 else NULL
    if source != NULL and source.meter.connections > 0:
        source.meter.connections -= 1
        if _is_idle(source, now_ms * 1000):
            _forget(gate, source)
    mutex_unlock(&gate.mutex)
