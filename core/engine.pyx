"""Engine: the Python face of the core. What server and api may call; engine.pyi has the signatures.

Methods put commands into the queues of shards and return at once; answers and requests come back as the dataclasses
of rookery.core.events from take_events. run_shard is the one method that stays: it gives the GIL up and turns until
the shard has stopped.
"""

import itertools
import os
import sys
import time
from collections import namedtuple

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from rookery.core.border.arguments cimport (
    acquire_rules, check_farewell, compile_quota, compile_settings, encode_additions, encode_data, encode_name,
    encode_text, encode_user_properties, make_message, view,
)
from rookery.core.border.pages cimport decode_tenants
from rookery.core.border.results cimport decode_event, decode_notice, decode_resources
from rookery.core.log.batch cimport batch_init
from rookery.core.log.durable_log cimport DurableLog
from rookery.core.log.writer cimport log_submit
from rookery.core.permissions.rule_set cimport Permissions
from rookery.core.sessions.census cimport census_clear, census_init
from rookery.core.sessions.message cimport Message, waiting_bytes
from rookery.core.sessions.notices cimport NOTICE_KIND_COUNT, Notice, notice_take
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport RESOURCE_COUNT, RESOURCE_FIRST_RATE
from rookery.core.shards.ownership cimport owner_shard, session_key_hash
from rookery.core.shards.checkpoint cimport checkpoint_begin, checkpoint_has_work, checkpoint_step
from rookery.core.shards.mailbox cimport shard_wake
from rookery.core.shards.pages cimport PAGE_ONE_SESSION, PAGE_ONLINE_ONLY, PAGE_STRING_COUNT
from rookery.core.shards.queues cimport (
    command_free, command_new, command_put, event_take_all,
)
from rookery.core.shards.registry cimport home_shard_of, registry_clear, registry_init, registry_list, registry_tell
from rookery.core.shards.restore cimport Restore, restore_apply, restore_clear, restore_end
from rookery.core.shards.shard cimport shard_free, shard_new
from rookery.core.shards.state cimport (
    ADMIT_ADDITIONS, ADMIT_ATTRIBUTES, ADMIT_AUTHENTICATION_DATA, ADMIT_REASON_STRING, ADMIT_RESPONSE_INFORMATION,
    ADMIT_STRING_COUNT, ADMIT_TENANT_ID, ADMIT_USER_ID, ADMIT_USER_PROPERTIES, ADOPT_EARLY, ADOPT_PEER,
    ADOPT_STRING_COUNT, AUTH_DATA, AUTH_REASON_STRING, AUTH_STRING_COUNT, AUTH_USER_PROPERTIES, COMMANDS_QUEUED,
    COMMAND_ADMIT, COMMAND_ADOPT, COMMAND_CHALLENGE, COMMAND_CONFIGURE, COMMAND_CONFIRM, COMMAND_DISCONNECT,
    COMMAND_FIND_SESSION, COMMAND_FORGET_VERDICTS, COMMAND_KILL, COMMAND_LINK, COMMAND_LISTEN, COMMAND_LIST_INBOX,
    COMMAND_LIST_INFLIGHT, COMMAND_LIST_MATCHES, COMMAND_LIST_RETAINED, COMMAND_LIST_SESSIONS,
    COMMAND_LIST_SUBSCRIPTIONS, COMMAND_OBSERVE, COMMAND_PUBLISH, COMMAND_PUBLISH_BATCH, COMMAND_REFUSE,
    COMMAND_REPLACE_PERMISSIONS, COMMAND_RETAIN, COMMAND_SET_PERMISSIONS, COMMAND_STATISTICS, COMMAND_STOP,
    COMMAND_STOP_LISTENING, COMMAND_SUBSCRIBE, COMMAND_SWEEP_CONNECTIONS, COMMAND_SWEEP_RETAINED,
    COMMAND_SWEEP_SESSIONS, COMMAND_TELL_TENANTS, COMMAND_THROTTLE, COMMAND_UNSUBSCRIBE, CONNECT_TIMEOUT_MS,
    FAREWELL_REASON_STRING, FAREWELL_SERVER_REFERENCE, FAREWELL_STRING_COUNT, FAREWELL_USER_PROPERTIES,
    PACKET_TIMEOUT_MS, Command, Event, MemoryLink, Shard, Universe,
)
from rookery.core.shards.gate cimport (
    GATE_ANSWER_COUNT, Gate, gate_enter, gate_free, gate_leave, gate_network_of_text, gate_new,
)
from rookery.core.shards.transport cimport memory_link_new, memory_link_release
from rookery.core.streams.tls cimport TlsLibrary
from rookery.core.shards.turn cimport clock_ms, shard_run, shard_turn
from rookery.core.structures.atomics cimport atomic_add_u64, atomic_load_u32
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes
from rookery.core.structures.mutex cimport mutex_lock, mutex_unlock
from rookery.core.structures.reclaim cimport reclaim_free, reclaim_new
from rookery.core.structures.rows cimport Rows, rows_free
from rookery.core.structures.spill cimport spill_bytes, spill_end, spill_new

