"""CONNECT: asking the control plane, and what follows from its verdict.

    CONNECT -> check what needs no tenant -> event ConnectRequested ... Command admit / refuse
                                               (or an exchange of AUTH before, see authentication.pxd)
            -> the shard that the session's key hashes to -> take over or resume or begin the session -> CONNACK

While it waits for the verdict the connection is not read, so that the bytes behind the CONNECT stay in the kernel
(those that came with it are kept).
"""

from libc.stdint cimport uint8_t
from rookery.core.shards.state cimport Command, Connection, Mail, Shard, Transfer


# The first packet came whole; body is its variable header and payload.
cdef void admission_request(Connection *connection, const uint8_t *body, Py_ssize_t size) noexcept nogil
# The first packet is larger than CONNECT_SIZE_MAXIMUM; body is as much of it as is there.
cdef void admission_too_large(Connection *connection, const uint8_t *body, Py_ssize_t size) noexcept nogil
# The verdict. Takes over the command.
cdef void admission_admit(Shard *shard, Command *command) noexcept nogil
cdef void admission_refuse(Shard *shard, Command *command) noexcept nogil
# A connection that was admitted on another shard and whose session lives here.
cdef void admission_take_transfer(Shard *shard, Mail *mail) noexcept nogil
# Give back everything of a transfer that nobody takes.
cdef void abandon_transfer(Transfer *transfer) noexcept nogil
