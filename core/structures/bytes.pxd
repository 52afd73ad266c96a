"""A borrowed run of bytes: the currency between decoder, topic trees and encoder."""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy


cdef struct Bytes:
    const uint8_t *data  # borrowed: the owner is named where a field of this type is declared
    Py_ssize_t size      # bytes; 0 with data == NULL means absent where absence and emptiness differ


cdef enum:
    SHORT_SIZE = 64  # bytes; up to here a call of memcmp or memcpy costs as much as its work


# Are these the same? Topics and property blocks are short: overlapping pieces of a fixed size do without a call.
cdef inline bint is_same(const uint8_t *one, const uint8_t *other, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at = 16
    if size < 8 or size > SHORT_SIZE:
        return memcmp(one, other, size) == 0
    if size < 16:
        return memcmp(one, other, 8) == 0 and memcmp(one + size - 8, other + size - 8, 8) == 0
    if memcmp(one, other, 16) != 0:
        return False
    while at < size - 16:
        if memcmp(one + at, other + at, 16) != 0:
            return False
        at += 16
    return memcmp(one + size - 16, other + size - 16, 16) == 0


# memcpy for what is mostly short.
cdef inline void copy_short(uint8_t *out, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    if size > SHORT_SIZE:
        memcpy(out, data, size)
    elif size > 32:
        memcpy(out, data, 32)
        memcpy(out + size - 32, data + size - 32, 32)
    elif size >= 16:
        memcpy(out, data, 16)
        memcpy(out + size - 16, data + size - 16, 16)
    elif size >= 8:
        memcpy(out, data, 8)
        memcpy(out + size - 8, data + size - 8, 8)
    elif size > 0:
        memcpy(out, data, size)
