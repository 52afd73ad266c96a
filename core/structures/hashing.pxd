"""A keyed hash: topic names and client identifiers come from strangers, who must not be able to choose collisions."""

from libc.stdint cimport uint8_t, uint64_t


cdef struct HashKey:
    uint64_t first   # random per process
    uint64_t second


cdef uint64_t hash_bytes(const HashKey *key, const uint8_t *data, Py_ssize_t size) noexcept nogil
