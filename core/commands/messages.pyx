"""See messages.pxd."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc

from rookery.core.border.arguments cimport encode_name, make_message, view
from rookery.core.commands.tenants cimport TenantCommands
from rookery.core.sessions.message cimport Message
from rookery.core.shards.queues cimport command_free, command_new
from rookery.core.shards.registry cimport home_shard_of
from rookery.core.shards.state cimport (
    COMMAND_PUBLISH, COMMAND_PUBLISH_BATCH, COMMAND_RETAIN, COMMAND_SWEEP_RETAINED, Command,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes


@cython.no_gc_clear
cdef class MessageCommands(TenantCommands):
    def publish(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str topic, bytes payload, int qos=0,
        bint retain=False, object message_expiry_interval=None,
    ):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef bytes name = encode_name(topic, "topic")
        cdef Bytes strings[1]
        cdef Command *command
        self._shard(shard)
        strings[0] = view(tenant)
        command = command_new(COMMAND_PUBLISH, strings, 1)
        if command != NULL:
            command.request = request
            command.number = 0 if message_expiry_interval is None else message_expiry_interval
            command.message = make_message(name, payload, qos, retain)
            if command.message == NULL:
                command_free(command)
                command = NULL
        self._put(shard, command)

    def publish_batch(self, uint64_t request, uint32_t shard, *, str tenant_id, object messages):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef Bytes strings[1]
        cdef Command *command
        cdef Message *message
        self._shard(shard)
        strings[0] = view(tenant)
        command = command_new(COMMAND_PUBLISH_BATCH, strings, 1)
        if command == NULL:
            raise MemoryError
        try:
            command.batch = <Message **> calloc(len(messages) + 1, sizeof(Message *))
            if command.batch == NULL:
                raise MemoryError
            for topic, payload, qos, retain, message_expiry_interval in messages:
                message = make_message(encode_name(topic, "topic"), payload, qos, retain)
                if message == NULL:
                    raise MemoryError
                message.expires_at_ms = 0 if message_expiry_interval is None else message_expiry_interval * 1000
                command.batch[command.batch_count] = message
                command.batch_count += 1
            command.request = request
        except BaseException:
            command_free(command)
            raise
        self._put(shard, command)

    def retain(
        self, uint64_t request, *, str tenant_id, str topic, bytes payload, int qos=0,
        object message_expiry_interval=None,
    ):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef bytes name = encode_name(topic, "topic")
        cdef Bytes strings[1]
        cdef Command *command
        self._shard(0)
        strings[0] = view(tenant)
        command = command_new(COMMAND_RETAIN, strings, 1)
        if command != NULL:
            command.request = request
            command.number = 0 if message_expiry_interval is None else message_expiry_interval
            command.message = make_message(name, payload, qos, True)
            if command.message == NULL:
                command_free(command)
                command = NULL
        self._put(
            home_shard_of(hash_bytes(&self._universe.key, strings[0].data, strings[0].size), self.shard_count), command)

    def remove_retained(self, uint64_t request, uint32_t shard, *, str tenant_id, uint32_t age_s):
        self._sweep(request, shard, COMMAND_SWEEP_RETAINED, (tenant_id, "", "", ""), age_s)
