"""The bytes of the log. All numbers are little-endian.

    segment   header | commit | commit | ...                one file, SEGMENT_HEADER_SIZE bytes of header
    header    magic 8 | version u32 | crc u32 | log id u64 | segment number u64 | first position u64 | created u64 | 0
    commit    mark | record | record | ...
    record    crc u32 | size u32 | kind u8 | body           size is that of the body
    mark      a record of kind KIND_MARK: position u64 | synced position u64 | mode u8

Magic, version and crc of the header, and what the crc covers, stay as they are in later versions.

A position counts the bytes of all commits since the log began; the first byte behind a segment's header is at the
segment's first position. The checksum of a record covers everything behind it and begins with a seed made of the
log's id, so that bytes of another log are never taken for records. Records of one group carry GROUP_GOES_ON in their
kind, all but the last: a group is applied whole or not at all.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.checksum cimport crc32c

cdef enum LogFormat:
    LOG_VERSION = 1
    SEGMENT_HEADER_SIZE = 64
    RECORD_HEADER_SIZE = 9
    RECORD_SIZE_MAXIMUM = 0x20000000  # bytes of a body: more than the largest packet
    GROUP_GOES_ON = 0x80
    KIND_MARK = 0x7F
    KIND_HOLE = 0x7E                  # u64 bytes: what a repair could not read stood here
    MARK_BODY_SIZE = 17
    MARK_SIZE = 26                    # with its record header

cdef enum SyncMode:
    SYNC_ALWAYS = 0    # committed means: on the disk
    SYNC_INTERVAL = 1  # committed means: with the kernel; on the disk some milliseconds later
    SYNC_NEVER = 2     # the kernel decides


cdef inline void put_u16(uint8_t *out, uint32_t value) noexcept nogil:
    out[0] = <uint8_t> value
    out[1] = <uint8_t> (value >> 8)


cdef inline void put_u32(uint8_t *out, uint32_t value) noexcept nogil:
    cdef int index
    for index in range(4):
        out[index] = <uint8_t> (value >> 8 * index)


cdef inline void put_u64(uint8_t *out, uint64_t value) noexcept nogil:
    cdef int index
    for index in range(8):
        out[index] = <uint8_t> (value >> 8 * index)


cdef inline uint32_t get_u16(const uint8_t *data) noexcept nogil:
    return data[0] | <uint32_t> data[1] << 8


cdef inline uint32_t get_u32(const uint8_t *data) noexcept nogil:
    return data[0] | <uint32_t> data[1] << 8 | <uint32_t> data[2] << 16 | <uint32_t> data[3] << 24


cdef inline uint64_t get_u64(const uint8_t *data) noexcept nogil:
    return get_u32(data) | <uint64_t> get_u32(data + 4) << 32


# record points to its header, whose size and kind are written, as is the body.
cdef inline uint32_t record_checksum(uint32_t seed, const uint8_t *record, uint32_t body_size) noexcept nogil:
    return crc32c(seed, record + 4, body_size + 5)


cdef inline uint32_t log_seed(uint64_t log_id) noexcept nogil:
    cdef uint8_t bytes[8]
    put_u64(bytes, log_id)
    return crc32c(0, bytes, 8)
