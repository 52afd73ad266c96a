"""Ways in: listeners, the gate before them, connections that others have accepted."""

from libc.stdint cimport uint32_t
from rookery.core.commands.port cimport Port
from rookery.core.shards.gate cimport Gate


cdef class ConnectionCommands(Port):
    cdef Gate *_gate_of(self, uint32_t listener_id) except? NULL
