"""What can be done to sessions from outside."""

from libc.stdint cimport uint8_t, uint64_t
from rookery.core.commands.messages cimport MessageCommands


cdef class SessionCommands(MessageCommands):
    cdef dict _asked                  # request -> session key, for the answer to find_session
    cdef int _ask_about(
        self, uint64_t request, uint8_t kind, tuple texts, uint64_t number=*, uint8_t reason_code=*
    ) except -1
