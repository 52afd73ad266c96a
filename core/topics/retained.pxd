"""RetainedTree: topic -> retained message of one tenant, and the walk from a topic filter to the messages it matches.

One per tenant, owned by one shard, no locks. Stored values are opaque pointers (a kept Message): the tree neither
counts nor frees them. Matching is a walk that can be left and taken up again, so that a filter that matches 100 000
messages never holds up a turn; the tree may change in between.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.hashing cimport HashKey

cdef struct RetainedTree

cdef struct RetainedWalk       # where a walk stands; owned by the caller, see retained_walk_new


# NULL when memory is short.
cdef RetainedTree *retained_new(const HashKey *key) noexcept nogil
# The values that are still stored are the caller's to release first (walk "#" and "$" topics with retained_walk_all).
cdef void retained_free(RetainedTree *tree) noexcept nogil
# Store value, which is not NULL, for the checked topic; *previous is what it replaces (or NULL). 0, or -1 when memory
# is short: then nothing has changed, and *previous is NULL.
cdef int retained_set(
    RetainedTree *tree, const uint8_t *topic, Py_ssize_t size, void *value, void **previous) noexcept nogil
# The value that was stored, now removed; NULL if there was none.
cdef void *retained_remove(RetainedTree *tree, const uint8_t *topic, Py_ssize_t size) noexcept nogil
cdef void *retained_get(const RetainedTree *tree, const uint8_t *topic, Py_ssize_t size) noexcept nogil
cdef uint64_t retained_count(const RetainedTree *tree) noexcept nogil
# Bytes of memory that the tree holds, beside the values and the open walks. It falls as topics go: the table at once,
# the nodes when the last topic has gone.
cdef uint64_t retained_memory_bytes(const RetainedTree *tree) noexcept nogil

# Begin a walk over all messages whose topic matches the checked topic filter. NULL when memory is short.
cdef RetainedWalk *retained_walk_new(
    RetainedTree *tree, const uint8_t *topic_filter, Py_ssize_t size) noexcept nogil
# The same over every message, topics that begin with $ included (for listings, expiry and release).
cdef RetainedWalk *retained_walk_all(RetainedTree *tree) noexcept nogil
# Up to limit further values into out, having looked at no more than node_limit nodes (one more to finish the last step;
# both limits are at least 1). Returns how many were written, and sets *is_done when the walk is over. A message that is
# stored throughout the walk comes exactly once; one that is set or removed meanwhile comes at most once. The value is
# valid as long as the caller's message is.
cdef uint32_t retained_walk_next(
    RetainedWalk *walk, void **out, uint32_t limit, uint32_t node_limit, bint *is_done) noexcept nogil
# Where the walk rests, as text: a point and the levels that lead there. Returns its size in bytes, 0 for the beginning
# and for a walk that is over; at most capacity bytes are written.
cdef Py_ssize_t retained_walk_place(const RetainedWalk *walk, uint8_t *out, Py_ssize_t capacity) noexcept nogil
# Go on from such a place with a new walk of the same filter: for who cannot keep a walk. Where levels have gone since,
# it goes on from the last one that is left, so that some may come twice.
cdef void retained_walk_resume(RetainedWalk *walk, const uint8_t *place, Py_ssize_t size) noexcept nogil
# Must be called before the tree is freed.
cdef void retained_walk_free(RetainedWalk *walk) noexcept nogil
