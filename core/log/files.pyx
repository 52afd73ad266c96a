"""See files.pxd."""

from libc.errno cimport EINTR, EIO, ENOSYS, EOPNOTSUPP, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from rookery.core.log.format cimport LOG_VERSION, SEGMENT_HEADER_SIZE, put_u32, put_u64
from rookery.core.structures.checksum cimport crc32c

cdef extern from "<fcntl.h>" nogil:
    int openat(int folder, const char *name, int flags, ...)
    int fallocate(int descriptor, int mode, long offset, long size)
    int O_CLOEXEC
    int O_CREAT
    int O_EXCL
    int O_RDWR

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor)
    int fdatasync(int descriptor)
    int fsync(int descriptor)
    int ftruncate(int descriptor, long size)
    ssize_t pwrite(int descriptor, const void *data, size_t size, long offset)
    int unlinkat(int folder, const char *name, int flags)

cdef extern from "<sys/uio.h>" nogil:
    ssize_t pwritev(int descriptor, const iovec *parts, int count, long offset)

cdef enum:
    _NAME_SIZE = 32
    _PARTS_MAXIMUM = 512  # of one system call; the kernel takes 1024


cdef void _name(uint64_t number, char *out) noexcept nogil:
    snprintf(out, _NAME_SIZE, b"%016llu.log", <unsigned long long> number)


cdef int file_create(
    LogFiles *files, uint64_t number, uint64_t log_id, uint64_t first_position, uint64_t created_ms, uint64_t size,
    int *descriptor
) noexcept nogil:
    cdef char name[_NAME_SIZE]
    cdef uint8_t header[SEGMENT_HEADER_SIZE]
    cdef int error
    if files.valve.fails_creation:
        return files.valve.error
    _name(number, name)
    descriptor[0] = openat(files.folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor[0] < 0:
        return errno
    memset(header, 0, sizeof(header))
    memcpy(header, b"RKYLOG\r\n", 8)
    put_u32(header + 8, LOG_VERSION)
    put_u64(header + 16, log_id)
    put_u64(header + 24, number)
    put_u64(header + 32, first_position)
    put_u64(header + 40, created_ms)
    put_u32(header + 12, crc32c(0, header, SEGMENT_HEADER_SIZE))
    # Blocks that were set aside make syncing cheaper, and a full disk shows here and not in the middle of a commit.
    error = 0
    if fallocate(descriptor[0], 0, 0, <long> size) != 0 and errno != EOPNOTSUPP and errno != ENOSYS:
        error = errno
    if error == 0 and pwrite(descriptor[0], header, sizeof(header), 0) != SEGMENT_HEADER_SIZE:
        error = errno
    if error == 0 and (fsync(descriptor[0]) != 0 or fsync(files.folder) != 0):
        error = errno
    if error != 0:
        close(descriptor[0])
        unlinkat(files.folder, name, 0)
        descriptor[0] = -1
    return error


cdef int _write_some(int descriptor, iovec *parts, uint32_t count, uint64_t offset) noexcept nogil:
    cdef ssize_t written
    while count > 0:
        written = pwritev(
            descriptor, parts, <int> count if count < _PARTS_MAXIMUM else _PARTS_MAXIMUM, <long> offset)
        if written < 0:
            if errno == EINTR:
                continue
            return errno
        if written == 0 and parts.iov_len > 0:
            return EIO  # never seen of a regular file; asking again for ever would be worse
        offset += <uint64_t> written
        while count > 0 and <size_t> written >= parts.iov_len:
            written -= <ssize_t> parts.iov_len
            parts += 1
            count -= 1
        if written > 0:
            parts.iov_base = <uint8_t *> parts.iov_base + written
            parts.iov_len -= <size_t> written
    return 0


cdef int _write_until_valve(
    LogFiles *files, int descriptor, iovec *parts, uint32_t count, uint64_t offset
) noexcept nogil:
    """A disk that becomes full: what still fits is written."""
    cdef uint32_t index
    cdef int error
    for index in range(count):
        if parts[index].iov_len > files.valve.writable_bytes:
            parts[index].iov_len = files.valve.writable_bytes
            error = _write_some(descriptor, parts, index + 1, offset)
            files.valve.writable_bytes = 0
            return error if error != 0 else files.valve.error
        files.valve.writable_bytes -= parts[index].iov_len
    return _write_some(descriptor, parts, count, offset)


cdef int file_write(LogFiles *files, int descriptor, iovec *parts, uint32_t count, uint64_t offset) noexcept nogil:
    if files.valve.fails_writes:
        return _write_until_valve(files, descriptor, parts, count, offset)
    return _write_some(descriptor, parts, count, offset)


cdef int file_sync(LogFiles *files, int descriptor) noexcept nogil:
    if files.valve.fails_syncs:
        if files.valve.good_syncs == 0:
            return files.valve.error
        files.valve.good_syncs -= 1
    return 0 if fdatasync(descriptor) == 0 else errno


cdef int file_finish(LogFiles *files, int descriptor, uint64_t size) noexcept nogil:
    cdef int error = 0
    if ftruncate(descriptor, <long> size) != 0 or fdatasync(descriptor) != 0:
        error = errno
    close(descriptor)
    return error


cdef int file_remove(LogFiles *files, uint64_t number) noexcept nogil:
    cdef char name[_NAME_SIZE]
    _name(number, name)
    # Names go one after the other on the disk as well: a segment without the one behind it would look like damage.
    return 0 if unlinkat(files.folder, name, 0) == 0 and fsync(files.folder) == 0 else errno
