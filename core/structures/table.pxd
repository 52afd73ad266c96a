"""Table: 32-bit hash -> 32-bit number, written by one thread while any number of others look things up.

The table knows no keys. A lookup yields the numbers whose hash fits, one after another, and the caller compares what
they stand for; that is a memory access which it needs anyway. So a slot is one word, `hash << 32 | number`, which is
published, moved and erased by a single store: a reader can never see half of an entry.

Open addressing, linear probing, at most 3/4 full. A write that finds the table too full (or too empty) begins a *move*
to another array, and each write then moves a few slots on; none ever rehashes the whole:

    old      [ a ][   ][ b ][ X ][ c ][   ][ d ][   ]      X = erased
                             ^ moved: what lies before is in current as well
    current  [   ][ a ][   ][ e ][   ][   ][   ][   ][ b ][   ][   ][   ][   ][   ][   ][   ]

What has been moved also stays in the old array, so a reader that looks into current first and into old next finds every
entry that was there all the time, wherever the move stands. For that the writer publishes old before current, and a
reader loads current before old, both before it looks into either. An entry that is removed is erased in both. When the
move is done the old array goes to the ReclaimDomain.

Erasing leaves a tombstone, or an empty slot where no probe passes. An insertion takes the first of either; it cannot
confuse a reader, because a slot is one word.
"""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.structures.atomics cimport atomic_load_pointer, atomic_load_u64, prefetch
from rookery.core.structures.reclaim cimport ReclaimDomain

cdef enum:
    TABLE_CAPACITY_MINIMUM = 16  # slots
    TABLE_MOVED_MAXIMUM = 8      # entries that one write moves at most
    TABLE_SCANNED_MAXIMUM = 64   # slots that it looks at for them; more, so that a sparse array shrinks quickly

cdef struct TableSlots:
    uint64_t mask            # slot count - 1, a power of two less one; the slots follow

cdef struct Table:
    TableSlots *current      # NULL while empty
    TableSlots *old          # what is being moved to current, or NULL
    ReclaimDomain *reclaim   # borrowed
    uint32_t count           # entries
    uint32_t used            # slots of current that are not empty, tombstones included
    uint64_t moved           # slots of old that have been dealt with
    uint32_t moved_last      # entries that the last write moved

cdef struct TableProbe:      # where a lookup stands
    const TableSlots *slots
    const TableSlots *next
    uint32_t hash
    uint32_t position


cdef void table_init(Table *table, ReclaimDomain *reclaim) noexcept nogil
# Frees at once: nobody may look any more.
cdef void table_clear(Table *table) noexcept nogil
# Add number, which is not 0 and not in the table with this hash. 0, or -1 when memory is short.
cdef int table_insert(Table *table, uint32_t hash, uint32_t number) noexcept nogil
# Remove what was inserted with just these arguments.
cdef void table_remove(Table *table, uint32_t hash, uint32_t number) noexcept nogil
cdef uint64_t table_memory_bytes(const Table *table) noexcept nogil


cdef inline uint64_t *slots_of(const TableSlots *slots) noexcept nogil:
    return <uint64_t *> (slots + 1)


# Another number that was inserted with the hash, or 0. The same one may come twice while a move is under way.
cdef inline uint32_t table_next(TableProbe *probe) noexcept nogil:
    cdef const TableSlots *slots = probe.slots
    cdef uint32_t position = probe.position
    cdef uint64_t word
    while True:
        word = atomic_load_u64(&slots_of(slots)[position & slots.mask])
        position += 1
        if word >> 32 == probe.hash and <uint32_t> word:
            probe.slots = slots
            probe.position = position
            return <uint32_t> word
        if word == 0:
            slots = probe.next
            if slots == NULL:
                return 0
            probe.next = NULL
            position = probe.hash


cdef inline uint32_t table_first(const Table *table, uint32_t hash, TableProbe *probe) noexcept nogil:
    probe.slots = <const TableSlots *> atomic_load_pointer(<void **> &table.current)
    probe.next = <const TableSlots *> atomic_load_pointer(<void **> &table.old)
    probe.hash = hash
    probe.position = hash
    if probe.slots == NULL:
        return 0
    return table_next(probe)


# Bring the place where a lookup will begin into the processor's cache.
cdef inline void table_prefetch(const Table *table, uint32_t hash) noexcept nogil:
    cdef const TableSlots *slots = <const TableSlots *> atomic_load_pointer(<void **> &table.current)
    if slots != NULL:
        prefetch(&slots_of(slots)[hash & slots.mask])
