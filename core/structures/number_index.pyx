"""See number_index.pxd."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rookery.core.structures.pages cimport pages_allocate, pages_free

cdef enum:
    _PAGE_BYTES = 524288         # NUMBERS_PER_PAGE pointers
    _SPARE_PAGES = 16            # of the directory, whenever it grows


cdef int _reach(NumberIndex *index, uint64_t page) noexcept nogil:
    """Make the directory reach as far as this page."""
    cdef uint64_t first = index.first_page
    cdef uint64_t end = index.first_page + index.page_count
    cdef void ***directory
    if index.page_count > 0 and first <= page < end:
        return 0
    if index.page_count == 0:
        first, end = page, page + _SPARE_PAGES
    elif page < first:
        first = page
    else:
        end = page + _SPARE_PAGES
    if end - first > NUMBER_PAGES_MAXIMUM:
        return -1
    directory = <void ***> calloc(end - first, sizeof(void **))
    if directory == NULL:
        return -1
    if index.page_count > 0:
        memcpy(directory + (index.first_page - first), index.directory, index.page_count * sizeof(void **))
    free(index.directory)
    index.directory = directory
    index.first_page = first
    index.page_count = end - first
    return 0


cdef int number_index_put(NumberIndex *index, uint64_t number, void *value) noexcept nogil:
    cdef uint64_t page = number // NUMBERS_PER_PAGE
    cdef void ***place
    if _reach(index, page) != 0:
        return -1
    place = &index.directory[page - index.first_page]
    if place[0] == NULL:
        place[0] = <void **> pages_allocate(_PAGE_BYTES)
        if place[0] == NULL:
            return -1
    place[0][number % NUMBERS_PER_PAGE] = value
    return 0


cdef void *number_index_get(const NumberIndex *index, uint64_t number) noexcept nogil:
    cdef uint64_t page = number // NUMBERS_PER_PAGE
    cdef void **values
    if not index.first_page <= page < index.first_page + index.page_count:
        return NULL
    values = index.directory[page - index.first_page]
    return NULL if values == NULL else values[number % NUMBERS_PER_PAGE]


cdef void *number_index_each(const NumberIndex *index, uint64_t *cursor) noexcept nogil:
    cdef void **values
    while cursor[0] < index.page_count * NUMBERS_PER_PAGE:
        values = index.directory[cursor[0] // NUMBERS_PER_PAGE]
        if values == NULL:
            cursor[0] = (cursor[0] // NUMBERS_PER_PAGE + 1) * NUMBERS_PER_PAGE
            continue
        cursor[0] += 1
        if values[(cursor[0] - 1) % NUMBERS_PER_PAGE] != NULL:
            return values[(cursor[0] - 1) % NUMBERS_PER_PAGE]
    return NULL


cdef void number_index_clear(NumberIndex *index) noexcept nogil:
    cdef uint64_t page
    for page in range(index.page_count):
        if index.directory[page] != NULL:
            pages_free(index.directory[page], _PAGE_BYTES)
    free(index.directory)
    memset(index, 0, sizeof(NumberIndex))


cdef class Numbers:
    """A NumberIndex of small integers, for tests. See number_index.pyi."""

    cdef NumberIndex _index

    def __dealloc__(self):
        number_index_clear(&self._index)

    def put(self, uint64_t number, size_t value):
        if value == 0:
            raise ValueError("0 stands for nothing")
        return number_index_put(&self._index, number, <void *> value) == 0

    def get(self, uint64_t number):
        return <size_t> number_index_get(&self._index, number)

    def values(self):
        cdef uint64_t cursor = 0
        cdef void *value = number_index_each(&self._index, &cursor)
        cdef list values = []
        while value != NULL:
            values.append(<size_t> value)
            value = number_index_each(&self._index, &cursor)
        return values

    def clear(self):
        number_index_clear(&self._index)
