"""Topic aliases towards a client: which topics it knows by a number on this connection [MQTT5 3.3.2.3.4].

The first message of a topic tells topic and alias, those that follow leave the topic out. A table that is full keeps
what is in use: a new topic takes the place of the one that has rested longest only if that was for ALIAS_REST_MS. A
client that sees more topics than it has aliases thus gets some of them short, and none longer over and over.
"""

from libc.stdint cimport uint16_t, uint64_t
from rookery.core.structures.bytes cimport Bytes

cdef enum:
    ALIASES_MAXIMUM = 64    # per connection: they are looked through one by one for each message
    ALIAS_REST_MS = 60000   # BifroMQ's
    ALIAS_WORTH_BYTES = 4   # a shorter topic is no longer than the property that would stand for it


cdef struct AliasEntry:
    unsigned char *topic    # owned; NULL = free
    uint16_t size           # bytes
    uint64_t used_ms        # clock of the shards


cdef struct AliasTable:
    AliasEntry *entries     # count of them, behind the struct; entry i is alias i + 1
    uint16_t count
    uint16_t recent         # the entry used last


# NULL when memory is short: then there are no aliases. count is 1 to ALIASES_MAXIMUM.
cdef AliasTable *aliases_new(uint16_t count) noexcept nogil
cdef void aliases_free(AliasTable *table) noexcept nogil
# The alias that a message of this topic gets; 0 = none. is_known: the client has been told, the topic can be left out.
cdef uint16_t aliases_use(AliasTable *table, const Bytes *topic, uint64_t now_ms, bint *is_known) noexcept nogil
# The message that was to tell this alias was not sent.
cdef void aliases_take_back(AliasTable *table, uint16_t alias) noexcept nogil
