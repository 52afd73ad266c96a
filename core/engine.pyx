"""Engine: the Python face of the core. What server and api may call; engine.pyi has the signatures.

Methods put commands into the queues of shards and return at once; answers and requests come back as the dataclasses
of rookery.core.events from take_events. run_shard is the one method that stays: it gives the GIL up and turns until
the shard has stopped.
"""

import itertools
import os
import time
from collections import namedtuple

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rookery.core.border.arguments cimport compile_quota, compile_settings, encode_additions, view
from rookery.core.border.results cimport decode_event, decode_notice
from rookery.core.commands.memory_links cimport MemoryLinkCommands
from rookery.core.log.batch cimport batch_init
from rookery.core.log.durable_log cimport DurableLog
from rookery.core.log.writer cimport log_submit
from rookery.core.sessions.census cimport census_clear, census_init
from rookery.core.sessions.message cimport waiting_bytes
from rookery.core.sessions.notices cimport NOTICE_KIND_COUNT, Notice, notice_take
from rookery.core.shards.checkpoint cimport checkpoint_begin, checkpoint_has_work, checkpoint_step
from rookery.core.shards.gate cimport gate_free
from rookery.core.shards.mailbox cimport shard_wake
from rookery.core.shards.queues cimport command_new, event_take_all
from rookery.core.shards.registry cimport registry_clear, registry_init
from rookery.core.shards.restore cimport Restore, restore_apply, restore_clear, restore_end
from rookery.core.shards.shard cimport shard_free, shard_new
from rookery.core.shards.state cimport (
    COMMAND_OBSERVE, COMMAND_STOP, CONNECT_TIMEOUT_MS, PACKET_TIMEOUT_MS, Command, Event, MemoryLink, Shard, Universe,
)
from rookery.core.shards.transport cimport memory_link_release
from rookery.core.shards.turn cimport clock_ms, shard_run, shard_turn
from rookery.core.structures.atomics cimport atomic_load_u32
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.reclaim cimport reclaim_free, reclaim_new
from rookery.core.structures.spill cimport spill_bytes, spill_end, spill_new

from rookery.core.log.errors import LogError
from rookery.core.notices import NoticeKind
from rookery.core.settings import TenantSettings

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int descriptor, void *data, size_t size)

cdef enum:
    _SHARDS_MAXIMUM = 64       # bits of a shard mask

cdef void _wake(void *owner) noexcept nogil:
    shard_wake(<Shard *> owner)


def check_message_user_properties(object pairs):
    encode_additions(pairs)


WaitingMemory = namedtuple("WaitingMemory", ("memory_bytes", "file_bytes"))


# A cycle that is collected must not take the fields away before __dealloc__ has read them.
@cython.no_gc_clear
cdef class Engine(MemoryLinkCommands):
    """All shards of one process. See engine.pyi."""

    cdef DurableLog _log              # None: nothing is durable

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

    def restore(
        self, DurableLog log not None, object now_ms=None, object unix_ms=None, *, bint writes_qos0=False
    ):
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
            shard.world.writes_qos0 = writes_qos0
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
