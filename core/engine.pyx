"""Engine: the Python face of the core. What server and api may call; engine.pyi has the signatures.

Methods put commands into the queues of shards and return at once; answers and requests come back as the dataclasses
of rookery.core.events from take_events. run_shard is the one method that stays: it gives the GIL up and turns until
the shard has stopped.
"""

import itertools
import os
import time

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from rookery.core.permissions.rule_set cimport Permissions, RuleSet, rule_set_acquire
from rookery.core.sessions.message cimport Message, Publication, message_new
from rookery.core.sessions.notices cimport NOTICE_KIND_COUNT, Notice, notice_string, notice_take
from rookery.core.sessions.settings cimport Settings
from rookery.core.shards.admission cimport owner_shard, session_key_hash
from rookery.core.shards.mailbox cimport shard_wake
from rookery.core.shards.queues cimport (
    command_free, command_new, command_put, event_string, event_take_all,
)
from rookery.core.shards.registry cimport home_shard_of, registry_clear, registry_init
from rookery.core.shards.shard cimport shard_free, shard_new
from rookery.core.shards.state cimport (
    ADMIT_ATTRIBUTES, ADMIT_AUTHENTICATION_DATA, ADMIT_REASON_STRING, ADMIT_RESPONSE_INFORMATION, ADMIT_STRING_COUNT,
    ADMIT_TENANT_ID, ADMIT_USER_ID, ADMIT_USER_PROPERTIES, AUTH_DATA, AUTH_REASON_STRING, AUTH_STRING_COUNT,
    AUTH_USER_PROPERTIES, COMMANDS_QUEUED, COMMAND_ADMIT, COMMAND_ADOPT, COMMAND_CHALLENGE, COMMAND_CONFIGURE,
    COMMAND_CONFIRM, COMMAND_DISCONNECT, COMMAND_FIND_SESSION, COMMAND_KILL, COMMAND_LINK, COMMAND_LISTEN,
    COMMAND_OBSERVE, COMMAND_PUBLISH, COMMAND_REFUSE, COMMAND_REPLACE_PERMISSIONS, COMMAND_RETAIN,
    COMMAND_SET_PERMISSIONS, COMMAND_STATISTICS, COMMAND_STOP, COMMAND_STOP_LISTENING, COMMAND_SUBSCRIBE,
    COMMAND_SWEEP_CONNECTIONS, COMMAND_SWEEP_RETAINED, COMMAND_SWEEP_SESSIONS, COMMAND_UNSUBSCRIBE, CONNECT_CLIENT_ID,
    CONNECT_DATA, CONNECT_HAS_DATA, CONNECT_HAS_METHOD, CONNECT_HAS_PASSWORD, CONNECT_HAS_USERNAME, CONNECT_HAS_WILL,
    CONNECT_IS_CLEAN_START, CONNECT_IS_WILL_RETAINED, CONNECT_METHOD, CONNECT_PASSWORD, CONNECT_PEER,
    CONNECT_PROPERTIES, CONNECT_USERNAME, CONNECT_WANTS_RESPONSE_INFORMATION, CONNECT_WILL_QOS_SHIFT,
    CONNECT_WILL_TOPIC, EVENT_AUTHENTICATION_ABANDONED, EVENT_AUTH_RECEIVED, EVENT_CONNECT_REQUESTED, EVENT_NO_SESSION,
    EVENT_NUMBER, EVENT_PUBLISHED, EVENT_REAUTHENTICATION_REQUESTED, EVENT_SESSION, EVENT_STATISTICS, EVENT_STOPPED,
    FAREWELL_REASON_STRING, FAREWELL_SERVER_REFERENCE, FAREWELL_STRING_COUNT, FAREWELL_USER_PROPERTIES,
    REAUTHENTICATION_CLIENT_ID, REAUTHENTICATION_DATA, REAUTHENTICATION_METHOD, REAUTHENTICATION_PEER,
    REAUTHENTICATION_PROPERTIES, REAUTHENTICATION_TENANT_ID, REAUTHENTICATION_USER_ID, RECEIVED_DATA, RECEIVED_HAS_DATA,
    RECEIVED_HAS_REASON_STRING, RECEIVED_PROPERTIES, RECEIVED_REASON_STRING, Command, Event, MemoryLink, Shard,
    Universe,
)
from rookery.core.shards.transport cimport memory_link_new, memory_link_release
from rookery.core.shards.turn cimport clock_ms, shard_run, shard_turn
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes
from rookery.core.structures.mutex cimport mutex_lock, mutex_unlock
from rookery.core.structures.reclaim cimport reclaim_free, reclaim_new
from rookery.core.wire.decode cimport next_user_property
from rookery.core.wire.spec cimport PROPERTY_USER_PROPERTY

