"""See port.pxd."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from rookery.core.border.arguments cimport encode_name, view
from rookery.core.shards.ownership cimport owner_shard, session_key_hash
from rookery.core.shards.queues cimport command_free, command_new, command_put
from rookery.core.shards.state cimport COMMANDS_QUEUED, Command, Shard
from rookery.core.structures.bytes cimport Bytes

from rookery.core.errors import EngineBusy


@cython.no_gc_clear
cdef class Port:
    cdef Shard *_shard(self, uint32_t shard) except NULL:
        if self._universe == NULL:
            raise RuntimeError("the engine is closed")
        if shard >= self._universe.shard_count:
            raise ValueError(f"shard is {shard}, there are {self._universe.shard_count}")
        return self._universe.shards[shard]

    cdef int _put(self, uint32_t shard, Command *command, uint32_t limit=COMMANDS_QUEUED) except -1:
        if command == NULL:
            raise MemoryError
        if command_put(self._universe.shards[shard], command, limit) != 0:
            command_free(command)
            raise EngineBusy(f"{limit} commands wait for shard {shard}")
        return 0

    cdef uint32_t _owner(self, const Bytes *session_key) noexcept:
        """The shard of the session of tenant, user and client identifier. The engine is open."""
        cdef Shard *any_shard = self._universe.shards[0]
        return owner_shard(any_shard, session_key[0], session_key_hash(any_shard, session_key[1], session_key[2]))

    cdef int _sweep(
        self, uint64_t request, uint32_t shard, uint8_t kind, tuple texts, uint64_t number=0, uint8_t reason_code=0
    ) except -1:
        cdef list encoded = [encode_name(text, "text") for text in texts]
        cdef Bytes strings[4]  # SWEEP_STRING_COUNT
        cdef uint32_t index
        cdef Command *command
        self._shard(shard)
        for index in range(4):
            strings[index] = view(encoded[index])
        command = command_new(kind, strings, 4)
        if command != NULL:
            command.request = request
            command.number = number
            command.reason_code = reason_code
        self._put(shard, command)
        return 0