from rookery.core.log.errors import LogError
from rookery.core.notices import NoticeKind
from rookery.core.quotas import RESOURCES
from rookery.core.settings import TenantSettings, suggest
from rookery.core.wire.spec import ReasonCode

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int descriptor, void *data, size_t size)

cdef enum:
    _HANDLE_SHARD_BIT = 56     # of a connection handle, see connection_handle
    _SHARDS_MAXIMUM = 64       # bits of a shard mask

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


cdef void _wake(void *owner) noexcept nogil:
    shard_wake(<Shard *> owner)


class EngineBusy(Exception):
    """The command queue of a shard is full; nothing was done."""


def check_message_user_properties(object pairs):
    encode_additions(pairs)


WaitingMemory = namedtuple("WaitingMemory", ("memory_bytes", "file_bytes"))


# A cycle that is collected must not take the fields away before __dealloc__ has read them.
@cython.no_gc_clear
cdef class Engine:
    """All shards of one process. See engine.pyi."""

    cdef Universe *_universe
    cdef uint32_t _running            # shards inside run_shard
    cdef dict _links                  # number -> address of a MemoryLink
    cdef object _link_numbers
    cdef DurableLog _log              # None: nothing is durable
    cdef dict _asked                  # request -> session key, for the answer to find_session
    cdef readonly int shard_count
    cdef readonly str server_id

    def __cinit__(self, *, int shard_count=1, str server_id="", object default_settings=None):
        cdef bytes seed = os.urandom(16)
        cdef bytes verdict_seed = os.urandom(32)
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
        census_init(&self._universe.census)
        memcpy(&self._universe.key, PyBytes_AS_STRING(seed), 16)
        memcpy(self._universe.verdict_keys, PyBytes_AS_STRING(verdict_seed), 32)
        self._universe.wall_offset_ms = time.time_ns() // 1_000_000 - clock_ms()
        compile_settings(default_settings or TenantSettings(), &self._universe.default_settings)
        self._universe.default_quota_limits = compile_quota(default_settings or TenantSettings())
        self._universe.reclaim = reclaim_new(shard_count)
        self._universe.shards = <Shard **> calloc(shard_count, sizeof(Shard *))
        if self._universe.reclaim == NULL or self._universe.shards == NULL:
            raise MemoryError
        self._universe.shard_count = shard_count
        self._universe.connect_timeout_ms = CONNECT_TIMEOUT_MS
        self._universe.packet_timeout_ms = PACKET_TIMEOUT_MS
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
        census_clear(&universe.census)
        for index in range(universe.shard_count):
            spill_end(universe.spills[index])
        gate_free(universe.gate)
        free(universe.shards)
        free(universe.default_quota_limits)
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

    # Durability

    def spill(self, descriptors not None, uint64_t after_bytes):
        cdef uint32_t index
        cdef Shard *shard
        if self._log is not None or self._running:
            raise RuntimeError("where waiting messages go is told before a log is read back or a shard runs")
        if len(descriptors) != self.shard_count:
            raise ValueError(f"{len(descriptors)} files for {self.shard_count} shards")
        for index in range(self._universe.shard_count):
            shard = self._shard(index)
            if self._universe.spills[index] != NULL:
                raise RuntimeError("where waiting messages go is told once")
            self._universe.spills[index] = spill_new(descriptors[index])
            if self._universe.spills[index] == NULL:
                raise MemoryError("there are not enough addresses for a file of waiting messages")
            shard.world.spill = self._universe.spills[index]
            shard.world.spill_after_bytes = after_bytes

    def waiting_memory(self):
        cdef uint32_t index
        cdef uint64_t file_bytes = 0
        self._shard(0)
        for index in range(self._universe.shard_count):
            if self._universe.spills[index] != NULL:
                file_bytes += spill_bytes(self._universe.spills[index])
        return WaitingMemory(waiting_bytes(), file_bytes)

    def restore(self, DurableLog log not None, object now_ms=None, object unix_ms=None):
        cdef Restore restore
        cdef Shard *shard
        cdef uint32_t index
        if self._log is not None or self._running:
            raise RuntimeError("a log is read back once, before any shard runs")
        memset(&restore, 0, sizeof(restore))
        restore.universe = self._universe
        restore.now_ms = clock_ms() if now_ms is None else now_ms
        restore.unix_ms = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
        self._universe.wall_offset_ms = restore.unix_ms - restore.now_ms
        self._log = log
        for index in range(self._universe.shard_count):
            shard = self._shard(index)
            shard.world.now_ms = restore.now_ms
            shard.journal.log = &log.log
            shard.journal.source = index
            shard.journal.wall_offset_ms = self._universe.wall_offset_ms
            batch_init(&shard.journal.batch, log.log.seed)
            log.log.sources[index].owner = shard
            log.log.sources[index].wake = _wake
        try:
            log.recover_into(restore_apply, &restore)
            if restore_end(&restore) != 0:
                raise MemoryError
        except LogError as error:
            if restore.fault == NULL:
                raise
            raise LogError(f"{error}: {restore.fault.decode()}") from None
        finally:
            restore_clear(&restore)

    def compact(self):
        cdef Shard *shard = self._shard(0)
        cdef uint32_t error
        if self._log is None or self._running or self.shard_count != 1:
            raise RuntimeError("a log is compacted by an engine of one shard that has read it back and does not run")
        # What is alive has been read back; what restore has added lies behind this.
        with nogil:
            checkpoint_begin(shard)
        while self._universe.is_checkpointing:
            with nogil:
                checkpoint_step(shard)
                log_submit(shard.journal.log, 0, &shard.journal.batch)
            error = atomic_load_u32(&self._log.log.error)
            if error != 0:
                raise OSError(error, os.strerror(error))
            if shard.checkpoint.is_ending or not checkpoint_has_work(shard):
                time.sleep(0.001)  # for the disk

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
                    events.append(decode_event(event, shard, self._asked))
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

    def observe(self, kinds):
        cdef bytearray wanted = bytearray(NOTICE_KIND_COUNT)
        cdef bytes flags
        cdef Bytes strings[1]
        cdef uint32_t shard
        for kind in kinds:
            wanted[NoticeKind(kind)] = 1
        flags = bytes(wanted)
        strings[0] = view(flags)
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
                    notices.append(decode_notice(notice, self._universe.wall_offset_ms))
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

    def limit_connections(
        self, listeners, *, uint32_t connections=0, uint32_t rate_per_s=0, uint32_t network_connections=0,
        uint32_t network_rate_per_s=0, int ipv4_bits=32, int ipv6_bits=64,
    ):
        cdef Gate *gate
        cdef uint32_t index
        self._shard(0)
        if self._universe.gate != NULL or self._running:
            raise RuntimeError("limits of connections are set once, before shards run")
        if not 1 <= ipv4_bits <= 32 or not 1 <= ipv6_bits <= 64:
            raise ValueError(f"ipv4_bits is {ipv4_bits} of 1 to 32, ipv6_bits is {ipv6_bits} of 1 to 64")
        gate = gate_new(&self._universe.key, len(listeners))
        if gate == NULL:
            raise MemoryError
        self._universe.gate = gate
        gate.limits.connections = connections
        gate.limits.rate_per_s = rate_per_s
        gate.network_limits.connections = network_connections
        gate.network_limits.rate_per_s = network_rate_per_s
        gate.ipv4_bits = <uint8_t> ipv4_bits
        gate.ipv6_bits = <uint8_t> ipv6_bits
        for index, (most, rate) in enumerate(listeners):
            gate.listeners[index].limits.connections = most
            gate.listeners[index].limits.rate_per_s = rate

    cdef Gate *_gate_of(self, uint32_t listener_id) except? NULL:
        self._shard(0)
        if self._universe.gate != NULL and listener_id >= self._universe.gate.listener_count:
            raise ValueError(f"listener_id is {listener_id}, limits are set for {self._universe.gate.listener_count}")
        return self._universe.gate

    def enter(self, uint32_t listener_id, str host):
        cdef Gate *gate = self._gate_of(listener_id)
        cdef bytes name = host.encode()
        cdef uint64_t network
        if gate == NULL:
            return 0, 0
        network = gate_network_of_text(gate, name)
        return <int> gate_enter(gate, listener_id, network, clock_ms()), network

    def leave(self, uint32_t listener_id, uint64_t network):
        cdef Gate *gate = self._gate_of(listener_id)
        if gate != NULL:
            gate_leave(gate, listener_id, network, clock_ms())

    def gate_counts(self):
        cdef Gate *gate = self._gate_of(0)
        cdef uint32_t index
        cdef int answer
        if gate == NULL:
            return []
        mutex_lock(&gate.mutex)
        counts = [
            (gate.listeners[index].meter.connections,
             tuple([gate.listeners[index].refused[answer] for answer in range(1, <int> GATE_ANSWER_COUNT)]))
            for index in range(gate.listener_count)
        ]
        mutex_unlock(&gate.mutex)
        return counts

    def set_connect_timeout(self, uint32_t timeout_ms):
        self._shard(0)
        self._universe.connect_timeout_ms = timeout_ms

    def set_packet_timeout(self, uint32_t timeout_ms):
        self._shard(0)
        self._universe.packet_timeout_ms = timeout_ms

    def listen(self, int descriptor, uint32_t listener_id=0):
        cdef uint32_t shard
        cdef Command *command
        self._gate_of(listener_id)
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

    def use_tls(
        self, *, size_t read, size_t write, size_t get_error, size_t pending, size_t do_handshake, size_t shutdown,
        size_t release, size_t clear_errors,
    ):
        cdef TlsLibrary *library
        self._shard(0)
        library = &self._universe.tls
        # As integers: Cython has no other way from a Python number to a pointer to a function.
        (<size_t *> &library.read)[0] = read
        (<size_t *> &library.write)[0] = write
        (<size_t *> &library.get_error)[0] = get_error
        (<size_t *> &library.pending)[0] = pending
        (<size_t *> &library.do_handshake)[0] = do_handshake
        (<size_t *> &library.shutdown)[0] = shutdown
        (<size_t *> &library.free)[0] = release
        (<size_t *> &library.clear_errors)[0] = clear_errors

    def adopt(
        self, int descriptor, uint32_t listener_id=0, *, bint is_websocket=False, bytes early=b"", size_t ssl=0,
        str peer="", uint64_t ticket=0, bint is_counted=False, uint64_t network=0,
    ):
        # The session's key is not known before the CONNECT; the connection moves then.
        cdef uint32_t shard = <uint32_t> descriptor % <uint32_t> self.shard_count
        cdef Bytes strings[ADOPT_STRING_COUNT]
        cdef Command *command
        cdef bytes name = encode_name(peer, "peer")
        self._shard(shard)
        if is_counted and self._gate_of(listener_id) == NULL:
            raise ValueError("is_counted needs limit_connections before")
        if ssl != 0 and self._universe.tls.read == NULL:
            raise ValueError("ssl needs use_tls before")
        strings[ADOPT_EARLY] = view(early)
        strings[ADOPT_PEER] = view(name)
        command = command_new(COMMAND_ADOPT, strings, ADOPT_STRING_COUNT)
        if command != NULL:
            command.flag = is_websocket
            command.ssl = <void *> ssl
            command.ticket = ticket
            command.is_counted = is_counted
            command.network = network
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
        self._shard(<uint32_t> (connection >> _HANDLE_SHARD_BIT))
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
        self._shard(<uint32_t> (connection >> _HANDLE_SHARD_BIT))
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
        self._shard(<uint32_t> (connection >> _HANDLE_SHARD_BIT))
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

    def configure_tenant(self, str tenant_id, object settings):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef Settings compiled
        cdef Bytes strings[1]
        cdef uint32_t shard
        cdef Command *command
        compile_settings(settings, &compiled)
        strings[0] = view(tenant)
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_CONFIGURE, strings, 1)
            if command != NULL:
                command.settings = compiled
                command.quota_limits = compile_quota(settings)
            self._put(shard, command)

    def throttle(self, str tenant_id, object resources):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef Bytes strings[1]
        cdef uint64_t closed = 0
        cdef Command *command
        for name in resources:
            if name not in RESOURCES:
                raise ValueError(f"{name!r} is no resource of a tenant{suggest(name, dict.fromkeys(RESOURCES))}")
            closed |= <uint64_t> 1 << <int> RESOURCES.index(name)
        self._shard(0)
        strings[0] = view(tenant)
        command = command_new(COMMAND_THROTTLE, strings, 1)
        if command != NULL:
            command.number = closed
        self._put(
            home_shard_of(hash_bytes(&self._universe.key, strings[0].data, strings[0].size), self.shard_count), command)

    def resources(self, str tenant_id):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef uint64_t counted[RESOURCE_FIRST_RATE + 4 * RESOURCE_COUNT]
        self._shard(0)
        registry_tell(&self._universe.registry, &self._universe.key, view(tenant), counted)
        return decode_resources(counted)

    def set_permissions(
        self, Permissions permissions, *, str tenant_id, str user_id, str client_id
    ):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef bytes user = encode_name(user_id, "user_id")
        cdef bytes client = encode_name(client_id, "client_id")
        cdef Bytes strings[3]
        cdef Command *command
        self._shard(0)
        strings[0] = view(tenant)
        strings[1] = view(user)
        strings[2] = view(client)
        command = command_new(COMMAND_SET_PERMISSIONS, strings, 3)
        if command != NULL:
            command.rules = acquire_rules(permissions)
        self._put(self._owner(strings), command)

    def replace_permissions(self, Permissions replaced not None, Permissions permissions not None):
        cdef uint32_t shard
        cdef Command *command
        replaced.replace_by(permissions)
        self.forget_verdicts()
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_REPLACE_PERMISSIONS, NULL, 0)
            # Never refused for want of room: rights that were withdrawn must be gone on every shard.
            self._put(shard, command, 0)

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

    def kill_all(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str user_id="", int reason_code=0x98,
        str reason_string="", str server_reference="",
    ):
        self._sweep(
            request, shard, COMMAND_SWEEP_CONNECTIONS, (tenant_id, user_id, reason_string, server_reference), 0,
            check_farewell(reason_code))

    def end_sessions(self, uint64_t request, uint32_t shard, *, str tenant_id, uint32_t offline_s):
        self._sweep(request, shard, COMMAND_SWEEP_SESSIONS, (tenant_id, "", "", ""), offline_s)

    def remove_retained(self, uint64_t request, uint32_t shard, *, str tenant_id, uint32_t age_s):
        self._sweep(request, shard, COMMAND_SWEEP_RETAINED, (tenant_id, "", "", ""), age_s)

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

    cdef uint32_t _owner(self, const Bytes *session_key) noexcept:
        """The shard of the session of tenant, user and client identifier. The engine is open."""
        cdef Shard *any_shard = self._universe.shards[0]
        return owner_shard(any_shard, session_key[0], session_key_hash(any_shard, session_key[1], session_key[2]))

    # Lists

    cdef int _ask_page(
        self, uint64_t request, uint32_t shard, uint8_t kind, tuple texts, uint64_t place=0, uint32_t limit=0,
        uint8_t flag=0, int payload_limit=0,
    ) except -1:
        """texts are bytes, as PAGE_TENANT_ID and so on say."""
        cdef Bytes strings[PAGE_STRING_COUNT]
        cdef uint32_t index
        cdef Command *command
        self._shard(shard)
        memset(strings, 0, sizeof(strings))
        for index in range(<uint32_t> len(texts)):
            strings[index] = view(texts[index])
        command = command_new(kind, strings, PAGE_STRING_COUNT)
        if command != NULL:
            command.request = request
            command.flag = flag
            command.number = place
            command.listener_id = limit
            command.descriptor = payload_limit
        self._put(shard, command)
        return 0

    cdef int _ask_session_page(
        self, uint64_t request, uint8_t kind, tuple key, uint64_t place=0, uint32_t limit=1, int payload_limit=0
    ) except -1:
        cdef tuple texts = tuple([encode_name(text, "text") for text in key])
        cdef Bytes strings[3]
        cdef uint32_t index
        self._shard(0)
        for index in range(3):
            strings[index] = view(texts[index])
        return self._ask_page(
            request, self._owner(strings), kind, texts, place, limit, PAGE_ONE_SESSION, payload_limit)

    def list_tenants(self, uint32_t place=0, uint32_t limit=100):
        cdef Rows rows
        self._shard(0)
        memset(&rows, 0, sizeof(rows))
        registry_list(&self._universe.registry, &place, limit, &rows)
        try:
            if rows.has_failed:
                raise MemoryError
            return decode_tenants(&rows), place
        finally:
            rows_free(&rows)

    def tell_tenants(self, uint64_t request, uint32_t shard, *, object tenant_ids):
        encoded = [encode_name(tenant_id, "tenant_id") for tenant_id in tenant_ids]
        packed = b"".join([len(tenant_id).to_bytes(4, sys.byteorder) + tenant_id for tenant_id in encoded])
        self._ask_page(request, shard, COMMAND_TELL_TENANTS, (packed,))

    def list_sessions(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str user_id="", bint online_only=False,
        bytes place=b"", uint32_t limit=100,
    ):
        self._ask_page(
            request, shard, COMMAND_LIST_SESSIONS,
            (encode_name(tenant_id, "tenant_id"), encode_name(user_id, "user_id"), b"", b"", place), 0, limit,
            PAGE_ONLINE_ONLY if online_only else 0)

    def look_at_session(self, uint64_t request, *, str tenant_id, str user_id, str client_id):
        self._ask_session_page(request, COMMAND_LIST_SESSIONS, (tenant_id, user_id, client_id))

    def list_subscriptions(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str user_id="", bytes place=b"", uint32_t limit=100,
    ):
        self._ask_page(
            request, shard, COMMAND_LIST_SUBSCRIPTIONS,
            (encode_name(tenant_id, "tenant_id"), encode_name(user_id, "user_id"), b"", b"", place), 0, limit)

    def list_session_subscriptions(
        self, uint64_t request, *, str tenant_id, str user_id, str client_id, uint64_t place=0, uint32_t limit=100,
    ):
        self._ask_session_page(
            request, COMMAND_LIST_SUBSCRIPTIONS, (tenant_id, user_id, client_id), place, limit)

    def list_inbox(
        self, uint64_t request, *, str tenant_id, str user_id, str client_id, uint64_t place=0, uint32_t limit=100,
        int payload_limit=0,
    ):
        self._ask_session_page(
            request, COMMAND_LIST_INBOX, (tenant_id, user_id, client_id), place, limit, payload_limit)

    def list_inflight(self, uint64_t request, *, str tenant_id, str user_id, str client_id, uint32_t limit=100):
        self._ask_session_page(request, COMMAND_LIST_INFLIGHT, (tenant_id, user_id, client_id), 0, limit)

    def list_retained(
        self, uint64_t request, *, str tenant_id, str topic_filter="#", bytes place=b"", uint32_t limit=100,
        int payload_limit=0,
    ):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef Bytes name = view(tenant)
        self._shard(0)
        self._ask_page(
            request, home_shard_of(hash_bytes(&self._universe.key, name.data, name.size), self.shard_count),
            COMMAND_LIST_RETAINED, (tenant, b"", b"", encode_name(topic_filter, "topic_filter"), place), 0, limit, 0,
            payload_limit)

    def list_matches(
        self, uint64_t request, uint32_t shard, *, str tenant_id, str topic, str user_id="", str client_id="",
        uint32_t limit=100,
    ):
        self._ask_page(
            request, shard, COMMAND_LIST_MATCHES,
            (
                encode_name(tenant_id, "tenant_id"), encode_name(user_id, "user_id"),
                encode_name(client_id, "client_id"), encode_name(topic, "topic"),
            ), 0, limit, PAGE_ONE_SESSION)

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