from rookery.core.events import (
    AuthenticationAbandoned, AuthReceived, ConnectRequested, PublishOutcome, ReauthenticationRequested, Reply,
    SessionInfo, ShardStatistics, ShardStopped,
)
from rookery.core.notices import Notice as _Notice
from rookery.core.notices import NoticeKind
from rookery.core.settings import TenantSettings
from rookery.core.wire.spec import ReasonCode

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int descriptor, void *data, size_t size)

cdef enum:
    _HANDLE_SHARD_BIT = 56     # of a connection handle, see connection_handle
    _SHARDS_MAXIMUM = 64       # bits of a shard mask
    _STRING_SIZE_MAXIMUM = 65535
    _USER_PROPERTIES_SIZE_MAXIMUM = 65536  # bytes of what the control plane may give a packet, encoded

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


class EngineBusy(Exception):
    """The command queue of a shard is full; nothing was done."""


cdef Bytes _view(bytes data):
    """Borrows: data must stay alive."""
    cdef Bytes string
    string.data = <const uint8_t *> PyBytes_AS_STRING(data)
    string.size = PyBytes_GET_SIZE(data)
    return string


cdef bytes _name(str text, str what):
    cdef bytes encoded = text.encode()
    if len(encoded) > _STRING_SIZE_MAXIMUM:
        raise ValueError(f"{what} has {len(encoded)} bytes, the limit is {_STRING_SIZE_MAXIMUM}")
    return encoded


cdef bytes _text(str text, str what):
    """A string of a packet [MQTT5 1.5.4]."""
    if "\0" in text:
        raise ValueError(f"{what} holds U+0000 at {text.index(chr(0))}")
    return _name(text, what)


cdef bytes _data(bytes data, str what):
    """Binary data of a packet [MQTT5 1.5.6]; None is absent, as the flag of the command says."""
    if data is None:
        return b""
    if len(data) > _STRING_SIZE_MAXIMUM:
        raise ValueError(f"{what} has {len(data)} bytes, the limit is {_STRING_SIZE_MAXIMUM}")
    return data


cdef bytes _user_properties(object pairs):
    """As in a packet: identifier, name, value, one after the other [MQTT5 2.2.2]."""
    cdef list encoded = []
    for name, value in pairs:
        encoded.append(bytes((PROPERTY_USER_PROPERTY,)))
        for text in (name, value):
            string = _text(text, "a user property")
            encoded.append(len(string).to_bytes(2, "big"))
            encoded.append(string)
    joined = b"".join(encoded)
    if len(joined) > _USER_PROPERTIES_SIZE_MAXIMUM:
        raise ValueError(f"user_properties take {len(joined)} bytes, the limit is {_USER_PROPERTIES_SIZE_MAXIMUM}")
    return joined


cdef tuple _pairs_taken(const Event *event, uint32_t number):
    cdef Bytes rest = event_string(event, number)
    cdef Bytes name, value
    cdef list pairs = []
    while next_user_property(&rest, &name, &value):
        pairs.append((
            (<const char *> name.data)[:name.size].decode(), (<const char *> value.data)[:value.size].decode()))
    return tuple(pairs)


cdef RuleSet *_acquired(Permissions permissions) noexcept:
    if permissions is None:
        return NULL
    rule_set_acquire(permissions.compiled)
    return permissions.compiled


cdef bytes _taken(const Event *event, uint32_t number):
    cdef Bytes string = event_string(event, number)
    return (<const char *> string.data)[:string.size]


