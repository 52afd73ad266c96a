"""See rows.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef enum:
    _FIRST_CAPACITY = 4096


cdef void _put(Rows *rows, const void *data, uint64_t size) noexcept nogil:
    cdef uint64_t capacity = rows.capacity if rows.capacity > 0 else _FIRST_CAPACITY
    cdef uint8_t *moved
    while capacity < rows.size + size:
        capacity *= 2
    if capacity > rows.capacity:
        moved = <uint8_t *> realloc(rows.data, capacity)
        if moved == NULL:
            rows.has_failed = True
            return
        rows.data = moved
        rows.capacity = capacity
    if size > 0:
        memcpy(rows.data + rows.size, data, size)
    rows.size += size


cdef void rows_put_number(Rows *rows, uint64_t number) noexcept nogil:
    _put(rows, &number, sizeof(number))


cdef void rows_put_string(Rows *rows, const uint8_t *data, uint64_t size) noexcept nogil:
    cdef uint32_t length = <uint32_t> size
    _put(rows, &length, sizeof(length))
    _put(rows, data, size)


cdef void rows_free(Rows *rows) noexcept nogil:
    free(rows.data)
    rows.data = NULL
    rows.size = 0
    rows.capacity = 0
