"""Quiescent-state reclamation. The theory:

The domain counts an epoch up with everything that is handed over; what is handed over gets the new epoch as its stamp.
A shard that ends a turn writes down the epoch that it sees then: `seen`. A shard whose `seen` has reached a stamp has
ended a turn after the thing was unlinked, so it can find it no more and holds no reference from before. A shard that
is offline has 0 there and holds none either. Hence: a stamp that is not above the least `seen` of those online is due.

    epoch 7    waiting: [stamp 5] [stamp 6] [stamp 7]       seen: shard 0 = 6, shard 1 = 0 (offline), shard 2 = 5
               due: stamp 5, because shard 2 may still look at the other two

Going online is the delicate step. The shard writes `seen` and then reads trees; a writer unlinks and then reads `seen`.
A full fence between the two steps on both sides makes sure that at least one of them notices the other.

What waits stands in a queue of blocks under a mutex, so that handing over never moves memory and the order is kept.
Only one shard releases at a time; another one that finds it busy does not wait for it. The functions are called
without the mutex: they may hand over further things, and may take the locks of what they belong to.

Cost: handing over 30 ns; the end of a turn 1 ns when nothing waits.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from rookery.core.structures.atomics cimport (
    atomic_add_u64, atomic_exchange_u32, atomic_fence, atomic_load_u32, atomic_load_u64, atomic_store_u32,
    atomic_store_u64, atomic_subtract_u64)
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init, mutex_lock, mutex_unlock
from rookery.core.structures.pages cimport PAGES_SIZE_MINIMUM, pages_allocate, pages_free

cdef enum:
    RELEASE_BATCH = 32       # taken out of the queue at once, so that the mutex is not taken for each
    PIECE_SIZE = 1048576     # bytes of pages that are freed at once: 25 us


cdef ReclaimDomain *reclaim_new(uint32_t shard_count) noexcept nogil:
    cdef ReclaimDomain *domain = <ReclaimDomain *> calloc(1, sizeof(ReclaimDomain))
    if domain == NULL:
        return NULL
    domain.shards = <ReclaimShard *> calloc(shard_count + 1, sizeof(ReclaimShard))
    if domain.shards == NULL:
        free(domain)
        return NULL
    domain.shard_count = shard_count
    domain.epoch = 1
    mutex_init(&domain.mutex, NULL)
    return domain


cdef void reclaim_free(ReclaimDomain *domain) noexcept nogil:
    if domain == NULL:
        return
    while release_batch(domain, <uint64_t> -1):
        pass
    free(domain.spare)
    mutex_destroy(&domain.mutex)
    free(domain.shards)
    free(domain)


cdef int reclaim_later(
    ReclaimDomain *domain, ReleaseFunction release, void *context, uint64_t argument
) noexcept nogil:
    cdef WaitingBlock *block
    cdef Waiting *waiting
    mutex_lock(&domain.mutex)
    block = domain.tail
    if block == NULL or domain.tail_count == WAITING_PER_BLOCK:
        block = domain.spare
        domain.spare = NULL
        if block == NULL:
            block = <WaitingBlock *> malloc(sizeof(WaitingBlock))
            if block == NULL:
                mutex_unlock(&domain.mutex)
                return -1
        block.next = NULL
        block.taken = 0
        if domain.tail == NULL:
            domain.head = block
        else:
            domain.tail.next = block
        domain.tail = block
        domain.tail_count = 0
    waiting = &block.items[domain.tail_count]
    domain.tail_count += 1
    waiting.release = release
    waiting.context = context
    waiting.argument = argument
    waiting.stamp = atomic_add_u64(&domain.epoch, 1) + 1
    atomic_add_u64(&domain.waiting_count, 1)
    mutex_unlock(&domain.mutex)
    return 0


cdef int reclaim_pages(ReclaimDomain *domain, void *memory, size_t size) noexcept nogil:
    return reclaim_later(domain, NULL, memory, size)


cdef uint64_t reclaim_waiting_count(ReclaimDomain *domain) noexcept nogil:
    return atomic_load_u64(&domain.waiting_count)


cdef void reclaim_online(ReclaimDomain *domain, uint32_t shard) noexcept nogil:
    atomic_store_u64(&domain.shards[shard].seen, atomic_load_u64(&domain.epoch))
    atomic_fence()  # Before the first read of this turn: see the theory above.


cdef void reclaim_quiescent(ReclaimDomain *domain, uint32_t shard) noexcept nogil:
    atomic_store_u64(&domain.shards[shard].seen, atomic_load_u64(&domain.epoch))
    if atomic_load_u64(&domain.waiting_count):
        release_due(domain)


cdef void reclaim_offline(ReclaimDomain *domain, uint32_t shard) noexcept nogil:
    atomic_store_u64(&domain.shards[shard].seen, 0)
    if atomic_load_u64(&domain.waiting_count):
        release_due(domain)


cdef void release_due(ReclaimDomain *domain) noexcept nogil:
    cdef uint64_t limit
    if atomic_load_u32(&domain.is_releasing) or atomic_exchange_u32(&domain.is_releasing, 1):
        return
    limit = due_limit(domain)
    while release_batch(domain, limit):
        pass
    atomic_store_u32(&domain.is_releasing, 0)


cdef uint64_t due_limit(ReclaimDomain *domain) noexcept nogil:
    """The highest stamp that is due."""
    # The epoch is read first: a shard that is offline now can come online later, and look at what is unlinked after.
    cdef uint64_t limit = atomic_load_u64(&domain.epoch)
    cdef uint64_t seen
    cdef uint32_t shard
    atomic_fence()
    for shard in range(domain.shard_count):
        seen = atomic_load_u64(&domain.shards[shard].seen)
        if seen != 0 and seen < limit:
            limit = seen
    return limit


cdef uint32_t release_batch(ReclaimDomain *domain, uint64_t limit) noexcept nogil:
    """Release the oldest few whose stamp is not above limit; returns how many."""
    cdef Waiting due[RELEASE_BATCH]
    cdef WaitingBlock *block
    cdef uint32_t count = 0
    cdef uint32_t index
    mutex_lock(&domain.mutex)
    while count < RELEASE_BATCH:
        block = domain.head
        if block == NULL:
            break
        if block == domain.tail and block.taken == domain.tail_count:
            # Empty: begin at its start again rather than go on to a new block.
            block.taken = 0
            domain.tail_count = 0
            if domain.spare == NULL:
                domain.spare = block
            else:
                free(block)
            domain.head = NULL
            domain.tail = NULL
            break
        if block.taken == WAITING_PER_BLOCK:
            domain.head = block.next
            if domain.spare == NULL:
                domain.spare = block
            else:
                free(block)
            continue
        if block.items[block.taken].stamp > limit:
            break
        due[count] = block.items[block.taken]
        block.taken += 1
        count += 1
    mutex_unlock(&domain.mutex)
    for index in range(count):
        if due[index].release == NULL:
            free_piece(domain, <uint8_t *> due[index].context, due[index].argument)
        else:
            due[index].release(due[index].context, due[index].argument)
    if count:
        atomic_subtract_u64(&domain.waiting_count, count)
    return count


cdef void free_piece(ReclaimDomain *domain, uint8_t *memory, size_t size) noexcept nogil:
    """Free a piece of the pages now; the rest gets a new stamp and waits for the next turn."""
    # What remains must be large enough to be pages still, for small memory is malloc's.
    if size < PIECE_SIZE + PAGES_SIZE_MINIMUM or reclaim_pages(domain, memory + PIECE_SIZE, size - PIECE_SIZE) < 0:
        pages_free(memory, size)
    else:
        pages_free(memory, PIECE_SIZE)


cdef void note_release(void *context, uint64_t argument) noexcept nogil:
    with gil:
        (<list> context).append(argument)


@cython.no_gc_clear  # the domain writes to the list until the very end
cdef class ReclaimOrder:
    """A ReclaimDomain that writes down the numbers it is given in the order in which they are released."""

    cdef ReclaimDomain *domain
    cdef uint32_t shard_count
    cdef readonly list released  # borrowed by the domain until this object goes

    def __cinit__(self, uint32_t shard_count):
        self.released = []
        self.shard_count = shard_count
        self.domain = reclaim_new(shard_count)
        if self.domain == NULL:
            raise MemoryError

    def __dealloc__(self):
        reclaim_free(self.domain)

    def later(self, uint64_t number):
        if reclaim_later(self.domain, note_release, <void *> self.released, number) < 0:
            raise MemoryError

    def later_pages(self, size_t size):
        """Hand over fresh pages of this size."""
        cdef void *memory = pages_allocate(size)
        if memory == NULL or reclaim_pages(self.domain, memory, size) < 0:
            pages_free(memory, size)
            raise MemoryError

    def online(self, uint32_t shard):
        reclaim_online(self.domain, self._checked(shard))

    def quiescent(self, uint32_t shard):
        reclaim_quiescent(self.domain, self._checked(shard))

    def offline(self, uint32_t shard):
        reclaim_offline(self.domain, self._checked(shard))

    @property
    def waiting_count(self):
        return reclaim_waiting_count(self.domain)

    cdef uint32_t _checked(self, uint32_t shard) except *:
        if shard >= self.shard_count:
            raise IndexError(f"shard {shard} of a domain of {self.shard_count}")
        return shard
