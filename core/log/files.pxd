"""LogFiles: what the log asks of the file system, with a valve by which tests make it fail.

All functions return 0, or the errno of what went wrong.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef struct Valve:             # faults for tests; all zero: none
    int error                  # errno; 0 = no faults
    uint64_t writable_bytes    # what may still be written before writing fails, the last write in part
    uint32_t good_syncs        # how many syncs go well before one fails
    uint8_t fails_writes
    uint8_t fails_syncs
    uint8_t fails_creation


cdef struct LogFiles:
    int folder                 # descriptor of the data folder
    Valve valve


# A new file of this number with its header, size bytes set aside for it, itself and its name on the disk.
cdef int file_create(
    LogFiles *files, uint64_t number, uint64_t log_id, uint64_t first_position, uint64_t created_ms, uint64_t size,
    int *descriptor) noexcept nogil
# All the bytes of parts at offset; parts are changed by it.
cdef int file_write(LogFiles *files, int descriptor, iovec *parts, uint32_t count, uint64_t offset) noexcept nogil
cdef int file_sync(LogFiles *files, int descriptor) noexcept nogil
# Nothing more is written to it: cut what was set aside and close it.
cdef int file_finish(LogFiles *files, int descriptor, uint64_t size) noexcept nogil
cdef int file_remove(LogFiles *files, uint64_t number) noexcept nogil
