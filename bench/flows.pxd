"""What is published: messages as they are due and allowed, into slots that were filled in beforehand, and out."""

from libc.stdint cimport uint64_t

from rookery.bench.load_state cimport Engine, Flow


cdef int flush_all(Engine *engine) noexcept nogil
cdef void keep_schedule(Engine *engine, uint64_t now) noexcept nogil


# Here, because who receives a message asks, too, which topic it must have.

cdef inline uint64_t scatter(uint64_t flow, uint64_t sequence) noexcept nogil:
    """A number that looks random but that the receiver can compute, too (splitmix64)."""
    cdef uint64_t mixed = sequence * 0x9E3779B97F4A7C15ULL + (flow + 1) * 0xD1B54A32D192ED03ULL
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ULL
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBULL
    return mixed ^ (mixed >> 31)


cdef inline uint64_t topic_of(const Flow *flow, uint64_t flow_index, uint64_t sequence) noexcept nogil:
    if flow.topic_count == 1:
        return 0
    if flow.is_random:
        return scatter(flow_index, sequence) % flow.topic_count
    return sequence % flow.topic_count
