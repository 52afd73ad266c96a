"""See queues.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from rookery.core.permissions.rule_set cimport rule_set_release
from rookery.core.sessions.message cimport message_release
from rookery.core.shards.mailbox cimport shard_wake
from rookery.core.shards.state cimport Command, Event, EventKind, Shard
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.mutex cimport mutex_lock, mutex_unlock

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int descriptor, const void *data, size_t size)


cdef uint32_t _strings_size(const Bytes *strings, uint32_t count) noexcept nogil:
    cdef uint32_t number
    cdef uint32_t size = 0
    for number in range(count):
        size += <uint32_t> strings[number].size
    return size


cdef void _copy_strings(uint8_t *out, uint32_t *sizes, const Bytes *strings, uint32_t count) noexcept nogil:
    cdef uint32_t number
    for number in range(count):
        sizes[number] = <uint32_t> strings[number].size
        if strings[number].size > 0:
            memcpy(out, strings[number].data, strings[number].size)
            out += strings[number].size


cdef Bytes _string(const uint8_t *first, const uint32_t *sizes, uint32_t number) noexcept nogil:
    cdef Bytes string
    cdef uint32_t before
    string.data = first
    for before in range(number):
        string.data += sizes[before]
    string.size = sizes[number]
    return string


cdef Command *command_new(uint8_t kind, const Bytes *strings, uint32_t string_count) noexcept nogil:
    cdef Command *command = <Command *> calloc(1, sizeof(Command) + _strings_size(strings, string_count))
    if command != NULL:
        command.kind = kind
        command.descriptor = -1
        _copy_strings(<uint8_t *> command + sizeof(Command), command.sizes, strings, string_count)
    return command


cdef Bytes command_string(const Command *command, uint32_t number) noexcept nogil:
    return _string(<const uint8_t *> command + sizeof(Command), command.sizes, number)


cdef void command_free(Command *command) noexcept nogil:
    cdef uint32_t place
    message_release(command.message)
    for place in range(command.batch_count):
        message_release(command.batch[place])
    free(command.batch)
    rule_set_release(command.rules)
    free(command.quota_limits)
    free(command)


cdef int command_put(Shard *shard, Command *command, uint32_t limit) noexcept nogil:
    mutex_lock(&shard.commands.mutex)
    if limit != 0 and shard.commands.count >= limit:
        mutex_unlock(&shard.commands.mutex)
        return -1
    command.next = NULL
    if shard.commands.last == NULL:
        shard.commands.first = command
    else:
        shard.commands.last.next = command
    shard.commands.last = command
    shard.commands.count += 1
    mutex_unlock(&shard.commands.mutex)
    shard_wake(shard)
    return 0


cdef Command *command_take_all(Shard *shard) noexcept nogil:
    cdef Command *first
    mutex_lock(&shard.commands.mutex)
    first = shard.commands.first
    shard.commands.first = NULL
    shard.commands.last = NULL
    shard.commands.count = 0
    mutex_unlock(&shard.commands.mutex)
    return first


cdef Event *event_new(EventKind kind, uint64_t request, const Bytes *strings, uint32_t string_count) noexcept nogil:
    cdef Event *event = <Event *> calloc(1, sizeof(Event) + _strings_size(strings, string_count))
    if event != NULL:
        event.kind = kind
        event.request = request
        _copy_strings(<uint8_t *> event + sizeof(Event), event.sizes, strings, string_count)
    return event


cdef Bytes event_string(const Event *event, uint32_t number) noexcept nogil:
    return _string(<const uint8_t *> event + sizeof(Event), event.sizes, number)


cdef void event_put(Shard *shard, Event *event) noexcept nogil:
    cdef uint64_t one = 1
    cdef bint was_empty
    event.next = NULL
    mutex_lock(&shard.events.mutex)
    was_empty = shard.events.last == NULL
    if was_empty:
        shard.events.first = event
    else:
        shard.events.last.next = event
    shard.events.last = event
    shard.events.count += 1
    mutex_unlock(&shard.events.mutex)
    # The control plane takes all at once, so it is told only about the first.
    if was_empty:
        write(shard.events.wake_descriptor, &one, sizeof(one))


cdef Event *event_take_all(Shard *shard) noexcept nogil:
    cdef Event *first
    mutex_lock(&shard.events.mutex)
    first = shard.events.first
    shard.events.first = NULL
    shard.events.last = NULL
    shard.events.count = 0
    mutex_unlock(&shard.events.mutex)
    return first