cdef void _compile(object settings, Settings *out) except *:
    """The settings of a tenant as the core reads them. Values beyond what the core can count mean no limit."""
    memset(out, 0, sizeof(Settings))
    out.topic_limits.topic_size_maximum = <uint16_t> min(settings.max_topic_length, 65535)
    out.topic_limits.level_count_maximum = <uint16_t> min(settings.max_topic_levels, 65535)
    out.topic_limits.level_size_maximum = <uint16_t> min(settings.max_topic_level_length, 65535)
    out.mqtt3_enabled = settings.mqtt3_enabled
    out.mqtt4_enabled = settings.mqtt4_enabled
    out.mqtt5_enabled = settings.mqtt5_enabled
    out.force_transient = settings.force_transient
    out.payload_format_validation_enabled = settings.payload_format_validation_enabled
    out.retain_enabled = settings.retain_enabled
    out.wildcard_subscription_enabled = settings.wildcard_subscription_enabled
    out.subscription_identifier_enabled = settings.subscription_identifier_enabled
    out.shared_subscription_enabled = settings.shared_subscription_enabled
    out.maximum_qos = settings.maximum_qos
    out.qos0_drop_oldest = settings.qos0_drop_oldest
    out.debug_mode_enabled = settings.debug_mode_enabled
    out.no_lwt_when_server_shutting_down = settings.no_lwt_when_server_shutting_down
    out.max_topic_alias = settings.max_topic_alias
    out.receiving_maximum = settings.receiving_maximum
    out.min_keep_alive_seconds = settings.min_keep_alive_seconds
    out.max_topic_filters_per_sub = settings.max_topic_filters_per_sub
    out.max_topic_filters_per_inbox = settings.max_topic_filters_per_inbox
    out.max_shared_group_members = settings.max_shared_group_members
    out.max_group_fanout = settings.max_group_fanout
    out.max_last_will_bytes = settings.max_last_will_bytes
    out.max_user_payload_bytes = settings.max_user_payload_bytes
    out.max_session_expiry_seconds = settings.max_session_expiry_seconds
    out.min_session_expiry_seconds = settings.min_session_expiry_seconds
    out.session_inbox_size = settings.session_inbox_size
    out.retain_message_match_limit = settings.retain_message_match_limit
    out.min_send_per_sec = settings.min_send_per_sec
    out.max_resend_times = settings.max_resend_times
    out.resend_timeout_seconds = settings.resend_timeout_seconds
    out.in_bound_bandwidth = settings.in_bound_bandwidth
    out.out_bound_bandwidth = settings.out_bound_bandwidth
    out.msg_pub_per_sec = settings.msg_pub_per_sec


cdef object _session_info(const Event *event, tuple session_key):
    tenant_id, user_id, client_id = session_key
    return SessionInfo(
        tenant_id=tenant_id,
        user_id=user_id,
        client_id=client_id,
        protocol_version=event.flags[0],
        is_online=bool(event.flags[1]),
        is_persistent=bool(event.flags[2]),
        channel_id=f"{event.numbers[0]:016x}" if event.flags[1] else "",
        peer=_taken(event, 1).decode(),
        attributes=_taken(event, 0),
        subscription_count=event.numbers[1],
        inbox_count=event.numbers[2],
        inflight_count=event.numbers[3],
        session_expiry_interval=event.numbers[4],
        keep_alive=event.numbers[5],
        connected_at_ms=event.numbers[6],
        detached_at_ms=None if event.flags[1] else event.numbers[7],
    )


cdef object _connect_requested(const Event *event):
    cdef uint64_t flags = event.numbers[3]
    return ConnectRequested(
        connection=event.request,
        listener_id=event.numbers[0],
        peer=_taken(event, CONNECT_PEER).decode(),
        protocol_version=event.flags[0],
        client_id=_taken(event, CONNECT_CLIENT_ID).decode(),
        username=_taken(event, CONNECT_USERNAME).decode() if flags & CONNECT_HAS_USERNAME else None,
        password=_taken(event, CONNECT_PASSWORD) if flags & CONNECT_HAS_PASSWORD else None,
        clean_start=bool(flags & CONNECT_IS_CLEAN_START),
        keep_alive=event.numbers[1],
        session_expiry_interval=event.numbers[2],
        will_topic=_taken(event, CONNECT_WILL_TOPIC).decode() if flags & CONNECT_HAS_WILL else None,
        will_qos=flags >> CONNECT_WILL_QOS_SHIFT & 3,
        will_retain=bool(flags & CONNECT_IS_WILL_RETAINED),
        request_response_information=bool(flags & CONNECT_WANTS_RESPONSE_INFORMATION),
        user_properties=_pairs_taken(event, CONNECT_PROPERTIES),
        authentication_method=_taken(event, CONNECT_METHOD).decode() if flags & CONNECT_HAS_METHOD else None,
        authentication_data=_taken(event, CONNECT_DATA) if flags & CONNECT_HAS_DATA else None,
    )


