"""UTF-8 as MQTT wants it.

Nearly all text on the wire is ASCII and settled by is_plain. The walk over the rest goes eight bytes at a time, too,
and steps down to single code points only at a word that holds something else. A sequence is checked by its second byte
beyond the plain "is a continuation": that byte tells overlong forms, surrogates and code points above U+10FFFF apart
(Unicode, table 3-7).
"""

from libc.stdint cimport uint8_t
from libc.string cimport memchr
from rookery.core.wire.text cimport find_unplain, is_plain, load_word


cdef inline bint is_continuation(uint8_t byte) noexcept nogil:
    return byte & 0xC0 == 0x80


# Bytes of the well-formed sequence beyond ASCII at data, 2 to 4; 0 if there is none. size is at least 1.
cdef inline Py_ssize_t measure_sequence(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef uint8_t lead = data[0]
    cdef uint8_t second
    if lead < 0xC2 or lead > 0xF4 or size < 2:  # a continuation, an overlong form, or above U+10FFFF
        return 0
    second = data[1]
    if not is_continuation(second):
        return 0
    if lead < 0xE0:
        return 2
    if size < 3 or not is_continuation(data[2]):
        return 0
    if lead < 0xF0:
        # E0 below A0 is overlong, ED from A0 on is a surrogate.
        return 0 if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second >= 0xA0) else 3
    if size < 4 or not is_continuation(data[3]):
        return 0
    # F0 below 90 is overlong, F4 from 90 on is above U+10FFFF.
    return 0 if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second >= 0x90) else 4


cdef inline bint is_well_formed(const uint8_t *data, Py_ssize_t size, bint allow_null) noexcept nogil:
    cdef const uint8_t *end = data + size
    cdef Py_ssize_t length
    while data < end:
        if data[0] >= 0x80:
            length = measure_sequence(data, end - data)
            if length == 0:
                return 0
            data += length
        elif data[0] == 0 and not allow_null:
            return 0
        elif end - data >= 8 and find_unplain(load_word(data), False) == 0:
            data += 8
        else:
            data += 1
    return 1


cdef bint is_utf8(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    return is_plain(data, size, False) or is_well_formed(data, size, False)


cdef bint is_utf8_payload(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    return is_plain(data, size, False) or is_well_formed(data, size, True)


cdef bint has_wildcard(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    return memchr(data, c'+', size) != NULL or memchr(data, c'#', size) != NULL
