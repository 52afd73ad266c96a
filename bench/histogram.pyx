from libc.math cimport ceil
from libc.string cimport memset


cdef void clear(Histogram *histogram) noexcept nogil:
    memset(histogram, 0, sizeof(Histogram))


cdef uint64_t upper_edge(int bucket) noexcept nogil:
    """The largest value that falls into a bucket."""
    cdef int shift
    cdef uint64_t mantissa
    if bucket < (2 << SUB_BUCKET_BITS):
        return <uint64_t> bucket
    shift = (bucket >> SUB_BUCKET_BITS) - 1
    mantissa = <uint64_t> ((bucket & ((1 << SUB_BUCKET_BITS) - 1)) + (1 << SUB_BUCKET_BITS))
    return ((mantissa + 1) << shift) - 1


cdef uint64_t percentile(const Histogram *histogram, double percent) noexcept nogil:
    """The value that `percent` of all values do not exceed, rounded up by at most a bucket; 0 without values."""
    cdef uint64_t seen = 0
    cdef uint64_t rank = <uint64_t> ceil(<double> histogram.count * percent / 100.0)
    cdef int bucket
    if histogram.count == 0:
        return 0
    if rank < 1:
        rank = 1
    for bucket in range(BUCKET_COUNT):
        seen += histogram.counts[bucket]
        if seen >= rank:
            return min(upper_edge(bucket), histogram.largest_ns)
    return histogram.largest_ns


cdef class LatencyHistogram:
    """The histogram as Python sees it; the generator uses the struct directly."""

    def __cinit__(self):
        clear(&self.histogram)

    def record(self, uint64_t value_ns, uint64_t times=1):
        record(&self.histogram, value_ns, times)

    def percentile(self, double percent):
        """The value that percent (0 to 100) of all values do not exceed, in ns, rounded up by at most 1.6 %."""
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is not a percentage")
        return percentile(&self.histogram, percent)

    @property
    def count(self):
        return self.histogram.count

    @property
    def largest_ns(self):
        return self.histogram.largest_ns
