"""Results: what shards tell, as the frozen classes of rookery.core.events and rookery.core.notices."""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.sessions.notices cimport Notice
from rookery.core.shards.state cimport Event


# What registry_tell has written: a ResourceState for each resource.
cdef tuple decode_resources(const uint64_t *counted)
# asked: the session keys that were asked for, by request; an answer takes its own out.
cdef object decode_event(const Event *event, uint32_t shard, dict asked)
cdef object decode_notice(const Notice *notice, uint64_t wall_offset_ms)
