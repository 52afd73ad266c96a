"""See connections.pxd."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from rookery.core.border.arguments cimport encode_name, view
from rookery.core.commands.port cimport Port
from rookery.core.shards.gate cimport GATE_ANSWER_COUNT, Gate, gate_enter, gate_leave, gate_network_of_text, gate_new
from rookery.core.shards.queues cimport command_new
from rookery.core.shards.state cimport (
    ADOPT_EARLY, ADOPT_PEER, ADOPT_STRING_COUNT, COMMAND_ADOPT, COMMAND_LISTEN, COMMAND_STOP_LISTENING, Command,
)
from rookery.core.shards.turn cimport clock_ms
from rookery.core.streams.tls cimport TlsLibrary
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.mutex cimport mutex_lock, mutex_unlock


@cython.no_gc_clear
cdef class ConnectionCommands(Port):
    def limit_connections(
        self, listeners, *, uint32_t connections=0, uint32_t rate_per_s=0, uint32_t network_connections=0,
        uint32_t network_rate_per_s=0, int ipv4_bits=32, int ipv6_bits=64,
    ):
        cdef Gate *gate
        cdef uint32_t index
        self._shard(0)
        if self._universe.gate != NULL or self._running:
            raise RuntimeError("limits of connections are set once, before shards run")
        if not 1 <= ipv4_bits <= 32 or not 1 <= ipv6_bits <= 64:
            raise ValueError(f"ipv4_bits is {ipv4_bits} of 1 to 32, ipv6_bits is {ipv6_bits} of 1 to 64")
        gate = gate_new(&self._universe.key, len(listeners))
        if gate == NULL:
            raise MemoryError
        self._universe.gate = gate
        gate.limits.connections = connections
        gate.limits.rate_per_s = rate_per_s
        gate.network_limits.connections = network_connections
        gate.network_limits.rate_per_s = network_rate_per_s
        gate.ipv4_bits = <uint8_t> ipv4_bits
        gate.ipv6_bits = <uint8_t> ipv6_bits
        for index, (most, rate) in enumerate(listeners):
            gate.listeners[index].limits.connections = most
            gate.listeners[index].limits.rate_per_s = rate

    cdef Gate *_gate_of(self, uint32_t listener_id) except? NULL:
        self._shard(0)
        if self._universe.gate != NULL and listener_id >= self._universe.gate.listener_count:
            raise ValueError(f"listener_id is {listener_id}, limits are set for {self._universe.gate.listener_count}")
        return self._universe.gate

    def enter(self, uint32_t listener_id, str host):
        cdef Gate *gate = self._gate_of(listener_id)
        cdef bytes name = host.encode()
        cdef uint64_t network
        if gate == NULL:
            return 0, 0
        network = gate_network_of_text(gate, name)
        return <int> gate_enter(gate, listener_id, network, clock_ms()), network

    def leave(self, uint32_t listener_id, uint64_t network):
        cdef Gate *gate = self._gate_of(listener_id)
        if gate != NULL:
            gate_leave(gate, listener_id, network, clock_ms())

    def gate_counts(self):
        cdef Gate *gate = self._gate_of(0)
        cdef uint32_t index
        cdef int answer
        if gate == NULL:
            return []
        mutex_lock(&gate.mutex)
        counts = [
            (gate.listeners[index].meter.connections,
             tuple([gate.listeners[index].refused[answer] for answer in range(1, <int> GATE_ANSWER_COUNT)]))
            for index in range(gate.listener_count)
        ]
        mutex_unlock(&gate.mutex)
        return counts

    def set_connect_timeout(self, uint32_t timeout_ms):
        self._shard(0)
        self._universe.connect_timeout_ms = timeout_ms

    def set_packet_timeout(self, uint32_t timeout_ms):
        self._shard(0)
        self._universe.packet_timeout_ms = timeout_ms

    def listen(self, int descriptor, uint32_t listener_id=0):
        cdef uint32_t shard
        cdef Command *command
        self._gate_of(listener_id)
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_LISTEN, NULL, 0)
            if command != NULL:
                command.descriptor = descriptor
                command.listener_id = listener_id
            self._put(shard, command)

    def stop_listening(self):
        cdef uint32_t shard
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            self._put(shard, command_new(COMMAND_STOP_LISTENING, NULL, 0), 0)

    def use_tls(
        self, *, size_t read, size_t write, size_t get_error, size_t pending, size_t do_handshake, size_t shutdown,
        size_t release, size_t clear_errors,
    ):
        cdef TlsLibrary *library
        self._shard(0)
        library = &self._universe.tls
        # As integers: Cython has no other way from a Python number to a pointer to a function.
        (<size_t *> &library.read)[0] = read
        (<size_t *> &library.write)[0] = write
        (<size_t *> &library.get_error)[0] = get_error
        (<size_t *> &library.pending)[0] = pending
        (<size_t *> &library.do_handshake)[0] = do_handshake
        (<size_t *> &library.shutdown)[0] = shutdown
        (<size_t *> &library.free)[0] = release
        (<size_t *> &library.clear_errors)[0] = clear_errors

    def adopt(
        self, int descriptor, uint32_t listener_id=0, *, bint is_websocket=False, bytes early=b"", size_t ssl=0,
        str peer="", uint64_t ticket=0, bint is_counted=False, uint64_t network=0,
    ):
        # The session's key is not known before the CONNECT; the connection moves then.
        cdef uint32_t shard = <uint32_t> descriptor % <uint32_t> self.shard_count
        cdef Bytes strings[ADOPT_STRING_COUNT]
        cdef Command *command
        cdef bytes name = encode_name(peer, "peer")
        self._shard(shard)
        if is_counted and self._gate_of(listener_id) == NULL:
            raise ValueError("is_counted needs limit_connections before")
        if ssl != 0 and self._universe.tls.read == NULL:
            raise ValueError("ssl needs use_tls before")
        strings[ADOPT_EARLY] = view(early)
        strings[ADOPT_PEER] = view(name)
        command = command_new(COMMAND_ADOPT, strings, ADOPT_STRING_COUNT)
        if command != NULL:
            command.flag = is_websocket
            command.ssl = <void *> ssl
            command.ticket = ticket
            command.is_counted = is_counted
            command.network = network
            command.descriptor = descriptor
            command.listener_id = listener_id
        self._put(shard, command)
