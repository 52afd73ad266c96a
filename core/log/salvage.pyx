"""See salvage.pxd."""

from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from rookery.core.log.format cimport (
    GROUP_GOES_ON, KIND_HOLE, KIND_MARK, MARK_BODY_SIZE, MARK_SIZE, RECORD_HEADER_SIZE, get_u32, get_u64, put_u64,
)
from rookery.core.log.recovery cimport nonzero_size, record_size, was_synced


cdef bint _is_mark(const uint8_t *data, uint64_t size, uint64_t place, uint32_t seed) noexcept nogil:
    return (
        place + MARK_SIZE <= size
        and data[place + 8] == KIND_MARK
        and get_u32(data + place + 4) == MARK_BODY_SIZE
        and record_size(data + place, size - place, seed) == MARK_SIZE
    )


cdef inline uint64_t _mark_position(const uint8_t *mark) noexcept nogil:
    return get_u64(mark + RECORD_HEADER_SIZE)


cdef uint64_t position_by_marks(const uint8_t *data, uint64_t size, uint32_t seed) noexcept nogil:
    cdef uint64_t place
    for place in range(size):
        if _is_mark(data, size, place, seed) and _mark_position(data + place) >= place:
            return _mark_position(data + place) - place
    return UINT64_MAX


cdef uint64_t _next_mark(
    const uint8_t *data, uint64_t size, uint64_t place, uint32_t seed, uint64_t first_position
) noexcept nogil:
    while place < size:
        if _is_mark(data, size, place, seed) and _mark_position(data + place) == first_position + place:
            return place
        place += 1
    return size


cdef uint64_t _behind_group(
    const uint8_t *data, uint64_t size, uint64_t place, uint32_t seed, uint64_t first_position
) noexcept nogil:
    """Where the group ends that goes on behind the damaged record at place, or size when that cannot be told."""
    cdef uint64_t length
    cdef uint8_t kind
    if size - place < RECORD_HEADER_SIZE:
        return size
    place += RECORD_HEADER_SIZE + <uint64_t> get_u32(data + place + 4)
    while place < size:
        length = record_size(data + place, size - place, seed)
        if length == 0:
            return size
        kind = data[place + 8]
        if kind == KIND_MARK:
            return place if _mark_position(data + place) == first_position + place else size
        place += length
        if not kind & GROUP_GOES_ON:
            return place
    return size


cdef int _apply_hole(
    uint64_t offset, uint64_t size, uint64_t first_position, LogApply apply, void *context, Salvage *salvage
) noexcept nogil:
    cdef uint8_t body[8]
    if salvage.hole_count < SALVAGE_HOLES:
        salvage.holes[salvage.hole_count].offset = offset
        salvage.holes[salvage.hole_count].size = size
    salvage.hole_count += 1
    salvage.lost_bytes += size
    put_u64(body, size)
    return apply(context, first_position + offset, KIND_HOLE, body, 8)


cdef int _apply_group(
    const uint8_t *data, uint64_t offset, uint64_t end, uint64_t first_position, LogApply apply, void *context,
    Salvage *salvage
) noexcept nogil:
    cdef uint32_t body_size
    while offset < end:
        body_size = get_u32(data + offset + 4)
        if apply(
            context, first_position + offset, data[offset + 8], data + offset + RECORD_HEADER_SIZE, body_size
        ) != 0:
            return -1
        salvage.counts[data[offset + 8] & ~GROUP_GOES_ON] += 1
        salvage.bytes[data[offset + 8] & ~GROUP_GOES_ON] += RECORD_HEADER_SIZE + body_size
        salvage.records += 1
        offset += RECORD_HEADER_SIZE + body_size
    return 0


cdef int salvage_segment(
    const uint8_t *data, uint64_t size, uint32_t seed, uint64_t first_position, uint64_t limit, LogApply apply,
    void *context, Salvage *salvage
) noexcept nogil:
    cdef uint64_t offset = 0
    cdef uint64_t length, mark, behind
    cdef uint64_t due = UINT64_MAX  # bytes that there must be, for another segment follows
    memset(salvage, 0, sizeof(Salvage))
    if limit != UINT64_MAX:
        due = limit - first_position
        if due < size:
            size = due
    while offset < size:
        length = record_size(data + offset, size - offset, seed)
        if length > 0 and data[offset + 8] == KIND_MARK:
            if salvage.end == offset and _mark_position(data + offset) == first_position + offset:
                offset += length
                salvage.end = offset
                salvage.commits += 1
                continue
            length = 0
        if length > 0:
            offset += length
            if not data[offset - length + 8] & GROUP_GOES_ON:
                if _apply_group(data, salvage.end, offset, first_position, apply, context, salvage) != 0:
                    return -1
                salvage.end = offset
            continue
        # A whole mark in the midst of a group has lost the end of that group before it, so it is looked for here, too.
        mark = _next_mark(data, size, offset, seed, first_position)
        behind = _behind_group(data, size, offset, seed, first_position)
        if behind < mark:
            mark = behind
        if mark == size and limit == UINT64_MAX and not was_synced(data, size, offset, seed, first_position):
            break
        if mark == size and due != UINT64_MAX:
            break
        if _apply_hole(salvage.end, mark - salvage.end, first_position, apply, context, salvage) != 0:
            return -1
        offset = mark
        salvage.end = mark
    if limit == UINT64_MAX:
        salvage.torn_bytes = nonzero_size(data, size, salvage.end)
    elif salvage.end < due:
        return _apply_hole(salvage.end, due - salvage.end, first_position, apply, context, salvage)
    return 0
