"""See recovery.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from rookery.core.log.format cimport (
    GROUP_GOES_ON, KIND_MARK, MARK_BODY_SIZE, MARK_SIZE, RECORD_HEADER_SIZE, RECORD_SIZE_MAXIMUM, get_u32, get_u64,
    record_checksum,
)


cdef uint64_t record_size(const uint8_t *data, uint64_t size, uint32_t seed) noexcept nogil:
    """Bytes of the valid record that begins here; 0 when none does."""
    cdef uint32_t body_size
    if size < RECORD_HEADER_SIZE:
        return 0
    body_size = get_u32(data + 4)
    if body_size > RECORD_SIZE_MAXIMUM or RECORD_HEADER_SIZE + <uint64_t> body_size > size:
        return 0
    if get_u32(data) != record_checksum(seed, data, body_size):
        return 0
    return RECORD_HEADER_SIZE + body_size


cdef bint was_synced(
    const uint8_t *data, uint64_t size, uint64_t offset, uint32_t seed, uint64_t first_position
) noexcept nogil:
    """Does any mark behind offset say that more than what lies before offset was on the disk?"""
    cdef uint64_t place = offset
    while place + MARK_SIZE <= size:
        if (
            data[place + 8] == KIND_MARK
            and get_u32(data + place + 4) == MARK_BODY_SIZE
            and get_u64(data + place + RECORD_HEADER_SIZE) == first_position + place
            and get_u64(data + place + RECORD_HEADER_SIZE + 8) > first_position + offset
            and record_size(data + place, size - place, seed) == MARK_SIZE
        ):
            return True
        place += 1
    return False


cdef uint64_t nonzero_size(const uint8_t *data, uint64_t size, uint64_t offset) noexcept nogil:
    """Bytes from offset to the last one that is not 0."""
    while size > offset and data[size - 1] == 0:
        size -= 1
    return size - offset


cdef int _apply_group(
    const uint8_t *data, uint64_t offset, uint64_t end, uint64_t first_position, LogApply apply, void *context,
    Scan *scan
) noexcept nogil:
    cdef uint32_t body_size
    while offset < end:
        body_size = get_u32(data + offset + 4)
        if apply(
            context, first_position + offset, data[offset + 8] & ~GROUP_GOES_ON, data + offset + RECORD_HEADER_SIZE,
            body_size
        ) != 0:
            return -1
        scan.records += 1
        offset += RECORD_HEADER_SIZE + body_size
    return 0


cdef ScanVerdict scan_segment(
    const uint8_t *data, uint64_t size, uint32_t seed, uint64_t first_position, uint64_t limit, LogApply apply,
    void *context, Scan *scan
) noexcept nogil:
    cdef uint64_t offset = 0
    cdef uint64_t length
    memset(scan, 0, sizeof(Scan))
    if limit - first_position < size:
        size = limit - first_position
    while offset < size:
        length = record_size(data + offset, size - offset, seed)
        if length == 0:
            break
        if data[offset + 8] == KIND_MARK:
            if get_u64(data + offset + RECORD_HEADER_SIZE) != first_position + offset or scan.end != offset:
                break
            offset += length
            scan.end = offset
            continue
        offset += length
        if not data[offset - length + 8] & GROUP_GOES_ON:
            if _apply_group(data, scan.end, offset, first_position, apply, context, scan) != 0:
                scan.bad_offset = scan.end
                return SCAN_STOPPED
            scan.end = offset
    if limit != <uint64_t> -1:
        # Another segment follows: this one was synced up to its limit.
        if scan.end == limit - first_position:
            return SCAN_WHOLE
        scan.bad_offset = offset
        return SCAN_DAMAGED
    scan.lost_bytes = nonzero_size(data, size, scan.end)
    if scan.lost_bytes == 0:
        return SCAN_WHOLE
    scan.bad_offset = offset
    if was_synced(data, size, offset, seed, first_position):
        return SCAN_DAMAGED
    return SCAN_TORN
