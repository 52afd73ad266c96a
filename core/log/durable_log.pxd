"""DurableLog: the Python face of the log, for the engine that owns it, for tools and for tests."""

from libc.stdint cimport uint8_t, uint64_t
from rookery.core.log.recovery cimport LogApply
from rookery.core.log.writer cimport Log


cdef class DurableLog:
    cdef Log log
    cdef readonly object folder
    cdef readonly object lost          # TornTail or None, after recovery
    cdef object _segments
    cdef int _descriptor
    cdef uint8_t _is_open
    # Give every record to apply; the log can be written to afterwards. Raises LogError, or what apply has raised.
    cdef int recover_into(self, LogApply apply, void *context) except -1
    cdef uint64_t _scan(self, segment, uint64_t limit, LogApply apply, void *context) except? 0
