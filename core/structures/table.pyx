"""The writing side of the table, and its Python face.

When a move begins, its target is so large that at most 3/8 of it will be full: the same size again if there were many
tombstones, else twice it, or half of it when less than 1/8 is full. A move looks at 64 slots or takes 8 entries per
write, so it is over long before the target is 3/4 full: at worst (growing, 3/4 of n slots full) after n / 10 writes.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from rookery.core.structures.atomics cimport atomic_store_pointer, atomic_store_u64
from rookery.core.structures.pages cimport pages_allocate, pages_free
from rookery.core.structures.reclaim cimport (
    ReclaimDomain, reclaim_free, reclaim_new, reclaim_pages, reclaim_quiescent)

cdef enum:
    EMPTY = 0
    NOT_FOUND = -1

cdef inline uint64_t tombstone() noexcept nogil:
    return 1ULL << 32  # any word with number 0 that is not EMPTY


cdef inline size_t slots_size(const TableSlots *slots) noexcept nogil:
    return sizeof(TableSlots) + (slots.mask + 1) * sizeof(uint64_t)


cdef void table_init(Table *table, ReclaimDomain *reclaim) noexcept nogil:
    table[0] = Table(current=NULL, old=NULL, reclaim=reclaim, count=0, used=0, moved=0, moved_last=0)


cdef void table_clear(Table *table) noexcept nogil:
    free_slots(table.current)
    free_slots(table.old)
    table_init(table, table.reclaim)


cdef int table_insert(Table *table, uint32_t hash, uint32_t number) noexcept nogil:
    cdef uint64_t capacity
    if table.current == NULL:
        table.current = new_slots(TABLE_CAPACITY_MINIMUM)
        if table.current == NULL:
            return -1
        table.used = 0
    capacity = table.current.mask + 1
    if table.old == NULL and (<uint64_t> table.used + 1) * 4 > capacity * 3:
        # When memory is short the table goes on in what it has, as long as probes stay finite.
        if begin_move(table, capacity * 2 if (<uint64_t> table.count + 1) * 8 > capacity * 3 else capacity) < 0:
            if (<uint64_t> table.used + 1) * 8 > capacity * 7:
                return -1
    move_some(table)
    place(table, <uint64_t> hash << 32 | number)
    table.count += 1
    return 0


cdef void table_remove(Table *table, uint32_t hash, uint32_t number) noexcept nogil:
    cdef uint64_t word = <uint64_t> hash << 32 | number
    cdef uint64_t capacity = table.current.mask + 1
    cdef int64_t index = find_word(table.current, word)
    if index != NOT_FOUND:
        erase(table, index)
    if table.old != NULL:
        index = find_word(table.old, word)
        if index != NOT_FOUND:
            atomic_store_u64(&slots_of(table.old)[index], tombstone())
    table.count -= 1
    if table.count == 0 and capacity > TABLE_CAPACITY_MINIMUM:
        drop_all(table)
        return
    if table.old == NULL and capacity > TABLE_CAPACITY_MINIMUM and <uint64_t> table.count * 8 < capacity:
        begin_move(table, capacity // 2)  # If memory is short it stays as it is.
    move_some(table)


cdef uint64_t table_memory_bytes(const Table *table) noexcept nogil:
    cdef uint64_t total = 0
    if table.current != NULL:
        total += slots_size(table.current)
    if table.old != NULL:
        total += slots_size(table.old)
    return total


cdef TableSlots *new_slots(uint64_t capacity) noexcept nogil:
    cdef TableSlots *slots = <TableSlots *> pages_allocate(sizeof(TableSlots) + capacity * sizeof(uint64_t))
    if slots != NULL:
        slots.mask = capacity - 1
    return slots


cdef void free_slots(TableSlots *slots) noexcept nogil:
    if slots != NULL:
        pages_free(slots, slots_size(slots))


cdef void retire_slots(Table *table, TableSlots *slots) noexcept nogil:
    # If memory is short the array leaks, which is better than to free what is being read.
    if slots != NULL:
        reclaim_pages(table.reclaim, slots, slots_size(slots))


cdef void drop_all(Table *table) noexcept nogil:
    """Nothing is left: give all memory back without moving."""
    cdef TableSlots *current = table.current
    cdef TableSlots *old = table.old
    atomic_store_pointer(<void **> &table.old, NULL)
    atomic_store_pointer(<void **> &table.current, NULL)
    table.used = 0
    table.moved_last = 0
    retire_slots(table, old)
    retire_slots(table, current)


cdef int begin_move(Table *table, uint64_t capacity) noexcept nogil:
    cdef TableSlots *slots = new_slots(capacity)
    if slots == NULL:
        return -1
    atomic_store_pointer(<void **> &table.old, table.current)  # Before current: see the theory in table.pxd.
    atomic_store_pointer(<void **> &table.current, slots)
    table.moved = 0
    table.used = 0
    return 0


cdef void move_some(Table *table) noexcept nogil:
    cdef TableSlots *old = table.old
    cdef uint64_t end
    cdef uint64_t word
    table.moved_last = 0
    if old == NULL:
        return
    end = min(table.moved + TABLE_SCANNED_MAXIMUM, old.mask + 1)
    while table.moved < end and table.moved_last < TABLE_MOVED_MAXIMUM:
        word = slots_of(old)[table.moved]
        table.moved += 1
        if <uint32_t> word:
            place(table, word)
            table.moved_last += 1
    if table.moved > old.mask:
        atomic_store_pointer(<void **> &table.old, NULL)
        retire_slots(table, old)


cdef void place(Table *table, uint64_t word) noexcept nogil:
    """Put an entry that is not there into the current array."""
    cdef uint64_t mask = table.current.mask
    cdef uint64_t index = (word >> 32) & mask
    cdef uint64_t *slots = slots_of(table.current)
    while <uint32_t> slots[index]:
        index = (index + 1) & mask
    if slots[index] == EMPTY:
        table.used += 1
    atomic_store_u64(&slots[index], word)


cdef int64_t find_word(const TableSlots *array, uint64_t word) noexcept nogil:
    """The slot that holds word, or NOT_FOUND."""
    cdef uint64_t index = (word >> 32) & array.mask
    cdef uint64_t *slots = slots_of(array)
    while slots[index] != word:
        if slots[index] == EMPTY:
            return NOT_FOUND
        index = (index + 1) & array.mask
    return index


cdef void erase(Table *table, uint64_t index) noexcept nogil:
    """Erase a slot of the current array, and the tombstones before it if no probe passes here any more."""
    cdef uint64_t mask = table.current.mask
    cdef uint64_t *slots = slots_of(table.current)
    if slots[(index + 1) & mask] != EMPTY:
        atomic_store_u64(&slots[index], tombstone())
        return
    while True:
        atomic_store_u64(&slots[index], EMPTY)
        table.used -= 1
        index = (index - 1) & mask
        if slots[index] != tombstone():
            return


cdef class NumberTable:
    """A Table and the domain of its one reader, as a multimap: hash -> numbers, each at most once per hash."""

    cdef Table table
    cdef ReclaimDomain *reclaim

    def __cinit__(self):
        self.reclaim = reclaim_new(1)
        if self.reclaim == NULL:
            raise MemoryError
        table_init(&self.table, self.reclaim)

    def __dealloc__(self):
        table_clear(&self.table)
        reclaim_free(self.reclaim)

    def __len__(self):
        return self.table.count

    def add(self, uint32_t key_hash, uint32_t number):
        if number == 0:
            raise ValueError("0 is no number of a table")
        if number in self.find(key_hash):
            raise ValueError(f"{number} is in the table under this hash already")
        if table_insert(&self.table, key_hash, number) < 0:
            raise MemoryError
        reclaim_quiescent(self.reclaim, 0)

    def remove(self, uint32_t key_hash, uint32_t number):
        if number not in self.find(key_hash):
            raise KeyError(number)
        table_remove(&self.table, key_hash, number)
        reclaim_quiescent(self.reclaim, 0)

    def find(self, uint32_t key_hash):
        cdef TableProbe probe
        cdef uint32_t number = table_first(&self.table, key_hash, &probe)
        found = set()
        while number:
            found.add(number)
            number = table_next(&probe)
        return found

    @property
    def capacity(self):
        """Slots of the array that entries are added to."""
        return 0 if self.table.current == NULL else self.table.current.mask + 1

    @property
    def is_moving(self):
        return self.table.old != NULL

    @property
    def moved_last(self):
        """Entries that the last add or remove moved."""
        return self.table.moved_last

    @property
    def memory_bytes(self):
        return table_memory_bytes(&self.table)
