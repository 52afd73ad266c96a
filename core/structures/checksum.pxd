"""CRC-32C (Castagnoli), the checksum of the durable log's records: finds every error of up to 32 bits in a row."""

from libc.stdint cimport uint8_t, uint32_t


# crc goes on from the checksum of what came before; 0 at the beginning.
cdef uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t size) noexcept nogil
