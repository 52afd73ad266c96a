"""How the wire writes values: integers, variable byte integers, binary data and UTF-8 strings [1.5].

What is small enough to vanish into its caller stands here; the walk over UTF-8 beyond ASCII is in the .pyx.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.spec cimport REASON_MALFORMED_PACKET, REASON_SUCCESS


# 1 if data is well-formed UTF-8 without surrogates, overlong forms and U+0000 [MQTT-1.5.4-1, -2].
cdef bint is_utf8(const uint8_t *data, Py_ssize_t size) noexcept nogil

# The same for a payload that says that it is UTF-8: no MQTT string, so U+0000 may be in it [3.3.2.3.2].
cdef bint is_utf8_payload(const uint8_t *data, Py_ssize_t size) noexcept nogil

# 1 if data has + or #, the wildcards of topic filters.
cdef bint has_wildcard(const uint8_t *data, Py_ssize_t size) noexcept nogil


# Bytes that value takes as a Variable Byte Integer, 1 to 4; value is at most 268435455.
cdef inline Py_ssize_t size_variable_integer(uint32_t value) noexcept nogil:
    return 1 if value < 128 else 2 if value < 16384 else 3 if value < 2097152 else 4


cdef inline Py_ssize_t encode_variable_integer(uint32_t value, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t size = 0
    while value >= 128:
        out[size] = <uint8_t> (value & 127) | 128
        value >>= 7
        size += 1
    out[size] = <uint8_t> value
    return size + 1


# Bytes that were read, 1 to 4; 0 if data ends too early, a fifth byte would follow, or a shorter form would have done
# [MQTT-1.5.5-1].
cdef inline Py_ssize_t decode_variable_integer(const uint8_t *data, Py_ssize_t size, uint32_t *value) noexcept nogil:
    cdef uint32_t result = 0
    cdef Py_ssize_t index
    for index in range(4 if size > 4 else size):
        result |= <uint32_t> (data[index] & 127) << <uint32_t> (7 * index)
        if data[index] < 128:
            value[0] = result
            return 0 if index > 0 and data[index] == 0 else index + 1
    return 0


# Big-endian integers [1.5.2], [1.5.3].
cdef inline uint16_t read_two_bytes(const uint8_t *data) noexcept nogil:
    return <uint16_t> (<uint32_t> data[0] << 8 | data[1])


cdef inline uint32_t read_four_bytes(const uint8_t *data) noexcept nogil:
    return <uint32_t> data[0] << 24 | <uint32_t> data[1] << 16 | <uint32_t> data[2] << 8 | data[3]


cdef inline void write_two_bytes(uint8_t *out, uint16_t value) noexcept nogil:
    out[0] = <uint8_t> (value >> 8)
    out[1] = <uint8_t> value


cdef inline void write_four_bytes(uint8_t *out, uint32_t value) noexcept nogil:
    out[0] = <uint8_t> (value >> 24)
    out[1] = <uint8_t> (value >> 16)
    out[2] = <uint8_t> (value >> 8)
    out[3] = <uint8_t> value


# How every decoder fails: the reason for the peer, a static sentence for the log.
cdef inline int fail(int reason_code, const char *sentence, const char **detail) noexcept nogil:
    detail[0] = sentence
    return reason_code


# Take a value off the front of what lies between at[0] and end. REASON_SUCCESS, or REASON_MALFORMED_PACKET and
# *detail; at[0] moves only on success.
cdef inline int take_binary(
        const uint8_t **at, const uint8_t *end, Bytes *value, const char **detail) noexcept nogil:
    cdef Py_ssize_t size
    if end - at[0] < 2:
        return fail(REASON_MALFORMED_PACKET, b"the packet ends inside the length of a field", detail)
    size = read_two_bytes(at[0])
    if end - at[0] - 2 < size:
        return fail(REASON_MALFORMED_PACKET, b"a field is longer than the packet", detail)
    value.data = at[0] + 2
    value.size = size
    at[0] += 2 + size
    return REASON_SUCCESS


cdef inline int take_string(
        const uint8_t **at, const uint8_t *end, Bytes *value, const char **detail) noexcept nogil:
    cdef const uint8_t *start = at[0]
    cdef int reason = take_binary(at, end, value, detail)
    if reason != REASON_SUCCESS:
        return reason
    if not is_utf8(value.data, value.size):  # [MQTT-1.5.4-1], [MQTT-1.5.4-2]
        at[0] = start
        return fail(REASON_MALFORMED_PACKET, b"a string is not well-formed UTF-8 or has U+0000", detail)
    return REASON_SUCCESS


# Eight bytes at a time. Which byte comes first in the word does not matter: only "is any of them so" is asked.
cdef inline uint64_t load_word(const uint8_t *data) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, data, 8)
    return word


# Nonzero if a byte of word is 0 or not ASCII. Exact as a whole: subtracting 1 from each byte leaves a top bit only
# where the byte was 0 or above 0x80, or where it lent to the byte below, which was 0 then. With refuse_wildcards also
# for + (0x2B) and # (0x23): a byte that equals c is 0 after an exclusive or with c.
cdef inline uint64_t find_unplain(uint64_t word, bint refuse_wildcards) noexcept nogil:
    cdef uint64_t found = word | (word - 0x0101010101010101ULL)
    if refuse_wildcards:
        found |= (word ^ 0x2B2B2B2B2B2B2B2BULL) - 0x0101010101010101ULL
        found |= (word ^ 0x2323232323232323ULL) - 0x0101010101010101ULL
    return found & 0x8080808080808080ULL


# The one pass that most strings need: 1 if data is ASCII without U+0000 (and without + and #). What fails is not wrong
# for that: it goes through is_utf8 and has_wildcard. The last word overlaps the one before it, which saves a loop over
# single bytes; below eight bytes two or three overlapping loads make up one word.
cdef inline bint is_plain(const uint8_t *data, Py_ssize_t size, bint refuse_wildcards) noexcept nogil:
    cdef uint64_t found = 0
    cdef uint64_t word
    cdef uint32_t low, high
    cdef const uint8_t *last
    if size >= 8:
        last = data + size - 8
        while data < last:
            found |= find_unplain(load_word(data), refuse_wildcards)
            data += 8
        return (found | find_unplain(load_word(last), refuse_wildcards)) == 0
    if size >= 4:
        memcpy(&low, data, 4)
        memcpy(&high, data + size - 4, 4)
        return find_unplain(<uint64_t> high << 32 | low, refuse_wildcards) == 0
    if size > 0:
        # Five letters fill the word up.
        word = 0x6161616161000000ULL | <uint64_t> data[0] << 16 | <uint64_t> data[size >> 1] << 8 | data[size - 1]
        return find_unplain(word, refuse_wildcards) == 0
    return 1
