"""See ownership.pxd."""

from rookery.core.structures.hashing cimport hash_bytes


cdef uint64_t session_key_hash(Shard *shard, Bytes user_id, Bytes client_id) noexcept nogil:
    # Rotated, so that ("a", "b") and ("b", "a") differ.
    cdef uint64_t first = hash_bytes(&shard.universe.key, user_id.data, user_id.size)
    return (first << 23 | first >> 41) ^ hash_bytes(&shard.universe.key, client_id.data, client_id.size)


cdef uint32_t owner_shard(Shard *shard, Bytes tenant_id, uint64_t key_hash) noexcept nogil:
    cdef uint64_t hash = key_hash ^ hash_bytes(&shard.universe.key, tenant_id.data, tenant_id.size)
    return <uint32_t> ((hash >> 32) % shard.universe.shard_count)
