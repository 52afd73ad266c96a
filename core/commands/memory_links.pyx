"""See memory_links.pxd."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from rookery.core.commands.lists cimport ListCommands
from rookery.core.shards.mailbox cimport shard_wake
from rookery.core.shards.queues cimport command_new
from rookery.core.shards.state cimport COMMAND_LINK, Command, MemoryLink
from rookery.core.shards.transport cimport memory_link_new
from rookery.core.structures.mutex cimport mutex_lock, mutex_unlock


@cython.no_gc_clear
cdef class MemoryLinkCommands(ListCommands):
    def connect_memory(self, uint32_t shard=0):
        cdef MemoryLink *link
        cdef Command *command
        self._shard(shard)
        link = memory_link_new()
        command = command_new(COMMAND_LINK, NULL, 0)
        if link == NULL or command == NULL:
            raise MemoryError
        command.memory = link
        self._put(shard, command)
        number = next(self._link_numbers)
        self._links[number] = <size_t> link
        return number

    cdef MemoryLink *_link(self, object number) except NULL:
        return <MemoryLink *> <size_t> self._links[number]

    def feed(self, object link, bytes data):
        cdef MemoryLink *memory = self._link(link)
        cdef uint32_t shard
        cdef uint8_t *incoming
        mutex_lock(&memory.mutex)
        incoming = <uint8_t *> realloc(memory.incoming, memory.incoming_size + len(data) + 1)
        if incoming != NULL:
            memory.incoming = incoming
            memcpy(incoming + memory.incoming_size, PyBytes_AS_STRING(data), len(data))
            memory.incoming_size += len(data)
        mutex_unlock(&memory.mutex)
        if incoming == NULL:
            raise MemoryError
        # Whichever shard it lives on by now.
        for shard in range(<uint32_t> self.shard_count):
            shard_wake(self._universe.shards[shard])

    def collect(self, object link):
        cdef MemoryLink *memory = self._link(link)
        mutex_lock(&memory.mutex)
        try:
            return (<const char *> memory.outgoing)[:memory.outgoing_size] if memory.outgoing_size else b""
        finally:
            memory.outgoing_size = 0
            mutex_unlock(&memory.mutex)

    def hang_up(self, object link):
        cdef MemoryLink *memory = self._link(link)
        cdef uint32_t shard
        mutex_lock(&memory.mutex)
        memory.is_hung_up = 1
        mutex_unlock(&memory.mutex)
        for shard in range(<uint32_t> self.shard_count):
            shard_wake(self._universe.shards[shard])

    def is_link_open(self, object link):
        return not self._link(link).is_closed
