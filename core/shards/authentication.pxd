"""Enhanced authentication: AUTH packets between a client and the control plane [MQTT5 4.12].

    CONNECT with a method --> VERDICT_DUE --challenge: AUTH 0x18--> AUTH_DUE
                                  ^                                    |
                                  '----- AuthReceived: AUTH 0x18 ------'
    ... admit: CONNACK with the method, or refuse: CONNACK with a reason

    connected: AUTH 0x19 --> TURN_OF_SERVER --challenge: AUTH 0x18--> TURN_OF_CLIENT
                                  ^                                    |
                                  '----- AuthReceived: AUTH 0x18 ------'
    ... confirm: AUTH 0x00, or disconnect; messages go on meanwhile

Whoever speaks out of turn breaks the protocol. Before CONNACK the whole exchange has CONNECT_TIMEOUT_MS, a
re-authentication REAUTHENTICATION_TIMEOUT_MS; either has AUTHENTICATION_STEPS. When the connection ends before the
exchange does, the control plane is told that nobody waits any more.
"""

from libc.stdint cimport uint8_t
from rookery.core.shards.state cimport Command, Connection, Shard
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport ConnectPacket, Frame


# Remember the method of a CONNECT; nothing to do without one. False when memory is short.
cdef bint authentication_begin(Connection *connection, const ConnectPacket *packet) noexcept nogil
# The method of a connection that has one.
cdef Bytes authentication_method(const Connection *connection) noexcept nogil
# A packet while the client's AUTH is due, before CONNACK.
cdef void authentication_continue(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil
# An AUTH of a connected client, whose fixed header has been checked.
cdef void authentication_handle(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil
# COMMAND_CHALLENGE, COMMAND_CONFIRM. What comes too late has no effect.
cdef void authentication_challenge(Shard *shard, Command *command) noexcept nogil
cdef void authentication_confirm(Shard *shard, Command *command) noexcept nogil
