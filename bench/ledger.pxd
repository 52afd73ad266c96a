"""The books of a run: did every message arrive, once, in order?

A *flow* is what one publisher sends: sequence numbers 0, 1, 2 ... A *lane* is what one subscriber has seen of one flow.
There are two ways to deliver a flow, and two ways to keep its books:

- To each: every subscriber gets the whole flow. Its lane holds the next sequence number; as long as nothing is wrong a
  message costs one comparison. A jump forwards opens a *gap*; a number out of a gap that comes later was reordered; any
  other number from the past is doubled; what is in a gap at the end is lost.
- To one of several (shared subscriptions, filters that part the topics among subscribers): no subscriber can know
  which numbers are its own. The *sightings* of the flow, one bit per message, tell doubled and lost; within a lane the
  numbers must still grow.

        sightings   floor = 40: all below were seen
                    | 1 0 1 1 0 0 ...      42 and 43 came before 41: fine, another lane carried it
"""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    # Gaps kept per run. A broker that loses more than this is not made to look better, only described less exactly:
    # what is late after that counts as doubled.
    GAP_LIMIT = 65536
    # Messages above the floor of one flow, of which the oldest is missing (bits; 128 MiB). What is above is not marked.
    SIGHTING_LIMIT = 1 << 30


cdef struct Gap:
    uint64_t first      # sequence number that was expected
    uint64_t end        # one past the last that is missing
    Gap *next           # older gap


cdef struct Lane:
    uint64_t expected   # next sequence number, if all is well
    Gap *gaps           # newest first; owned; NULL as long as all is well


cdef struct Sightings:
    uint64_t *words     # ring of bits: bit (sequence % capacity) tells whether it was seen; owned
    uint64_t capacity   # bits, a power of two; 0 before the first message
    uint64_t floor      # every sequence number below this was seen


cdef struct Tally:
    uint64_t missing      # in gaps now: lost unless they still come
    uint64_t doubled      # came again without DUP, or at QoS 0 or 2
    uint64_t reordered    # came after a later one
    uint64_t redelivered  # QoS 1 with DUP: the standard allows it [MQTT-4.3.2-3], so it is counted and is no error
    uint64_t strays       # of another run, another flow, or not for this subscriber
    uint64_t invented     # never sent
    uint64_t damaged      # payload of the wrong size or with wrong bytes
    uint64_t misgraded    # QoS or retain flag is not what was subscribed to
    uint64_t handshakes   # acknowledgement of something that was not outstanding, or out of step
    uint32_t gap_count    # gaps in memory now


cdef inline bint see_next(Lane *lane, uint64_t sequence, bint is_redelivery, Tally *tally) noexcept nogil:
    """Enter a message of a flow that goes to each; True if it was not seen before."""
    if sequence == lane.expected:
        lane.expected += 1
        return True
    return see_out_of_turn(lane, sequence, is_redelivery, tally)


cdef bint see_out_of_turn(Lane *lane, uint64_t sequence, bint is_redelivery, Tally *tally) noexcept nogil
cdef bint see_one_of(
    Sightings *sightings, Lane *lane, uint64_t sequence, bint is_ordered, bint is_redelivery, Tally *tally
) noexcept nogil
cdef void forget(Sightings *sightings) noexcept nogil
cdef void release_lane(Lane *lane) noexcept nogil
cdef void release_sightings(Sightings *sightings) noexcept nogil


cdef class Ledger:
    cdef Lane *lanes
    cdef Sightings sightings
    cdef Tally tally
    cdef uint32_t lane_count

    cdef Lane *lane(self, uint32_t index) except NULL
