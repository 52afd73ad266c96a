"""See verdicts.pxd."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from rookery.core.border.arguments cimport (
    acquire_rules, encode_additions, encode_data, encode_name, encode_text, encode_user_properties, view,
)
from rookery.core.commands.connections cimport ConnectionCommands
from rookery.core.commands.port cimport HANDLE_SHARD_BIT
from rookery.core.permissions.rule_set cimport Permissions
from rookery.core.shards.queues cimport command_new
from rookery.core.shards.state cimport (
    ADMIT_ADDITIONS, ADMIT_ATTRIBUTES, ADMIT_AUTHENTICATION_DATA, ADMIT_REASON_STRING, ADMIT_RESPONSE_INFORMATION,
    ADMIT_STRING_COUNT, ADMIT_TENANT_ID, ADMIT_USER_ID, ADMIT_USER_PROPERTIES, AUTH_DATA, AUTH_REASON_STRING,
    AUTH_STRING_COUNT, AUTH_USER_PROPERTIES, COMMAND_ADMIT, COMMAND_CHALLENGE, COMMAND_CONFIRM, COMMAND_DISCONNECT,
    COMMAND_FORGET_VERDICTS, COMMAND_REFUSE, FAREWELL_REASON_STRING, FAREWELL_SERVER_REFERENCE, FAREWELL_STRING_COUNT,
    FAREWELL_USER_PROPERTIES, Command,
)
from rookery.core.structures.atomics cimport atomic_add_u64
from rookery.core.structures.bytes cimport Bytes

from rookery.core.wire.spec import ReasonCode

# The reason codes with which the server may end a connection that it has accepted [MQTT-3.14.2-1].
_FAREWELLS = frozenset((
    ReasonCode.NORMAL_DISCONNECTION, ReasonCode.UNSPECIFIED_ERROR, ReasonCode.MALFORMED_PACKET,
    ReasonCode.PROTOCOL_ERROR, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, ReasonCode.NOT_AUTHORIZED,
    ReasonCode.SERVER_BUSY, ReasonCode.SERVER_SHUTTING_DOWN, ReasonCode.KEEP_ALIVE_TIMEOUT,
    ReasonCode.SESSION_TAKEN_OVER, ReasonCode.TOPIC_FILTER_INVALID, ReasonCode.TOPIC_NAME_INVALID,
    ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, ReasonCode.TOPIC_ALIAS_INVALID, ReasonCode.PACKET_TOO_LARGE,
    ReasonCode.MESSAGE_RATE_TOO_HIGH, ReasonCode.QUOTA_EXCEEDED, ReasonCode.ADMINISTRATIVE_ACTION,
    ReasonCode.PAYLOAD_FORMAT_INVALID, ReasonCode.RETAIN_NOT_SUPPORTED, ReasonCode.QOS_NOT_SUPPORTED,
    ReasonCode.USE_ANOTHER_SERVER, ReasonCode.SERVER_MOVED, ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    ReasonCode.CONNECTION_RATE_EXCEEDED, ReasonCode.MAXIMUM_CONNECT_TIME,
    ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
))
_REDIRECTIONS = frozenset((ReasonCode.USE_ANOTHER_SERVER, ReasonCode.SERVER_MOVED))


@cython.no_gc_clear
cdef class VerdictCommands(ConnectionCommands):
    cdef int _put_verdict(self, uint64_t connection, Command *command) except -1:
        if command != NULL:
            command.request = connection
        # As many as there are connections that wait for one: bounded by that.
        return self._put(<uint32_t> (connection >> HANDLE_SHARD_BIT), command, 0)

    def admit(
        self, uint64_t connection, *, str tenant_id, str user_id, bytes attributes=b"{}", str response_information="",
        str reason_string="", object user_properties=(), bytes authentication_data=None, Permissions permissions=None,
        uint64_t lifetime_ms=0, object message_user_properties=(), uint64_t remember_ms=0, uint64_t epoch=0,
    ):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef bytes user = encode_name(user_id, "user_id")
        cdef bytes information = encode_text(response_information, "response_information")
        cdef bytes reason = encode_text(reason_string, "reason_string")
        cdef bytes properties = encode_user_properties(user_properties)
        cdef bytes data = encode_data(authentication_data, "authentication_data")
        cdef bytes additions = encode_additions(message_user_properties)
        cdef Bytes strings[ADMIT_STRING_COUNT]
        cdef Command *command
        if not tenant:
            raise ValueError("tenant_id is empty")
        if remember_ms and (lifetime_ms or authentication_data is not None):
            raise ValueError("a verdict with a lifetime or authentication data holds for one connection")
        self._shard(<uint32_t> (connection >> HANDLE_SHARD_BIT))
        strings[ADMIT_TENANT_ID] = view(tenant)
        strings[ADMIT_USER_ID] = view(user)
        strings[ADMIT_ATTRIBUTES] = view(attributes)
        strings[ADMIT_RESPONSE_INFORMATION] = view(information)
        strings[ADMIT_REASON_STRING] = view(reason)
        strings[ADMIT_USER_PROPERTIES] = view(properties)
        strings[ADMIT_AUTHENTICATION_DATA] = view(data)
        strings[ADMIT_ADDITIONS] = view(additions)
        command = command_new(COMMAND_ADMIT, strings, ADMIT_STRING_COUNT)
        if command != NULL:
            command.flag = authentication_data is not None
            command.rules = acquire_rules(permissions)
            command.number = lifetime_ms
            command.remember_ms = remember_ms
            command.epoch = epoch
        self._put_verdict(connection, command)

    def forget_verdicts(self):
        cdef uint32_t shard
        self._shard(0)
        atomic_add_u64(&self._universe.verdict_epoch, 1)
        for shard in range(<uint32_t> self.shard_count):
            self._put(shard, command_new(COMMAND_FORGET_VERDICTS, NULL, 0), 0)

    cdef int _part(
        self, uint64_t connection, uint8_t kind, int reason_code, str reason_string, str server_reference,
        object user_properties
    ) except -1:
        cdef bytes reason = encode_text(reason_string, "reason_string")
        cdef bytes reference = encode_text(server_reference, "server_reference")
        cdef bytes properties = encode_user_properties(user_properties)
        cdef Bytes strings[FAREWELL_STRING_COUNT]
        cdef Command *command
        if reference and reason_code not in _REDIRECTIONS:
            raise ValueError(f"server_reference is given with {reason_code:#04x}, it goes with 0x9c and 0x9d only")
        self._shard(<uint32_t> (connection >> HANDLE_SHARD_BIT))
        strings[FAREWELL_REASON_STRING] = view(reason)
        strings[FAREWELL_SERVER_REFERENCE] = view(reference)
        strings[FAREWELL_USER_PROPERTIES] = view(properties)
        command = command_new(kind, strings, FAREWELL_STRING_COUNT)
        if command != NULL:
            command.reason_code = <uint8_t> reason_code
        return self._put_verdict(connection, command)

    def refuse(
        self, uint64_t connection, int reason_code, str reason_string="", *, str server_reference="",
        object user_properties=(),
    ):
        if not 0x80 <= reason_code <= 0xFF:
            raise ValueError(f"reason_code is {reason_code:#04x}, a refusal has 0x80 to 0xff")
        self._part(connection, COMMAND_REFUSE, reason_code, reason_string, server_reference, user_properties)

    def disconnect(self, uint64_t connection, int reason_code, str reason_string="", *, str server_reference=""):
        if reason_code not in _FAREWELLS:
            raise ValueError(f"reason_code is {reason_code:#04x}, which no server sends in DISCONNECT")
        self._part(connection, COMMAND_DISCONNECT, reason_code, reason_string, server_reference, ())

    cdef int _put_auth(
        self, uint64_t connection, uint8_t kind, bytes authentication_data, str reason_string, object user_properties,
        uint64_t lifetime_ms,
    ) except -1:
        cdef bytes data = encode_data(authentication_data, "authentication_data")
        cdef bytes reason = encode_text(reason_string, "reason_string")
        cdef bytes properties = encode_user_properties(user_properties)
        cdef Bytes strings[AUTH_STRING_COUNT]
        cdef Command *command
        self._shard(<uint32_t> (connection >> HANDLE_SHARD_BIT))
        strings[AUTH_DATA] = view(data)
        strings[AUTH_REASON_STRING] = view(reason)
        strings[AUTH_USER_PROPERTIES] = view(properties)
        command = command_new(kind, strings, AUTH_STRING_COUNT)
        if command != NULL:
            command.flag = authentication_data is not None
            command.number = lifetime_ms
        return self._put_verdict(connection, command)

    def challenge(
        self, uint64_t connection, bytes authentication_data, *, str reason_string="", object user_properties=(),
    ):
        self._put_auth(connection, COMMAND_CHALLENGE, authentication_data, reason_string, user_properties, 0)

    def confirm(
        self, uint64_t connection, bytes authentication_data, *, str reason_string="", object user_properties=(),
        uint64_t lifetime_ms=0,
    ):
        self._put_auth(
            connection, COMMAND_CONFIRM, authentication_data, reason_string, user_properties, lifetime_ms)
