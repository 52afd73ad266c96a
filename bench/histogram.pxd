"""A latency histogram with buckets of constant relative width.

A value of n bits falls into one of 64 buckets of its power of two, so that a bucket is at most 1.6 % wide. Values below
64 ns have a bucket each:

    bucket   0 ..  63    64 .. 127    128 .. 191         192 .. 255
    ns       0 ..  63    64 .. 127    128, 130 .. 254    256, 260 .. 508    ...
"""

from libc.stdint cimport uint64_t


cdef extern from *:
    int count_leading_zeros "__builtin_clzll" (unsigned long long value) noexcept nogil


cdef enum:
    SUB_BUCKET_BITS = 6
    VALUE_BITS = 42     # 73 minutes in nanoseconds; what is longer counts as this long
    BUCKET_COUNT = (VALUE_BITS - SUB_BUCKET_BITS + 1) << SUB_BUCKET_BITS


cdef struct Histogram:
    uint64_t counts[BUCKET_COUNT]   # values per bucket
    uint64_t count                  # values in all
    uint64_t largest_ns             # exact, not the edge of a bucket


cdef inline int bucket_of(uint64_t value_ns) noexcept nogil:
    cdef int shift
    if value_ns < (1 << SUB_BUCKET_BITS):
        return <int> value_ns
    if value_ns >> VALUE_BITS:
        return BUCKET_COUNT - 1
    shift = 63 - count_leading_zeros(value_ns) - SUB_BUCKET_BITS
    return (shift << SUB_BUCKET_BITS) + <int> (value_ns >> shift)


cdef inline void record(Histogram *histogram, uint64_t value_ns, uint64_t times) noexcept nogil:
    """Count one value that occurred several times."""
    histogram.counts[bucket_of(value_ns)] += times
    histogram.count += times
    if value_ns > histogram.largest_ns:
        histogram.largest_ns = value_ns


cdef void clear(Histogram *histogram) noexcept nogil
cdef uint64_t percentile(const Histogram *histogram, double percent) noexcept nogil


cdef class LatencyHistogram:
    cdef Histogram histogram
