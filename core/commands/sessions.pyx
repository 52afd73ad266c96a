"""See sessions.pxd."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from rookery.core.border.arguments cimport check_farewell, encode_name, view
from rookery.core.commands.messages cimport MessageCommands
from rookery.core.shards.queues cimport command_new
from rookery.core.shards.state cimport (
    COMMAND_FIND_SESSION, COMMAND_KILL, COMMAND_SUBSCRIBE, COMMAND_SWEEP_CONNECTIONS, COMMAND_SWEEP_SESSIONS,
    COMMAND_UNSUBSCRIBE, Command,
)
from rookery.core.structures.bytes cimport Bytes


@cython.no_gc_clear
cdef class SessionCommands(MessageCommands):
    def find_session(self, uint64_t request, *, str tenant_id, str user_id, str client_id):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef bytes user = encode_name(user_id, "user_id")
        cdef bytes client = encode_name(client_id, "client_id")
        cdef Bytes strings[3]
        cdef Command *command
        cdef uint32_t shard
        self._shard(0)
        strings[0] = view(tenant)
        strings[1] = view(user)
        strings[2] = view(client)
        shard = self._owner(strings)
        command = command_new(COMMAND_FIND_SESSION, strings, 3)
        if command != NULL:
            command.request = request
        self._asked[request] = (tenant_id, user_id, client_id)
        try:
            self._put(shard, command)
        except BaseException:
            del self._asked[request]
            raise

    cdef int _ask_about(
        self, uint64_t request, uint8_t kind, tuple texts, uint64_t number=0, uint8_t reason_code=0
    ) except -1:
        """Send a command about one session; texts begin with its key."""
        cdef list encoded = [text.encode() for text in texts]
        cdef Bytes strings[5]
        cdef uint32_t index
        cdef Command *command
        self._shard(0)
        for index in range(<uint32_t> len(encoded)):
            encode_name(texts[index], "text")
            strings[index] = view(encoded[index])
        command = command_new(kind, strings, <uint32_t> len(encoded))
        if command != NULL:
            command.request = request
            command.number = number
            command.reason_code = reason_code
        self._put(self._owner(strings), command)
        return 0

    def kill(
        self, uint64_t request, *, str tenant_id, str user_id, str client_id, int reason_code=0x98,
        str reason_string="", str server_reference="",
    ):
        self._ask_about(
            request, COMMAND_KILL, (tenant_id, user_id, client_id, reason_string, server_reference), 0,
            check_farewell(reason_code))

    def subscribe(
        self, uint64_t request, *, str tenant_id, str user_id, str client_id, str topic_filter, int qos=0,
    ):
        if not 0 <= qos <= 2:
            raise ValueError(f"qos is {qos}, it must be 0, 1 or 2")
        self._ask_about(request, COMMAND_SUBSCRIBE, (tenant_id, user_id, client_id, topic_filter), <uint64_t> qos)

    def unsubscribe(self, uint64_t request, *, str tenant_id, str user_id, str client_id, str topic_filter):
        self._ask_about(request, COMMAND_UNSUBSCRIBE, (tenant_id, user_id, client_id, topic_filter))

    def kill_all(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str user_id="", int reason_code=0x98,
        str reason_string="", str server_reference="",
    ):
        self._sweep(
            request, shard, COMMAND_SWEEP_CONNECTIONS, (tenant_id, user_id, reason_string, server_reference), 0,
            check_farewell(reason_code))

    def end_sessions(self, uint64_t request, uint32_t shard, *, str tenant_id, uint32_t offline_s):
        self._sweep(request, shard, COMMAND_SWEEP_SESSIONS, (tenant_id, "", "", ""), offline_s)
