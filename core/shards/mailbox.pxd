"""Mail between shards: collected per target during a turn, handed over once, and the target woken only if it sleeps."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Message
from rookery.core.sessions.state cimport SharedTenant
from rookery.core.shards.state cimport Mail, Shard


# Collect a mail for another shard; takes over the reference to message and the ownership of data, and takes a
# reference to tenant (NULL allowed). 0, or -1 when memory is short (then nothing was taken over).
cdef int mail_put(
    Shard *shard, uint32_t target, uint8_t kind, SharedTenant *tenant, Message *message, void *data) noexcept nogil
# The end of the turn: what was collected goes to its targets, in order.
cdef void mail_hand_over(Shard *shard) noexcept nogil
# All that came, oldest first; the caller frees each with mail_free.
cdef Mail *mail_take_all(Shard *shard) noexcept nogil
# Bytes that wait for the target to take them, those of this turn included.
cdef uint64_t mail_waiting_bytes(Shard *shard, uint32_t target) noexcept nogil
# Have this shard woken when the target has taken its mail; False when nothing waits there.
cdef bint mail_await(Shard *shard, uint32_t target) noexcept nogil
cdef void mail_free(Shard *shard, Mail *mail) noexcept nogil

# Wake the shard if it sleeps in epoll. Any thread, after something was put into one of its queues.
cdef void shard_wake(Shard *shard) noexcept nogil
# Announce sleep; False when something came meanwhile and the shard must not wait.
cdef bint shard_may_sleep(Shard *shard) noexcept nogil
cdef void shard_awake(Shard *shard) noexcept nogil
