"""See witness.pxd."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset, strlen

from rookery.core.sessions.notices cimport NoticeKind, notice_put
from rookery.core.sessions.state cimport Session, Tenant, World
from rookery.core.structures.bytes cimport Bytes

cdef enum:
    # Places of NOTICE_STRING_COUNT.
    _TENANT = 0
    _USER = 1
    _CLIENT = 2
    _PEER = 3
    _TEXT = 4


cdef Bytes absent() noexcept nogil:
    cdef Bytes nothing
    nothing.data = NULL
    nothing.size = 0
    return nothing


cdef Bytes text_of(const char *text) noexcept nogil:
    cdef Bytes string
    string.data = <const uint8_t *> text
    string.size = 0 if text == NULL else <Py_ssize_t> strlen(text)
    return string


cdef void notice_session(
    const Session *session, NoticeKind kind, Bytes peer, Bytes text, uint64_t first, uint64_t second, uint64_t third,
    uint64_t fourth
) noexcept nogil:
    cdef World *world = session.tenant.world
    cdef Bytes strings[5]
    cdef uint64_t numbers[4]
    strings[_TENANT].data = session.tenant.shared.id
    strings[_TENANT].size = session.tenant.shared.id_size
    strings[_USER].data = session.key
    strings[_USER].size = session.user_id_size
    strings[_CLIENT].data = session.key + session.user_id_size
    strings[_CLIENT].size = session.client_id_size
    strings[_PEER] = peer
    strings[_TEXT] = text
    numbers[0] = first
    numbers[1] = second
    numbers[2] = third
    numbers[3] = fourth
    notice_put(world.notices, kind, world.now_ms, strings, numbers)


cdef void notice_tenant(
    const Tenant *tenant, NoticeKind kind, Bytes text, uint64_t first, uint64_t second, uint64_t third, uint64_t fourth
) noexcept nogil:
    cdef World *world = tenant.world
    cdef Bytes strings[5]
    cdef uint64_t numbers[4]
    memset(strings, 0, sizeof(strings))
    strings[_TENANT].data = tenant.shared.id
    strings[_TENANT].size = tenant.shared.id_size
    strings[_TEXT] = text
    numbers[0] = first
    numbers[1] = second
    numbers[2] = third
    numbers[3] = fourth
    notice_put(world.notices, kind, world.now_ms, strings, numbers)


cdef void notice_stranger(
    const World *world, NoticeKind kind, Bytes client_id, Bytes peer, Bytes text, uint64_t first, uint64_t second
) noexcept nogil:
    cdef Bytes strings[5]
    cdef uint64_t numbers[4]
    memset(strings, 0, sizeof(strings))
    strings[_CLIENT] = client_id
    strings[_PEER] = peer
    strings[_TEXT] = text
    memset(numbers, 0, sizeof(numbers))
    numbers[0] = first
    numbers[1] = second
    notice_put(world.notices, kind, world.now_ms, strings, numbers)
