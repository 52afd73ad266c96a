"""See aliases.pxd."""

from libc.stdint cimport uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from rookery.core.structures.bytes cimport Bytes


cdef AliasTable *aliases_new(uint16_t count) noexcept nogil:
    cdef AliasTable *table = <AliasTable *> calloc(1, sizeof(AliasTable) + count * sizeof(AliasEntry))
    if table != NULL:
        table.entries = <AliasEntry *> (<unsigned char *> table + sizeof(AliasTable))
        table.count = count
    return table


cdef void aliases_free(AliasTable *table) noexcept nogil:
    cdef uint16_t index
    if table == NULL:
        return
    for index in range(table.count):
        free(table.entries[index].topic)
    free(table)


cdef inline bint _is_topic(const AliasEntry *entry, const Bytes *topic) noexcept nogil:
    return entry.size == topic.size and entry.topic != NULL and memcmp(entry.topic, topic.data, topic.size) == 0


cdef uint16_t _tell(AliasTable *table, const Bytes *topic, uint64_t now_ms) noexcept nogil:
    """A place for a topic that has none; 0 when all are in use."""
    cdef AliasEntry *entries = table.entries
    cdef AliasEntry *chosen = &entries[0]
    cdef unsigned char *copy
    cdef uint16_t index
    for index in range(table.count):
        if entries[index].topic == NULL:
            chosen = &entries[index]
            break
        if entries[index].used_ms < chosen.used_ms:
            chosen = &entries[index]
    if chosen.topic != NULL and now_ms < chosen.used_ms + ALIAS_REST_MS:
        return 0
    copy = <unsigned char *> malloc(topic.size)
    if copy == NULL:
        return 0
    memcpy(copy, topic.data, topic.size)
    free(chosen.topic)
    chosen.topic = copy
    chosen.size = <uint16_t> topic.size
    chosen.used_ms = now_ms
    table.recent = <uint16_t> (chosen - entries)
    return table.recent + 1


cdef uint16_t aliases_use(AliasTable *table, const Bytes *topic, uint64_t now_ms, bint *is_known) noexcept nogil:
    cdef AliasEntry *entries = table.entries
    cdef uint16_t index
    is_known[0] = False
    if topic.size < ALIAS_WORTH_BYTES:
        return 0
    if not _is_topic(&entries[table.recent], topic):
        index = 0
        while index < table.count and not _is_topic(&entries[index], topic):
            index += 1
        if index == table.count:
            return _tell(table, topic, now_ms)
        table.recent = index
    entries[table.recent].used_ms = now_ms
    is_known[0] = True
    return table.recent + 1


cdef void aliases_take_back(AliasTable *table, uint16_t alias) noexcept nogil:
    cdef AliasEntry *entry = &table.entries[alias - 1]
    free(entry.topic)
    entry.topic = NULL
    entry.size = 0
