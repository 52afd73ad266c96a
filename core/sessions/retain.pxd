"""The retained messages of a tenant, on its home shard: storing, clearing, expiry [MQTT5 3.3.1.3]."""

from libc.stdint cimport uint8_t, uint64_t
from rookery.core.sessions.message cimport Message, Publication
from rookery.core.sessions.state cimport Tenant
from rookery.core.structures.timers cimport Timer

cdef enum RetainResult:
    RETAIN_STORED = 0
    RETAIN_CLEARED = 1      # an empty payload [MQTT-3.3.1-6]
    RETAIN_NO_MEMORY = -1
    RETAIN_OVER_QUOTA = 2   # the tenant has not enough left of a resource


cdef struct Retained:       # what the tenant's RetainedTree points to
    Message *message        # one reference
    Tenant *tenant
    Timer *timer            # TIMER_RETAINED, owner is this struct; NULL without expiry
    uint64_t stored_at_ms   # clock of the shards


cdef int tenant_retain(Tenant *tenant, Publication *publication) noexcept nogil
# The same for a message that was stored before.
cdef int tenant_retain_at(Tenant *tenant, Publication *publication, uint64_t stored_at_ms) noexcept nogil
# The timer of a retained message fired: it goes.
cdef void retained_expire(Retained *retained) noexcept nogil
# All retained messages go and the tree is freed; no walk may be open.
cdef void tenant_drop_retained(Tenant *tenant) noexcept nogil
