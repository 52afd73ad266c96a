"""NumberIndex: numbers that lie close together -> pointers, in 8 bytes each, and in order.

    directory  | page of 0 .. 65535 |      NULL       | page of 131072 .. 196607 |
                 ^ first_page

Owned by one thread.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    NUMBERS_PER_PAGE = 65536
    NUMBER_PAGES_MAXIMUM = 16777216  # from the lowest number to the highest: 2 ** 40 numbers, 128 MiB of directory


cdef struct NumberIndex:
    void ***directory            # NULL while empty
    uint64_t first_page          # number // NUMBERS_PER_PAGE of directory[0]
    uint64_t page_count          # of the directory


# 0; -1 when memory is short or the number is too far from the others. value: not NULL; what was there is forgotten.
cdef int number_index_put(NumberIndex *index, uint64_t number, void *value) noexcept nogil
# NULL where nothing was put.
cdef void *number_index_get(const NumberIndex *index, uint64_t number) noexcept nogil
# Walk all values in the order of their numbers: *cursor starts at 0; NULL ends the walk.
cdef void *number_index_each(const NumberIndex *index, uint64_t *cursor) noexcept nogil
cdef void number_index_clear(NumberIndex *index) noexcept nogil
