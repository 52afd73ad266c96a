from libc.stdint cimport uint32_t

from rookery.bench.load_state cimport Engine, Flow, Goal


cdef class Load:
    cdef Engine *engine         # owned
    cdef object plan
    cdef object traffic
    cdef list kept              # objects whose memory the flows point into
    cdef str place              # host:port, for messages

    cdef Flow *retaining_flow(self) except NULL
    cdef int prepare(self, bint is_clean, uint32_t in_flight) except -1
    cdef bint pursue(self, Goal goal, double seconds) except *
    cdef int raise_fault(self) except -1
