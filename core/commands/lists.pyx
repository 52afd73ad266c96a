"""See lists.pxd."""

import sys

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from rookery.core.border.arguments cimport encode_name, view
from rookery.core.border.pages cimport decode_tenants
from rookery.core.commands.sessions cimport SessionCommands
from rookery.core.shards.pages cimport PAGE_ONE_SESSION, PAGE_ONLINE_ONLY, PAGE_STRING_COUNT
from rookery.core.shards.queues cimport command_new
from rookery.core.shards.registry cimport home_shard_of, registry_list
from rookery.core.shards.state cimport (
    COMMAND_LIST_INBOX, COMMAND_LIST_INFLIGHT, COMMAND_LIST_MATCHES, COMMAND_LIST_RETAINED, COMMAND_LIST_SESSIONS,
    COMMAND_LIST_SUBSCRIPTIONS, COMMAND_STATISTICS, COMMAND_TELL_TENANTS, Command,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes
from rookery.core.structures.rows cimport Rows, rows_free


@cython.no_gc_clear
cdef class ListCommands(SessionCommands):
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
