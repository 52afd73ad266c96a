"""See notices.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init, mutex_lock, mutex_unlock

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int descriptor, const void *data, size_t size)


cdef void notice_board_init(NoticeBoard *board, int wake_descriptor) noexcept nogil:
    memset(board, 0, sizeof(NoticeBoard))
    mutex_init(&board.mutex, NULL)
    board.wake_descriptor = wake_descriptor


cdef void notice_board_clear(NoticeBoard *board) noexcept nogil:
    cdef Notice *notice = board.first
    cdef Notice *following
    while notice != NULL:
        following = notice.next
        free(notice)
        notice = following
    board.first = NULL
    board.last = NULL
    mutex_destroy(&board.mutex)


cdef void _wake(NoticeBoard *board) noexcept nogil:
    cdef uint64_t one = 1
    write(board.wake_descriptor, &one, sizeof(one))


cdef Notice *_new(
    NoticeKind kind, uint64_t at_ms, const Bytes *strings, const uint64_t *numbers
) noexcept nogil:
    cdef uint32_t size = 0
    cdef uint32_t number
    cdef Notice *notice
    cdef uint8_t *out
    for number in range(NOTICE_STRING_COUNT):
        size += <uint32_t> strings[number].size
    notice = <Notice *> malloc(sizeof(Notice) + size)
    if notice == NULL:
        return NULL
    notice.next = NULL
    notice.at_ms = at_ms
    notice.kind = kind
    memcpy(notice.numbers, numbers, sizeof(notice.numbers))
    out = <uint8_t *> notice + sizeof(Notice)
    for number in range(NOTICE_STRING_COUNT):
        notice.sizes[number] = <uint32_t> strings[number].size
        if strings[number].size > 0:
            memcpy(out, strings[number].data, strings[number].size)
            out += strings[number].size
    return notice


cdef void notice_put(
    NoticeBoard *board, NoticeKind kind, uint64_t at_ms, const Bytes *strings, const uint64_t *numbers
) noexcept nogil:
    cdef Notice *notice = _new(kind, at_ms, strings, numbers)
    cdef bint was_empty
    mutex_lock(&board.mutex)
    if notice == NULL or board.count >= NOTICES_QUEUED:
        board.dropped += 1
        mutex_unlock(&board.mutex)
        free(notice)
        return
    was_empty = board.last == NULL
    if was_empty:
        board.first = notice
    else:
        board.last.next = notice
    board.last = notice
    board.count += 1
    mutex_unlock(&board.mutex)
    if was_empty:
        _wake(board)


cdef Notice *notice_take(NoticeBoard *board, uint32_t limit, uint64_t *dropped) noexcept nogil:
    cdef Notice *first
    cdef Notice *last
    cdef uint32_t taken = 1
    cdef bint is_rest
    mutex_lock(&board.mutex)
    dropped[0] = board.dropped
    board.dropped = 0
    first = board.first
    last = first
    while last != NULL and last.next != NULL and taken < limit:
        last = last.next
        taken += 1
    if last != NULL:
        board.first = last.next
        last.next = NULL
        board.count -= taken
    if board.first == NULL:
        board.last = NULL
    is_rest = board.first != NULL
    mutex_unlock(&board.mutex)
    if is_rest:
        # Only the first notice of a queue rings.
        _wake(board)
    return first


cdef Bytes notice_string(const Notice *notice, uint32_t number) noexcept nogil:
    cdef Bytes string
    cdef uint32_t before
    string.data = <const uint8_t *> notice + sizeof(Notice)
    for before in range(number):
        string.data += notice.sizes[before]
    string.size = notice.sizes[number]
    return string
