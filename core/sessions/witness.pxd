"""Raising notices about sessions and tenants: one branch where nobody asked. See notices.pxd for the kinds."""

from libc.stdint cimport uint64_t
from rookery.core.sessions.notices cimport NoticeKind
from rookery.core.sessions.state cimport Session, Tenant, World
from rookery.core.structures.bytes cimport Bytes


cdef inline bint is_noticed(const World *world, NoticeKind kind) noexcept nogil:
    return world.notices != NULL and world.notices.wanted[<int> kind] != 0


cdef inline bint is_noticed_in_debug(const Tenant *tenant, NoticeKind kind) noexcept nogil:
    """For what happens once per message: the tenant has to ask for it as well."""
    return tenant.settings.debug_mode_enabled and is_noticed(tenant.world, kind)


# Call them behind is_noticed. peer and text may be absent (data NULL, size 0).
cdef void notice_session(
    const Session *session, NoticeKind kind, Bytes peer, Bytes text, uint64_t first, uint64_t second, uint64_t third,
    uint64_t fourth) noexcept nogil
cdef void notice_tenant(
    const Tenant *tenant, NoticeKind kind, Bytes text, uint64_t first, uint64_t second, uint64_t third,
    uint64_t fourth) noexcept nogil
# About a connection that has no session yet.
cdef void notice_stranger(
    const World *world, NoticeKind kind, Bytes client_id, Bytes peer, Bytes text, uint64_t first, uint64_t second
) noexcept nogil
cdef Bytes absent() noexcept nogil
cdef Bytes text_of(const char *text) noexcept nogil
