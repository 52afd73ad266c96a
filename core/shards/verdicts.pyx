"""See verdicts.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from rookery.core.permissions.rule_set cimport rule_set_acquire, rule_set_release
from rookery.core.shards.queues cimport command_new, command_string
from rookery.core.shards.state cimport (
    ADMIT_STRING_COUNT, COMMAND_ADMIT, VERDICTS_REMEMBERED, Command, Connection, Shard, Verdict,
)
from rookery.core.structures.atomics cimport atomic_load_u64
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey, hash_bytes
from rookery.core.wire.packets cimport ConnectPacket

cdef enum:
    _KEY_PARTS = 3


cdef uint64_t _half(const HashKey *key, const Connection *connection, const ConnectPacket *packet) noexcept nogil:
    """64 bits of what the verdict is about. An empty name is another one than none."""
    cdef uint64_t parts[_KEY_PARTS]
    parts[0] = connection.listener_id
    parts[1] = hash_bytes(key, packet.username.data, packet.username.size) if packet.has_username else 0
    parts[2] = hash_bytes(key, packet.password.data, packet.password.size) if packet.has_password else 0
    return hash_bytes(key, <const uint8_t *> parts, sizeof(parts))


cdef inline bint _is_asked_for_alone(const Connection *connection, const ConnectPacket *packet) noexcept nogil:
    """Is there more to the question than such a verdict is about: an exchange, a certificate?"""
    return packet.has_authentication_method or connection.ticket != 0


cdef void _free(Verdict *verdict) noexcept nogil:
    if verdict != NULL:
        rule_set_release(verdict.rules)
        free(verdict)


cdef void _copy_strings(Verdict *verdict, const Command *command) noexcept nogil:
    cdef uint8_t *out = <uint8_t *> verdict + sizeof(Verdict)
    cdef uint32_t number
    cdef Bytes string
    for number in range(ADMIT_STRING_COUNT):
        string = command_string(command, number)
        verdict.sizes[number] = <uint32_t> string.size
        if string.size > 0:
            memcpy(out, string.data, string.size)
            out += string.size


cdef void verdict_keep(Connection *connection, const ConnectPacket *packet, const Command *command) noexcept nogil:
    cdef Shard *shard = connection.shard
    cdef Verdict *verdict
    cdef uint64_t first, size
    cdef uint32_t number
    if command.remember_ms == 0 or _is_asked_for_alone(connection, packet):
        return
    if shard.verdicts == NULL:
        shard.verdicts = <Verdict **> calloc(VERDICTS_REMEMBERED, sizeof(Verdict *))
        if shard.verdicts == NULL:
            return
    size = sizeof(Verdict)
    for number in range(ADMIT_STRING_COUNT):
        size += command.sizes[number]
    verdict = <Verdict *> malloc(size)
    if verdict == NULL:
        return
    first = _half(&shard.universe.verdict_keys[0], connection, packet)
    verdict.key[0] = first
    verdict.key[1] = _half(&shard.universe.verdict_keys[1], connection, packet)
    verdict.epoch = command.epoch
    verdict.expires_at_ms = shard.world.now_ms + command.remember_ms
    verdict.rules = command.rules
    if verdict.rules != NULL:
        rule_set_acquire(verdict.rules)
    _copy_strings(verdict, command)
    _free(shard.verdicts[first % VERDICTS_REMEMBERED])
    shard.verdicts[first % VERDICTS_REMEMBERED] = verdict


cdef Command *verdict_recall(Connection *connection, const ConnectPacket *packet) noexcept nogil:
    cdef Shard *shard = connection.shard
    cdef Bytes strings[ADMIT_STRING_COUNT]
    cdef const uint8_t *data
    cdef Verdict *verdict
    cdef Command *command
    cdef uint64_t first
    cdef uint32_t number
    if shard.verdicts == NULL or _is_asked_for_alone(connection, packet):
        return NULL
    first = _half(&shard.universe.verdict_keys[0], connection, packet)
    verdict = shard.verdicts[first % VERDICTS_REMEMBERED]
    if (
        verdict == NULL
        or verdict.key[0] != first
        or verdict.key[1] != _half(&shard.universe.verdict_keys[1], connection, packet)
        or verdict.epoch != atomic_load_u64(&shard.universe.verdict_epoch)
        or verdict.expires_at_ms <= shard.world.now_ms
    ):
        return NULL
    data = <const uint8_t *> verdict + sizeof(Verdict)
    for number in range(ADMIT_STRING_COUNT):
        strings[number].data = data
        strings[number].size = verdict.sizes[number]
        data += verdict.sizes[number]
    command = command_new(COMMAND_ADMIT, strings, ADMIT_STRING_COUNT)
    if command == NULL:
        return NULL
    command.rules = verdict.rules
    if command.rules != NULL:
        rule_set_acquire(command.rules)
    shard.verdicts_recalled += 1
    return command


cdef void verdicts_forget(Shard *shard) noexcept nogil:
    cdef uint32_t place
    if shard.verdicts == NULL:
        return
    for place in range(VERDICTS_REMEMBERED):
        _free(shard.verdicts[place])
    free(shard.verdicts)
    shard.verdicts = NULL
