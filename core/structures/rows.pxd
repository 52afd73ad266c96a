"""Rows: numbers and byte strings one after the other in one growing block, for who takes them apart elsewhere.

A number is 64 bits, a string 32 bits of length and its bytes, in the machine's byte order. What fails for want of
memory is told once, at the end.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct Rows:
    uint8_t *data               # owned
    uint64_t size               # bytes
    uint64_t capacity
    uint32_t count              # rows: the writer's to keep
    bint has_failed             # memory was short


cdef void rows_put_number(Rows *rows, uint64_t number) noexcept nogil
cdef void rows_put_string(Rows *rows, const uint8_t *data, uint64_t size) noexcept nogil
cdef void rows_free(Rows *rows) noexcept nogil
