"""A plan of clients and flows, laid out in memory for one broker, and freed again."""

from rookery.bench.load_state cimport Engine


cdef Engine *new_engine() except NULL
cdef int lay_engine(Engine *engine, str host, int port, plan, traffic, list kept) except -1
cdef void free_engine(Engine *engine) noexcept
