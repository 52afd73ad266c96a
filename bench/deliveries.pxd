"""What the broker sends: packets walked where they lie, messages entered into the books, handshakes gone on with."""

from rookery.bench.load_state cimport Connection, Engine


cdef int receive(Engine *engine, Connection *connection) noexcept nogil
