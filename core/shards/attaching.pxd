"""A client that is admitted gets its session: taken over, resumed or begun, and CONNACK."""

from rookery.core.shards.state cimport Command, Connection
from rookery.core.wire.packets cimport ConnectPacket


# The connection is admitted by the command, COMMAND_ADMIT, which is taken over, and this shard owns the session.
# is_assigned: the client identifier in packet is the server's choice. Refused for what holds for its tenant only now,
# it is LINGERING or gone afterwards, else ATTACHED.
cdef void attach(Connection *connection, ConnectPacket *packet, Command *command, bint is_assigned) noexcept nogil
