"""Notices: what a shard tells the control plane of its own accord, and only when somebody asked for that kind.

    NoticeBoard (one per shard, World.notices)
      |-- wanted[kind]   set by a command; nobody asks: one byte is read, nothing else happens
      |-- queue          bounded; drained by Engine.take_notices; what found no room is counted

A notice says who (tenant, user, client), where from (peer), about what (a topic or a text) and up to four numbers,
whose meaning belongs to the kind: core/notices.py has the table. Kinds that come once per message or
ping are raised only for tenants with DebugModeEnabled.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.mutex cimport Mutex

cdef enum:
    NOTICE_KIND_COUNT = 64
    NOTICE_STRING_COUNT = 5  # tenant, user, client, peer, text
    NOTICE_NUMBER_COUNT = 4
    NOTICES_QUEUED = 16384   # that wait for the control plane, per shard: some 4 MiB

cdef enum NoticeKind:
    NOTICE_CONNECT_REFUSED = 1        # version, reason code; client, peer, detail
    NOTICE_CONNECT_TIMED_OUT = 2      # peer
    NOTICE_CONNECTION_FAILED = 3      # peer, detail: no CONNECT could be read
    NOTICE_CLIENT_CONNECTED = 4       # version, NoticeConnectFlag, keep alive, session expiry interval; peer
    NOTICE_CLIENT_DISCONNECTED = 5    # CloseCause, reason code; peer, detail
    NOTICE_SESSION_STARTED = 6        # is persistent
    NOTICE_SESSION_ENDED = 7          # was persistent
    NOTICE_WILL_PUBLISHED = 8         # QoS, retain, payload size; topic
    NOTICE_SUBSCRIBED = 9             # reason code, subscription id; topic filter
    NOTICE_SUBSCRIBE_REFUSED = 10     # reason code; topic filter
    NOTICE_UNSUBSCRIBED = 11          # reason code; topic filter
    NOTICE_PUBLISH_REFUSED = 12       # QoS, retain, reason code; topic
    NOTICE_MESSAGE_DROPPED = 13       # QoS, DropReason, payload size; topic
    NOTICE_MESSAGE_RETAINED = 14      # QoS, payload size; topic
    NOTICE_RETAINED_CLEARED = 15      # topic
    NOTICE_RETAIN_FAILED = 16         # payload size; topic
    NOTICE_RETAINED_MATCHED = 17      # messages sent; topic filter
    NOTICE_SUBSCRIBER_STALLED = 18    # bytes that wait
    NOTICE_GROUP_FANOUT_LIMITED = 19  # limit; topic
    # Only for tenants with DebugModeEnabled.
    NOTICE_MESSAGE_PUBLISHED = 20     # QoS, matched, payload size, reason code; topic
    NOTICE_MESSAGE_SENT = 21          # QoS, packet id, payload size, retain; topic
    NOTICE_MESSAGE_CONFIRMED = 22     # packet id, packet type, reason code
    NOTICE_PING_RECEIVED = 23
    # Of all tenants again.
    NOTICE_PUBLISH_RATE_EXCEEDED = 24  # limit, messages per second
    NOTICE_PERSISTENT_FANOUT_LIMITED = 25  # limit; topic
    NOTICE_PERSISTENT_FANOUT_BYTES_LIMITED = 26  # limit; topic
    NOTICE_OUT_OF_RESOURCE = 27       # Resource, limit, is a shadow's, times so far

cdef enum NoticeConnectFlag:
    NOTICE_CLEAN_START = 1
    NOTICE_SESSION_PRESENT = 2
    NOTICE_HAS_WILL = 4


cdef struct Notice:
    Notice *next
    uint64_t at_ms             # clock of the shards
    uint64_t numbers[4]        # NOTICE_NUMBER_COUNT
    uint32_t sizes[5]          # NOTICE_STRING_COUNT: of the strings that follow the struct, one after the other
    uint8_t kind               # NoticeKind


cdef struct NoticeBoard:
    uint8_t wanted[64]         # NOTICE_KIND_COUNT; written by the shard's thread alone
    Mutex mutex                # of what follows
    Notice *first
    Notice *last
    uint32_t count
    uint64_t dropped           # notices that found the queue full, or no memory
    int wake_descriptor        # eventfd of the control plane; borrowed


cdef void notice_board_init(NoticeBoard *board, int wake_descriptor) noexcept nogil
cdef void notice_board_clear(NoticeBoard *board) noexcept nogil
# Strings in the order of NOTICE_STRING_COUNT; numbers of NOTICE_NUMBER_COUNT. The strings are copied.
cdef void notice_put(
    NoticeBoard *board, NoticeKind kind, uint64_t at_ms, const Bytes *strings, const uint64_t *numbers) noexcept nogil
# The oldest ones, limit at most, as a list that the caller frees; *dropped gets how many were lost since the last call.
cdef Notice *notice_take(NoticeBoard *board, uint32_t limit, uint64_t *dropped) noexcept nogil
cdef Bytes notice_string(const Notice *notice, uint32_t number) noexcept nogil
