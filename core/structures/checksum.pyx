"""See checksum.pxd. The processor's instruction takes 8 bytes at a time; the tables are for processors without it."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "crc32c.h" nogil:
    void crc32c_make_tables()
    int crc32c_can_instruct()
    uint32_t crc32c_by_table(uint32_t crc, const uint8_t *data, size_t size)
    uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t *data, size_t size)

crc32c_make_tables()
cdef bint _can_instruct = crc32c_can_instruct()


cdef uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t size) noexcept nogil:
    if _can_instruct:
        return crc32c_by_instruction(crc, data, size)
    return crc32c_by_table(crc, data, size)


def checksum(data: bytes, before: int = 0) -> int:
    """CRC-32C of data; before is the checksum of what came before it."""
    return crc32c(before, data, len(data))


def checksum_by_table(data: bytes, before: int = 0) -> int:
    """The same without the processor's instruction."""
    return crc32c_by_table(before, data, len(data))
