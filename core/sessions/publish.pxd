"""Matching a publication against a tenant's topic filters and handing it out to the sessions of this shard."""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.sessions.message cimport Publication
from rookery.core.sessions.state cimport Tenant


cdef struct Outcome:
    uint32_t matched       # sessions on this shard, shared groups counted once
    uint32_t queued        # of these: in an outbox or inbox
    uint32_t dropped
    uint64_t other_shards  # bit s: shard s has routes that match too; the caller hands the message over


# The topic has been checked. Sessions that several filters lead to get one copy, with the highest granted QoS and all
# subscription identifiers [MQTT-3.3.4-2, -3].
cdef void tenant_publish(Tenant *tenant, Publication *publication, Outcome *outcome) noexcept nogil
