"""What the control plane asks of a shard, carried out between two turns."""

from rookery.core.shards.state cimport Shard


# Carry out all commands that wait.
cdef void commands_run(Shard *shard) noexcept nogil
