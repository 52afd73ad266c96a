"""A publication's way through the shards: sessions here, other shards by mail, the retained tree at home."""

from rookery.core.sessions.message cimport Message, Publication
from rookery.core.sessions.publish cimport Outcome
from rookery.core.sessions.state cimport Tenant
from rookery.core.shards.state cimport Mail, Shard


# Hand the publication out everywhere and store it if its RETAIN flag says so. The topic has been checked.
# outcome counts this shard; other_shards tells where else it went.
cdef void shard_publish(Shard *shard, Tenant *tenant, Publication *publication, Outcome *outcome) noexcept nogil
# Store (or clear) the retained message on the tenant's home shard, which may be another one.
cdef int shard_retain(Shard *shard, Tenant *tenant, Publication *publication) noexcept nogil
# Hand a message of the control plane out on this shard alone (it is told to all), stored here if this is its home.
# True when it was stored or cleared as the retained message.
cdef bint shard_publish_here(Shard *shard, Tenant *tenant, Message *message, Outcome *outcome) noexcept nogil
# MAIL_PUBLISH and MAIL_RETAIN.
cdef void publishing_take_mail(Shard *shard, Mail *mail) noexcept nogil
