"""Questions: pages of what there is, and counters."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.commands.sessions cimport SessionCommands


cdef class ListCommands(SessionCommands):
    cdef int _ask_page(
        self, uint64_t request, uint32_t shard, uint8_t kind, tuple texts, uint64_t place=*, uint32_t limit=*,
        uint8_t flag=*, int payload_limit=*,
    ) except -1
    cdef int _ask_session_page(
        self, uint64_t request, uint8_t kind, tuple key, uint64_t place=*, uint32_t limit=*, int payload_limit=*
    ) except -1
