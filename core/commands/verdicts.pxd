"""What the control plane decides about clients, at CONNECT and in exchanges of AUTH."""

from libc.stdint cimport uint8_t, uint64_t
from rookery.core.commands.connections cimport ConnectionCommands
from rookery.core.shards.state cimport Command


cdef class VerdictCommands(ConnectionCommands):
    cdef int _put_verdict(self, uint64_t connection, Command *command) except -1
    cdef int _part(
        self, uint64_t connection, uint8_t kind, int reason_code, str reason_string, str server_reference,
        object user_properties
    ) except -1
    cdef int _put_auth(
        self, uint64_t connection, uint8_t kind, bytes authentication_data, str reason_string, object user_properties,
        uint64_t lifetime_ms,
    ) except -1
