"""A borrowed run of bytes: the currency between decoder, topic trees and encoder."""

from libc.stdint cimport uint8_t


cdef struct Bytes:
    const uint8_t *data  # borrowed: the owner is named where a field of this type is declared
    Py_ssize_t size      # bytes; 0 with data == NULL means absent where absence and emptiness differ
