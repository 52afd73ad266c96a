"""Which shard owns a session.

A key is tenant, user and client identifier. Whoever knows it knows the shard, so nobody has to ask where a session is.
"""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.shards.state cimport Shard
from rookery.core.structures.bytes cimport Bytes


# The hash of user and client identifier, and the shard of the tenant's session with this hash.
cdef uint64_t session_key_hash(Shard *shard, Bytes user_id, Bytes client_id) noexcept nogil
cdef uint32_t owner_shard(Shard *shard, Bytes tenant_id, uint64_t key_hash) noexcept nogil