cdef object _auth_received(const Event *event):
    cdef uint8_t flags = event.flags[0]
    return AuthReceived(
        connection=event.request,
        authentication_data=_taken(event, RECEIVED_DATA) if flags & RECEIVED_HAS_DATA else None,
        reason_string=_taken(event, RECEIVED_REASON_STRING).decode() if flags & RECEIVED_HAS_REASON_STRING else None,
        user_properties=_pairs_taken(event, RECEIVED_PROPERTIES),
    )


cdef object _reauthentication_requested(const Event *event):
    return ReauthenticationRequested(
        connection=event.request,
        listener_id=event.numbers[0],
        peer=_taken(event, REAUTHENTICATION_PEER).decode(),
        protocol_version=5,
        client_id=_taken(event, REAUTHENTICATION_CLIENT_ID).decode(),
        tenant_id=_taken(event, REAUTHENTICATION_TENANT_ID).decode(),
        user_id=_taken(event, REAUTHENTICATION_USER_ID).decode(),
        authentication_method=_taken(event, REAUTHENTICATION_METHOD).decode(),
        authentication_data=_taken(event, REAUTHENTICATION_DATA) if event.flags[0] & RECEIVED_HAS_DATA else None,
        user_properties=_pairs_taken(event, REAUTHENTICATION_PROPERTIES),
    )


cdef object _statistics(const Event *event, uint32_t shard):
    return ShardStatistics(
        shard=shard,
        connections=event.numbers[0],
        sessions=event.numbers[1],
        tenants=event.numbers[2],
        subscriptions=event.numbers[3],
        retained_messages=event.numbers[4],
        messages_received=event.numbers[5],
        messages_sent=event.numbers[6],
        messages_dropped=event.numbers[7],
        bytes_received=event.numbers[8],
        bytes_sent=event.numbers[9],
        turns=event.numbers[10],
        actions_denied=event.numbers[11],
    )


cdef str _words(const Notice *notice, uint32_t number):
    cdef Bytes string = notice_string(notice, number)
    return (<const char *> string.data)[:string.size].decode("utf-8", "backslashreplace")


cdef object _noticed(const Notice *notice, uint64_t wall_offset_ms):
    return _Notice(
        NoticeKind(notice.kind), notice.at_ms + wall_offset_ms, _words(notice, 0), _words(notice, 1),
        _words(notice, 2), _words(notice, 3), _words(notice, 4),
        (notice.numbers[0], notice.numbers[1], notice.numbers[2], notice.numbers[3]))


cdef Message *_message(bytes topic, bytes payload, int qos, bint retain) except? NULL:
    """One reference; NULL when memory is short."""
    cdef Publication publication
    if not 0 <= qos <= 2:
        raise ValueError(f"qos is {qos}, it must be 0, 1 or 2")
    memset(&publication, 0, sizeof(publication))
    publication.topic = _view(topic)
    publication.payload = _view(payload)
    publication.qos = <uint8_t> qos
    publication.retain = retain
    return message_new(&publication)


cdef uint8_t _farewell(int reason_code) except? 0:
    if not 0x80 <= reason_code <= 0xFF:
        raise ValueError(f"reason_code is {reason_code:#04x}, a farewell has 0x80 to 0xff")
    return <uint8_t> reason_code


