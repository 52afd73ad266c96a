"""The way to the shards: a command is a struct that is put into the queue of one of them."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.shards.state cimport COMMANDS_QUEUED, Command, Shard, Universe
from rookery.core.structures.bytes cimport Bytes

cdef enum:
    HANDLE_SHARD_BIT = 56  # of a connection handle, see connection_handle


cdef class Port:
    cdef Universe *_universe
    cdef uint32_t _running            # shards inside run_shard
    cdef readonly int shard_count
    cdef readonly str server_id

    cdef Shard *_shard(self, uint32_t shard) except NULL
    cdef int _put(self, uint32_t shard, Command *command, uint32_t limit=*) except -1
    cdef uint32_t _owner(self, const Bytes *session_key) noexcept
    cdef int _sweep(
        self, uint64_t request, uint32_t shard, uint8_t kind, tuple texts, uint64_t number=*, uint8_t reason_code=*
    ) except -1
