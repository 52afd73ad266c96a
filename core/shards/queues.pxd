"""CommandQueue and EventQueue: what passes between Python and one shard.

Both are bounded, carry only numbers and bytes, and are drained whole per wake-up: waking costs 15 microseconds, an
entry well under one. The event queue is bounded by what may cause events: CONNECTs that wait (PENDING_CONNECTS) and
replies to commands (COMMANDS_QUEUED).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.shards.state cimport Command, CommandQueue, Event, EventKind, EventQueue, Shard
from rookery.core.structures.bytes cimport Bytes


# A zeroed command with room for the byte strings; NULL when memory is short.
cdef Command *command_new(uint8_t kind, const Bytes *strings, uint32_t string_count) noexcept nogil
cdef Bytes command_string(const Command *command, uint32_t number) noexcept nogil
cdef void command_free(Command *command) noexcept nogil
# 0, or -1 when limit commands wait already (limit 0: no limit). Wakes the shard if it sleeps. Any thread.
cdef int command_put(Shard *shard, Command *command, uint32_t limit) noexcept nogil
# All that wait, oldest first.
cdef Command *command_take_all(Shard *shard) noexcept nogil

cdef Event *event_new(EventKind kind, uint64_t request, const Bytes *strings, uint32_t string_count) noexcept nogil
cdef Bytes event_string(const Event *event, uint32_t number) noexcept nogil
# Called by the shard; wakes the control plane.
cdef void event_put(Shard *shard, Event *event) noexcept nogil
cdef Event *event_take_all(Shard *shard) noexcept nogil
