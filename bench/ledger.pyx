from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset


cdef bint see_out_of_turn(Lane *lane, uint64_t sequence, bint is_redelivery, Tally *tally) noexcept nogil:
    if sequence > lane.expected:
        open_gap(lane, sequence, tally)
        return True
    if close_gap(lane, sequence, tally):
        tally.missing -= 1
        tally.reordered += 1
        return True
    count_again(is_redelivery, tally)
    return False


cdef void count_again(bint is_redelivery, Tally *tally) noexcept nogil:
    if is_redelivery:
        tally.redelivered += 1
    else:
        tally.doubled += 1


cdef void open_gap(Lane *lane, uint64_t sequence, Tally *tally) noexcept nogil:
    """Note that the numbers from `lane.expected` up to `sequence` were jumped over."""
    cdef Gap *gap
    tally.missing += sequence - lane.expected
    if tally.gap_count < GAP_LIMIT:
        gap = <Gap *> malloc(sizeof(Gap))
        if gap != NULL:
            gap.first = lane.expected
            gap.end = sequence
            gap.next = lane.gaps
            lane.gaps = gap
            tally.gap_count += 1
    lane.expected = sequence + 1


cdef bint close_gap(Lane *lane, uint64_t sequence, Tally *tally) noexcept nogil:
    """Take a number out of the gap that holds it; False if none does."""
    cdef Gap **link = &lane.gaps
    cdef Gap *gap
    cdef Gap *upper
    while link[0] != NULL:
        gap = link[0]
        if gap.first <= sequence < gap.end:
            break
        link = &gap.next
    else:
        return False
    if gap.end - gap.first == 1:
        link[0] = gap.next
        free(gap)
        tally.gap_count -= 1
    elif sequence == gap.first:
        gap.first += 1
    elif sequence == gap.end - 1:
        gap.end -= 1
    else:
        upper = <Gap *> malloc(sizeof(Gap))
        if upper != NULL:
            upper.first = sequence + 1
            upper.end = gap.end
            upper.next = gap
            link[0] = upper
            tally.gap_count += 1
        gap.end = sequence
    return True


cdef bint see_one_of(
    Sightings *sightings, Lane *lane, uint64_t sequence, bint is_ordered, bint is_redelivery, Tally *tally
) noexcept nogil:
    """Enter a message of a flow that is parted among its lanes; True if no lane has seen it before."""
    cdef uint64_t *word
    cdef uint64_t bit
    if sequence >= sightings.floor:
        if sequence - sightings.floor >= sightings.capacity and not widen(sightings, sequence):
            tally.strays += 1
            return False
        word = &sightings.words[(sequence & (sightings.capacity - 1)) >> 6]
        bit = <uint64_t> 1 << (sequence & 63)
        if word[0] & bit == 0:
            word[0] |= bit
            raise_floor(sightings)
            if sequence >= lane.expected:
                lane.expected = sequence + 1
            elif is_ordered:
                tally.reordered += 1
            return True
    count_again(is_redelivery, tally)
    return False


cdef void raise_floor(Sightings *sightings) noexcept nogil:
    cdef uint64_t *word
    cdef uint64_t bit
    while True:
        word = &sightings.words[(sightings.floor & (sightings.capacity - 1)) >> 6]
        bit = <uint64_t> 1 << (sightings.floor & 63)
        if word[0] & bit == 0:
            return
        word[0] &= ~bit
        sightings.floor += 1


cdef bint widen(Sightings *sightings, uint64_t sequence) noexcept nogil:
    """Make room for a number above the ring; False if that would be too much."""
    cdef uint64_t capacity = max(sightings.capacity, <uint64_t> 1024)
    cdef uint64_t *words
    cdef uint64_t number
    while sequence - sightings.floor >= capacity:
        capacity *= 2
    if capacity > SIGHTING_LIMIT:
        return False
    words = <uint64_t *> calloc(capacity >> 6, sizeof(uint64_t))
    if words == NULL:
        return False
    for number in range(sightings.floor, sightings.floor + sightings.capacity):
        if sightings.words[(number & (sightings.capacity - 1)) >> 6] >> (number & 63) & 1:
            words[(number & (capacity - 1)) >> 6] |= <uint64_t> 1 << (number & 63)
    free(sightings.words)
    sightings.words = words
    sightings.capacity = capacity
    return True


cdef void forget(Sightings *sightings) noexcept nogil:
    """Start again at sequence number 0."""
    if sightings.words != NULL:
        memset(sightings.words, 0, sightings.capacity >> 3)
    sightings.floor = 0


cdef void release_lane(Lane *lane) noexcept nogil:
    cdef Gap *gap
    while lane.gaps != NULL:
        gap = lane.gaps
        lane.gaps = gap.next
        free(gap)


cdef void release_sightings(Sightings *sightings) noexcept nogil:
    free(sightings.words)
    memset(sightings, 0, sizeof(Sightings))


cdef class Ledger:
    """The books of one flow as Python sees them; the generator uses the structs directly."""

    def __cinit__(self, uint32_t lane_count):
        self.lanes = <Lane *> calloc(lane_count, sizeof(Lane))
        if self.lanes == NULL:
            raise MemoryError
        self.lane_count = lane_count

    def __dealloc__(self):
        cdef uint32_t index
        for index in range(self.lane_count):
            release_lane(&self.lanes[index])
        free(self.lanes)
        release_sightings(&self.sightings)

    def see_next(self, uint32_t lane, uint64_t sequence, bint is_redelivery=False):
        """Enter a message of a flow that goes to each; True if this lane had not seen it."""
        return bool(see_next(self.lane(lane), sequence, is_redelivery, &self.tally))

    def see_one_of(self, uint32_t lane, uint64_t sequence, bint is_ordered=True, bint is_redelivery=False):
        """Enter a message of a flow that is parted among its lanes; True if no lane had seen it."""
        return bool(
            see_one_of(&self.sightings, self.lane(lane), sequence, is_ordered, is_redelivery, &self.tally)
        )

    cdef Lane *lane(self, uint32_t index) except NULL:
        if index >= self.lane_count:
            raise IndexError(f"lane {index} of {self.lane_count}")
        return &self.lanes[index]

    @property
    def floor(self):
        """Every sequence number below this was seen by some lane (flows that are parted)."""
        return self.sightings.floor

    @property
    def counts(self):
        """What went wrong so far, by name."""
        return {
            "missing": self.tally.missing,
            "doubled": self.tally.doubled,
            "reordered": self.tally.reordered,
            "redelivered": self.tally.redelivered,
        }
