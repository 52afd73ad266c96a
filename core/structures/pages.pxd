"""Zeroed memory whose size the owner remembers: small pieces from malloc, large ones straight from the kernel.

A large piece costs no memory before it is touched, need not be cleared by whoever grows a table, and goes back to the
system when it is freed, whatever the state of the heap.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset


cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t size, int protection, int flags, int descriptor, long offset)
    int munmap(void *address, size_t size)
    int madvise(void *address, size_t size, int advice)
    void *MAP_FAILED
    int MAP_ANONYMOUS
    int MAP_PRIVATE
    int MADV_DONTNEED
    int PROT_READ
    int PROT_WRITE

cdef enum:
    PAGE_SIZE = 4096
    PAGES_SIZE_MINIMUM = 65536  # bytes; below this malloc is faster and wastes less


# NULL when memory is short.
cdef inline void *pages_allocate(size_t size) noexcept nogil:
    cdef void *memory
    if size < PAGES_SIZE_MINIMUM:
        return calloc(1, size)
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    return NULL if memory == MAP_FAILED else memory


# size is what pages_allocate was asked for. Large memory may be freed in parts that are whole pages and large, too.
cdef inline void pages_free(void *memory, size_t size) noexcept nogil:
    if size < PAGES_SIZE_MINIMUM:
        free(memory)
    elif memory != NULL:
        munmap(memory, size)


# All zero again, as from pages_allocate; a large piece costs no memory until it is touched again.
cdef inline void pages_clear(void *memory, size_t size) noexcept nogil:
    if size < PAGES_SIZE_MINIMUM or madvise(memory, size, MADV_DONTNEED) != 0:
        memset(memory, 0, size)
