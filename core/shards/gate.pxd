"""Gate: how many connections there may be, and how many may come per second: in all, by listener, by source network.

    accept --- gate_enter --- served --- gate_leave (when the connection closes)
                   |
               refused: closed at once, counted by listener and reason

All shards and the control plane ask the same gate, under one mutex: a connection costs two short visits. A network is
what a stranger cannot change at will: an IPv4 address, the first 64 bits of an IPv6 address, or as many bits as the
configuration says. A rate lets one second's worth come at once (the generic cell rate algorithm: one number holds up to
when all that came is paid for). A network is forgotten when it has no connections and owes nothing.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.hashing cimport HashKey
from rookery.core.structures.mutex cimport Mutex
from rookery.core.structures.pointer_map cimport PointerMap

cdef enum GateAnswer:
    GATE_OPEN = 0
    GATE_COUNT = 1             # connections in all
    GATE_LISTENER_COUNT = 2
    GATE_NETWORK_COUNT = 3
    GATE_RATE = 4              # connections per second in all
    GATE_LISTENER_RATE = 5
    GATE_NETWORK_RATE = 6
    GATE_ANSWER_COUNT = 7


cdef struct GateLimits:        # 0 = unlimited
    uint32_t connections
    uint32_t rate_per_s


cdef struct GateMeter:
    uint64_t connections       # now
    uint64_t paid_until_us     # in the time of the shards: up to then all that came is paid for


cdef struct GateNetwork:
    uint64_t network           # see gate_network_of_socket
    GateNetwork *next          # while networks are swept: the next that goes
    GateMeter meter


cdef struct GateListener:
    GateLimits limits
    GateMeter meter
    uint64_t refused[7]        # GATE_ANSWER_COUNT; by GateAnswer


cdef struct Gate:
    Mutex mutex
    HashKey key                # borrowed from the universe
    GateLimits limits          # in all
    GateMeter meter
    GateLimits network_limits
    uint8_t ipv4_bits          # of an address that make its network, 1 to 32
    uint8_t ipv6_bits          # 1 to 64
    PointerMap networks        # hash of network -> GateNetwork; empty without limits of networks
    uint32_t sweep_at          # networks: so many, and those that owe nothing are looked for
    GateListener *listeners    # owned; by listener_id
    uint32_t listener_count


# A gate that lets all in; NULL when memory is short.
cdef Gate *gate_new(const HashKey *key, uint32_t listener_count) noexcept nogil
cdef void gate_free(Gate *gate) noexcept nogil
# The network of the peer of a connected socket; 0 = it has none (a Unix socket), and no limit of networks holds.
cdef uint64_t gate_network_of_socket(const Gate *gate, int descriptor) noexcept nogil
# The network of an address as text, IPv4 or IPv6 without brackets; 0 = it is none.
cdef uint64_t gate_network_of_text(const Gate *gate, const char *address) noexcept nogil
# May a connection come in? Then it counts until gate_leave.
cdef GateAnswer gate_enter(Gate *gate, uint32_t listener_id, uint64_t network, uint64_t now_ms) noexcept nogil
cdef void gate_leave(Gate *gate, uint32_t listener_id, uint64_t network, uint64_t now_ms) noexcept nogil
