"""Verdicts that hold for more than one CONNECT, remembered by the shard that asked.

Who decides may say for how long every CONNECT with the same listener, user name and password would be let in the same
way. Until then such a client meets the control plane no more: a storm of devices that come back costs what their
connections cost. A refusal is never remembered.

What is kept is a keyed hash and never the password: 128 bits of SipHash under keys of this process, so that nobody can
find a password that shares it. There are as many places as VERDICTS_REMEMBERED, each verdict has one, and the later one
gets it.

Universe.verdict_epoch says when whoever decides has changed his mind: it goes with the question, comes back with the
verdict, and a verdict of another epoch is worth nothing.
"""

from libc.stdint cimport uint8_t

from rookery.core.shards.state cimport Command, Connection, Shard
from rookery.core.wire.packets cimport ConnectPacket


# Keep an admission, if it says that it may be kept. The command stays the caller's.
cdef void verdict_keep(Connection *connection, const ConnectPacket *packet, const Command *command) noexcept nogil
# COMMAND_ADMIT for this connection, the caller's; NULL = the control plane must be asked.
cdef Command *verdict_recall(Connection *connection, const ConnectPacket *packet) noexcept nogil
# Nothing that was decided until now holds for others.
cdef void verdicts_forget(Shard *shard) noexcept nogil
