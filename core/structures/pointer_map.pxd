"""PointerMap: 64-bit keyed hash -> pointer, several pointers per hash allowed.

The map compares hashes only. Whoever looks something up compares the real keys: pointer_map_first and _next walk the
candidates. Open addressing with linear probing; deletion shifts back, so there are no tombstones. Owned by one thread.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef struct PointerSlot:
    uint64_t hash
    void *value          # NULL = free


cdef struct PointerMap:
    PointerSlot *slots   # NULL while empty
    uint32_t capacity    # power of two, or 0
    uint32_t count


# 0, or -1 when memory is short.
cdef int pointer_map_add(PointerMap *map, uint64_t hash, void *value) noexcept nogil
# True if it was there.
cdef bint pointer_map_remove(PointerMap *map, uint64_t hash, void *value) noexcept nogil
# Candidates for hash: *cursor is set by the first call and only good for the next; NULL ends the walk.
cdef void *pointer_map_first(const PointerMap *map, uint64_t hash, uint32_t *cursor) noexcept nogil
cdef void *pointer_map_next(const PointerMap *map, uint64_t hash, uint32_t *cursor) noexcept nogil
# Walk all values: *cursor starts at 0; NULL ends the walk. The map must not change meanwhile.
cdef void *pointer_map_each(const PointerMap *map, uint32_t *cursor) noexcept nogil
# One step of a walk that may rest while the map changes: the values of one home place into out, limit at most of them
# written, all counted in the result. *cursor starts at 0 and is 0 again when the walk is over. What is in the map
# throughout comes at least once; it comes twice only where the map has shrunk meanwhile.
cdef uint32_t pointer_map_scan(
    const PointerMap *map, uint32_t *cursor, void **out, uint32_t limit) noexcept nogil
cdef void pointer_map_free(PointerMap *map) noexcept nogil
