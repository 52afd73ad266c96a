"""UTF-8 and variable byte integers, as MQTT wants them."""

from libc.stdint cimport uint8_t, uint32_t


# 1 if data is well-formed UTF-8 without surrogates, overlong forms and U+0000 [MQTT-1.5.4-1, -2].
cdef bint is_utf8(const uint8_t *data, Py_ssize_t size) noexcept nogil

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
