"""One connection: what it says to the broker, how it comes and how it goes."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from rookery.bench.load_state cimport Buffer, Connection, Engine, Fault

cdef enum:
    DIGITS = 8                  # of the client's number; the same as NUMBER_DIGITS


cdef enum PacketKind:
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBACK = 9
    PINGRESP = 13
    DISCONNECT = 14


cdef int fail(Engine *engine, Fault fault, int detail, const Connection *connection) noexcept nogil
cdef int reserve(Engine *engine, Connection *connection, Buffer *buffer, uint32_t size) noexcept nogil
cdef int say(Engine *engine, Connection *connection, const uint8_t *data, uint32_t size) noexcept nogil
cdef void watch(Engine *engine, Connection *connection, uint32_t events, int operation) noexcept nogil
cdef int start_connection(Engine *engine, Connection *connection) noexcept nogil
cdef int start_connections(Engine *engine) noexcept nogil
cdef int take_end(Engine *engine, Connection *connection, int reason) noexcept nogil
cdef void hang_up(Engine *engine, Connection *connection) noexcept nogil


# Here, so that the loops over packets hold them.

cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <uint64_t> moment.tv_sec * 1000000000 + <uint64_t> moment.tv_nsec


cdef inline void mark_dirty(Engine *engine, Connection *connection) noexcept nogil:
    if not connection.is_dirty:
        connection.is_dirty = True
        engine.dirty[engine.dirty_count] = connection
        engine.dirty_count += 1


cdef inline int reply(Engine *engine, Connection *connection, uint8_t first, uint32_t packet_id) noexcept nogil:
    cdef uint8_t *data
    if connection.out.end + 4 > connection.out.capacity and reserve(engine, connection, &connection.out, 4) < 0:
        return -1
    data = connection.out.data + connection.out.end
    data[0] = first
    data[1] = 2
    data[2] = <uint8_t> (packet_id >> 8)
    data[3] = <uint8_t> packet_id
    connection.out.end += 4
    mark_dirty(engine, connection)
    return 0