# A cycle that is collected must not take the fields away before __dealloc__ has read them.
@cython.no_gc_clear
cdef class Engine:
    """All shards of one process. See engine.pyi."""

    cdef Universe *_universe
    cdef uint32_t _running            # shards inside run_shard
    cdef dict _links                  # number -> address of a MemoryLink
    cdef object _link_numbers
    cdef dict _asked                  # request -> session key, for the answer to find_session
    cdef readonly int shard_count
    cdef readonly str server_id

    def __cinit__(self, *, int shard_count=1, str server_id="", object default_settings=None):
        cdef bytes seed = os.urandom(16)
        cdef uint32_t index
        if not 1 <= shard_count <= _SHARDS_MAXIMUM:
            raise ValueError(f"shard_count is {shard_count}, it must be 1 to {_SHARDS_MAXIMUM}")
        self.shard_count = shard_count
        self.server_id = server_id
        self._links = {}
        self._link_numbers = itertools.count(1)
        self._asked = {}
        self._universe = <Universe *> calloc(1, sizeof(Universe))
        if self._universe == NULL:
            raise MemoryError
        registry_init(&self._universe.registry)
        memcpy(&self._universe.key, PyBytes_AS_STRING(seed), 16)
        self._universe.wall_offset_ms = time.time_ns() // 1_000_000 - clock_ms()
        _compile(default_settings or TenantSettings(), &self._universe.default_settings)
        self._universe.reclaim = reclaim_new(shard_count)
        self._universe.shards = <Shard **> calloc(shard_count, sizeof(Shard *))
        if self._universe.reclaim == NULL or self._universe.shards == NULL:
            raise MemoryError
        self._universe.shard_count = shard_count
        for index in range(<uint32_t> shard_count):
            self._universe.shards[index] = shard_new(self._universe, index)
            if self._universe.shards[index] == NULL:
                raise OSError("a shard cannot be made: out of memory or of file descriptors")

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        cdef uint32_t index
        cdef Universe *universe = self._universe
        if universe == NULL:
            return
        self._universe = NULL
        for number in tuple(self._links):
            memory_link_release(<MemoryLink *> <size_t> self._links.pop(number))
        if universe.shards != NULL:
            for index in range(universe.shard_count):
                if universe.shards[index] != NULL:
                    shard_free(universe.shards[index])
        # Everything that was unlinked is released before what holds it.
        if universe.reclaim != NULL:
            reclaim_free(universe.reclaim)
        registry_clear(&universe.registry)
        free(universe.shards)
        free(universe)

    def close(self):
        """Free everything. No shard may run."""
        if self._running:
            raise RuntimeError(f"{self._running} shards are still running")
        self._free()

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

    # Running

    def run_shard(self, uint32_t shard):
        cdef Shard *running = self._shard(shard)
        self._running += 1
        try:
            with nogil:
                shard_run(running)
        finally:
            self._running -= 1

    def turn(self, uint32_t shard, uint64_t now_ms):
        cdef Shard *turning = self._shard(shard)
        cdef bint goes_on
        with nogil:
            goes_on = shard_turn(turning, now_ms)
        return goes_on

    def stop(self, uint64_t grace_ms=3000):
        cdef uint32_t shard
        cdef Command *command
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_STOP, NULL, 0)
            if command == NULL:
                raise MemoryError
            command.number = grace_ms
            self._put(shard, command, 0)

    # Events

    def event_descriptor(self, uint32_t shard):
        return self._shard(shard).events.wake_descriptor

    def take_events(self, uint32_t shard):
        cdef Shard *source = self._shard(shard)
        cdef uint64_t count
        cdef Event *event
        cdef Event *following
        cdef list events = []
        read(source.events.wake_descriptor, &count, sizeof(count))
        event = event_take_all(source)
        try:
            while event != NULL:
                following = event.next
                try:
                    events.append(self._decode(event, shard))
                finally:
                    free(event)
                    event = following
        finally:
            # Only when an event could not be decoded: the others are not leaked.
            while event != NULL:
                following = event.next
                free(event)
                event = following
        return events

    cdef object _decode(self, const Event *event, uint32_t shard):
        if event.kind == EVENT_CONNECT_REQUESTED:
            return _connect_requested(event)
        if event.kind == EVENT_AUTH_RECEIVED:
            return _auth_received(event)
        if event.kind == EVENT_REAUTHENTICATION_REQUESTED:
            return _reauthentication_requested(event)
        if event.kind == EVENT_AUTHENTICATION_ABANDONED:
            return AuthenticationAbandoned(event.request)
        if event.kind == EVENT_PUBLISHED:
            return Reply(event.request, PublishOutcome(
                matched=event.numbers[0], queued=event.numbers[1], dropped=event.numbers[2],
                retained=bool(event.numbers[3])))
        if event.kind == EVENT_SESSION:
            return Reply(event.request, _session_info(event, self._asked.pop(event.request)))
        if event.kind == EVENT_NO_SESSION:
            self._asked.pop(event.request, None)
            return Reply(event.request, None)
        if event.kind == EVENT_NUMBER:
            return Reply(event.request, event.numbers[0])
        if event.kind == EVENT_STATISTICS:
            return Reply(event.request, _statistics(event, shard))
        assert event.kind == EVENT_STOPPED
        return ShardStopped(shard, event.numbers[0])

    def observe(self, kinds):
        cdef bytearray wanted = bytearray(NOTICE_KIND_COUNT)
        cdef bytes flags
        cdef Bytes strings[1]
        cdef uint32_t shard
        for kind in kinds:
            wanted[NoticeKind(kind)] = 1
        flags = bytes(wanted)
        strings[0] = _view(flags)
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            self._put(shard, command_new(COMMAND_OBSERVE, strings, 1), 0)

    def take_notices(self, uint32_t shard, uint32_t limit=1024):
        cdef Shard *source = self._shard(shard)
        cdef uint64_t dropped
        cdef Notice *notice = notice_take(&source.notices, limit, &dropped)
        cdef Notice *following
        cdef list notices = []
        try:
            while notice != NULL:
                following = notice.next
                try:
                    notices.append(_noticed(notice, self._universe.wall_offset_ms))
                finally:
                    free(notice)
                    notice = following
        finally:
            while notice != NULL:
                following = notice.next
                free(notice)
                notice = following
        return notices, dropped

    # Commands

    def listen(self, int descriptor, uint32_t listener_id=0):
        cdef uint32_t shard
        cdef Command *command
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_LISTEN, NULL, 0)
            if command != NULL:
                command.descriptor = descriptor
                command.listener_id = listener_id
            self._put(shard, command)

    def stop_listening(self):
        cdef uint32_t shard
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            self._put(shard, command_new(COMMAND_STOP_LISTENING, NULL, 0), 0)

    def adopt(self, int descriptor, uint32_t listener_id=0, *, bint is_websocket=False, bytes early=b""):
        # The session's key is not known before the CONNECT; the connection moves then.
        cdef uint32_t shard = <uint32_t> descriptor % <uint32_t> self.shard_count
        cdef Bytes strings[1]
        cdef Command *command
        self._shard(shard)
        strings[0] = _view(early)
        command = command_new(COMMAND_ADOPT, strings, 1)
        if command != NULL:
            command.flag = is_websocket
            command.descriptor = descriptor
            command.listener_id = listener_id
        self._put(shard, command)

    cdef int _put_verdict(self, uint64_t connection, Command *command) except -1:
        if command != NULL:
            command.request = connection
        # As many as there are connections that wait for one: bounded by that.
        return self._put(<uint32_t> (connection >> _HANDLE_SHARD_BIT), command, 0)

    def admit(
        self, uint64_t connection, *, str tenant_id, str user_id, bytes attributes=b"{}", str response_information="",
        str reason_string="", object user_properties=(), bytes authentication_data=None, Permissions permissions=None,
    ):
        cdef bytes tenant = _name(tenant_id, "tenant_id")
        cdef bytes user = _name(user_id, "user_id")
        cdef bytes information = _text(response_information, "response_information")
        cdef bytes reason = _text(reason_string, "reason_string")
        cdef bytes properties = _user_properties(user_properties)
        cdef bytes data = _data(authentication_data, "authentication_data")
        cdef Bytes strings[ADMIT_STRING_COUNT]
        cdef Command *command
        if not tenant:
            raise ValueError("tenant_id is empty")
        self._shard(<uint32_t> (connection >> _HANDLE_SHARD_BIT))
        strings[ADMIT_TENANT_ID] = _view(tenant)
        strings[ADMIT_USER_ID] = _view(user)
        strings[ADMIT_ATTRIBUTES] = _view(attributes)
        strings[ADMIT_RESPONSE_INFORMATION] = _view(information)
        strings[ADMIT_REASON_STRING] = _view(reason)
        strings[ADMIT_USER_PROPERTIES] = _view(properties)
        strings[ADMIT_AUTHENTICATION_DATA] = _view(data)
        command = command_new(COMMAND_ADMIT, strings, ADMIT_STRING_COUNT)
        if command != NULL:
            command.flag = authentication_data is not None
            command.rules = _acquired(permissions)
        self._put_verdict(connection, command)

    cdef int _part(
        self, uint64_t connection, uint8_t kind, int reason_code, str reason_string, str server_reference,
        object user_properties
    ) except -1:
        cdef bytes reason = _text(reason_string, "reason_string")
        cdef bytes reference = _text(server_reference, "server_reference")
        cdef bytes properties = _user_properties(user_properties)
        cdef Bytes strings[FAREWELL_STRING_COUNT]
        cdef Command *command
        if reference and reason_code not in _REDIRECTIONS:
            raise ValueError(f"server_reference is given with {reason_code:#04x}, it goes with 0x9c and 0x9d only")
        self._shard(<uint32_t> (connection >> _HANDLE_SHARD_BIT))
        strings[FAREWELL_REASON_STRING] = _view(reason)
        strings[FAREWELL_SERVER_REFERENCE] = _view(reference)
        strings[FAREWELL_USER_PROPERTIES] = _view(properties)
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
        self, uint64_t connection, uint8_t kind, bytes authentication_data, str reason_string, object user_properties
    ) except -1:
        cdef bytes data = _data(authentication_data, "authentication_data")
        cdef bytes reason = _text(reason_string, "reason_string")
        cdef bytes properties = _user_properties(user_properties)
        cdef Bytes strings[AUTH_STRING_COUNT]
        cdef Command *command
        self._shard(<uint32_t> (connection >> _HANDLE_SHARD_BIT))
        strings[AUTH_DATA] = _view(data)
        strings[AUTH_REASON_STRING] = _view(reason)
        strings[AUTH_USER_PROPERTIES] = _view(properties)
        command = command_new(kind, strings, AUTH_STRING_COUNT)
        if command != NULL:
            command.flag = authentication_data is not None
        return self._put_verdict(connection, command)

    def challenge(
        self, uint64_t connection, bytes authentication_data, *, str reason_string="", object user_properties=(),
    ):
        self._put_auth(connection, COMMAND_CHALLENGE, authentication_data, reason_string, user_properties)

    def confirm(
        self, uint64_t connection, bytes authentication_data, *, str reason_string="", object user_properties=(),
    ):
        self._put_auth(connection, COMMAND_CONFIRM, authentication_data, reason_string, user_properties)

    def configure_tenant(self, str tenant_id, object settings):
        cdef bytes tenant = _name(tenant_id, "tenant_id")
        cdef Settings compiled
        cdef Bytes strings[1]
        cdef uint32_t shard
        cdef Command *command
        _compile(settings, &compiled)
        strings[0] = _view(tenant)
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_CONFIGURE, strings, 1)
            if command != NULL:
                command.settings = compiled
            self._put(shard, command)

    def set_permissions(
        self, Permissions permissions, *, str tenant_id, str user_id, str client_id
    ):
        cdef bytes tenant = _name(tenant_id, "tenant_id")
        cdef bytes user = _name(user_id, "user_id")
        cdef bytes client = _name(client_id, "client_id")
        cdef Bytes strings[3]
        cdef Command *command
        self._shard(0)
        strings[0] = _view(tenant)
        strings[1] = _view(user)
        strings[2] = _view(client)
        command = command_new(COMMAND_SET_PERMISSIONS, strings, 3)
        if command != NULL:
            command.rules = _acquired(permissions)
        self._put(self._owner(strings), command)

    def replace_permissions(self, Permissions replaced not None, Permissions permissions not None):
        cdef uint32_t shard
        cdef Command *command
        replaced.replace_by(permissions)
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_REPLACE_PERMISSIONS, NULL, 0)
            if command != NULL:
                command.replaced_rules = _acquired(replaced)
            # Never refused for want of room: rights that were withdrawn must be gone on every shard.
            self._put(shard, command, 0)

    def publish(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str topic, bytes payload, int qos=0,
        bint retain=False, object message_expiry_interval=None,
    ):
        cdef bytes tenant = _name(tenant_id, "tenant_id")
        cdef bytes name = _name(topic, "topic")
        cdef Bytes strings[1]
        cdef Command *command
        self._shard(shard)
        strings[0] = _view(tenant)
        command = command_new(COMMAND_PUBLISH, strings, 1)
        if command != NULL:
            command.request = request
            command.number = 0 if message_expiry_interval is None else message_expiry_interval
            command.message = _message(name, payload, qos, retain)
            if command.message == NULL:
                command_free(command)
                command = NULL
        self._put(shard, command)

    def find_session(self, uint64_t request, *, str tenant_id, str user_id, str client_id):
        cdef bytes tenant = _name(tenant_id, "tenant_id")
        cdef bytes user = _name(user_id, "user_id")
        cdef bytes client = _name(client_id, "client_id")
        cdef Bytes strings[3]
        cdef Command *command
        cdef uint32_t shard
        self._shard(0)
        strings[0] = _view(tenant)
        strings[1] = _view(user)
        strings[2] = _view(client)
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
            _name(texts[index], "text")
            strings[index] = _view(encoded[index])
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
            _farewell(reason_code))

    def subscribe(
        self, uint64_t request, *, str tenant_id, str user_id, str client_id, str topic_filter, int qos=0,
    ):
        if not 0 <= qos <= 2:
            raise ValueError(f"qos is {qos}, it must be 0, 1 or 2")
        self._ask_about(request, COMMAND_SUBSCRIBE, (tenant_id, user_id, client_id, topic_filter), <uint64_t> qos)

    def unsubscribe(self, uint64_t request, *, str tenant_id, str user_id, str client_id, str topic_filter):
        self._ask_about(request, COMMAND_UNSUBSCRIBE, (tenant_id, user_id, client_id, topic_filter))

    cdef int _sweep(
        self, uint64_t request, uint32_t shard, uint8_t kind, tuple texts, uint64_t number=0, uint8_t reason_code=0
    ) except -1:
        cdef list encoded = [_name(text, "text") for text in texts]
        cdef Bytes strings[4]  # SWEEP_STRING_COUNT
        cdef uint32_t index
        cdef Command *command
        self._shard(shard)
        for index in range(4):
            strings[index] = _view(encoded[index])
        command = command_new(kind, strings, 4)
        if command != NULL:
            command.request = request
            command.number = number
            command.reason_code = reason_code
        self._put(shard, command)
        return 0

    def kill_all(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str user_id="", int reason_code=0x98,
        str reason_string="", str server_reference="",
    ):
        self._sweep(
            request, shard, COMMAND_SWEEP_CONNECTIONS, (tenant_id, user_id, reason_string, server_reference), 0,
            _farewell(reason_code))

    def end_sessions(self, uint64_t request, uint32_t shard, *, str tenant_id, uint32_t offline_s):
        self._sweep(request, shard, COMMAND_SWEEP_SESSIONS, (tenant_id, "", "", ""), offline_s)

    def remove_retained(self, uint64_t request, uint32_t shard, *, str tenant_id, uint32_t age_s):
        self._sweep(request, shard, COMMAND_SWEEP_RETAINED, (tenant_id, "", "", ""), age_s)

    def retain(
        self, uint64_t request, *, str tenant_id, str topic, bytes payload, int qos=0,
        object message_expiry_interval=None,
    ):
        cdef bytes tenant = _name(tenant_id, "tenant_id")
        cdef bytes name = _name(topic, "topic")
        cdef Bytes strings[1]
        cdef Command *command
        self._shard(0)
        strings[0] = _view(tenant)
        command = command_new(COMMAND_RETAIN, strings, 1)
        if command != NULL:
            command.request = request
            command.number = 0 if message_expiry_interval is None else message_expiry_interval
            command.message = _message(name, payload, qos, True)
            if command.message == NULL:
                command_free(command)
                command = NULL
        self._put(
            home_shard_of(hash_bytes(&self._universe.key, strings[0].data, strings[0].size), self.shard_count), command)

    cdef uint32_t _owner(self, const Bytes *session_key) noexcept:
        """The shard of the session of tenant, user and client identifier. The engine is open."""
        cdef Shard *any_shard = self._universe.shards[0]
        return owner_shard(any_shard, session_key[0], session_key_hash(any_shard, session_key[1], session_key[2]))

    def statistics(self, uint64_t request, uint32_t shard):
        cdef Command *command
        self._shard(shard)
        command = command_new(COMMAND_STATISTICS, NULL, 0)
        if command != NULL:
            command.request = request
        self._put(shard, command)

    # Connections without a socket

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
