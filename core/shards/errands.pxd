"""Errands: what shards tell each other about shared groups, see rookery.core.sessions.memberships."""

from rookery.core.shards.state cimport Mail, Shard


# What was collected during the turn becomes mail.
cdef void errands_send(Shard *shard) noexcept nogil
# MAIL_ERRAND.
cdef void errands_take(Shard *shard, Mail *mail) noexcept nogil
# MAIL_ERRAND at the end of the shard; and what was never sent.
cdef void errand_discard(Shard *shard, Mail *mail) noexcept nogil
cdef void errands_clear(Shard *shard) noexcept nogil
