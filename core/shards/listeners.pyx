"""See listeners.pxd."""

from libc.errno cimport EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, strlen

from rookery.core.sessions.state cimport TIMER_LISTENER
from rookery.core.shards.connections cimport connection_new, connection_ready, connection_report_closed
from rookery.core.shards.gate cimport GATE_OPEN, Gate, gate_enter, gate_leave, gate_network_of_socket
from rookery.core.shards.queues cimport command_string
from rookery.core.shards.state cimport (
    ACCEPT_PAUSE_MS, ACCEPTS_PER_TURN, ADOPT_EARLY, ADOPT_PEER, Command, Connection, Listener, Shard,
)
from rookery.core.shards.transport cimport transport_has_read
from rookery.core.streams.tls cimport Tls, tls_free, tls_new
from rookery.core.streams.websocket cimport WebSocket, websocket_free, websocket_new
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.timers cimport wheel_arm, wheel_cancel

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64

    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_ctl(int epoll_descriptor, int operation, int descriptor, epoll_event *event)
    int EPOLL_CTL_ADD
    int EPOLL_CTL_DEL
    unsigned int EPOLLEXCLUSIVE
    int EPOLLIN

cdef extern from * nogil:
    """
    #define _GNU_SOURCE 1
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <arpa/inet.h>
    #include <unistd.h>

    /* peer: whom the connection is from. */
    static int rookery_accept(int listener, struct sockaddr_storage *peer) {
        socklen_t size = sizeof(*peer);
        peer->ss_family = AF_UNSPEC;
        return accept4(listener, (struct sockaddr *) peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }

    /* Connections have what their listener has. */
    static void rookery_no_delay(int descriptor) {
        int one = 1;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }

    static void rookery_peer_of(int descriptor, struct sockaddr_storage *peer) {
        socklen_t size = sizeof(*peer);
        if (getpeername(descriptor, (struct sockaddr *) peer, &size) != 0) peer->ss_family = AF_UNSPEC;
    }

    /* "host:port" into out; empty where nothing is known. */
    static void rookery_name_peer(const struct sockaddr_storage *peer, char *out, int size) {
        char host[INET6_ADDRSTRLEN] = "";
        out[0] = 0;
        if (peer->ss_family == AF_INET) {
            const struct sockaddr_in *v4 = (const struct sockaddr_in *) peer;
            inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
            snprintf(out, size, "%s:%d", host, ntohs(v4->sin_port));
        } else if (peer->ss_family == AF_INET6) {
            const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) peer;
            inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
            snprintf(out, size, "[%s]:%d", host, ntohs(v6->sin6_port));
        } else if (peer->ss_family != AF_UNSPEC) {
            snprintf(out, size, "local");
        }
    }
    """
    ctypedef struct PeerAddress "struct sockaddr_storage":
        pass

    int rookery_accept(int listener, PeerAddress *peer)
    void rookery_no_delay(int descriptor)
    void rookery_peer_of(int descriptor, PeerAddress *peer)
    void rookery_name_peer(const PeerAddress *peer, char *out, int size)
    int close(int descriptor)

cdef enum:
    _PEER_SIZE = 64


cdef void _listen(Shard *shard, Listener *listener) noexcept nogil:
    cdef epoll_event event
    # Exclusive: of all shards that wait, the kernel wakes one per connection.
    event.events = <unsigned int> EPOLLIN | EPOLLEXCLUSIVE
    event.data.u64 = LISTENER_FIRST + listener.index
    epoll_ctl(shard.epoll_descriptor, EPOLL_CTL_ADD, listener.descriptor, &event)
    listener.is_paused = 0


cdef int listener_add(Shard *shard, int descriptor, uint32_t listener_id) noexcept nogil:
    cdef Listener *listener = <Listener *> calloc(1, sizeof(Listener))
    if listener == NULL:
        return -1
    listener.descriptor = descriptor
    listener.listener_id = listener_id
    listener.index = 0 if shard.listeners == NULL else shard.listeners.index + 1
    listener.timer.owner = listener
    listener.timer.kind = TIMER_LISTENER
    listener.next = shard.listeners
    shard.listeners = listener
    # Without it a small acknowledgement waits for the one before it.
    rookery_no_delay(descriptor)
    _listen(shard, listener)
    return 0


cdef Connection *_welcome(Shard *shard, int descriptor, uint32_t listener_id, Bytes name) noexcept nogil:
    """A connection that serves the socket; name is its peer's. NULL: it was closed."""
    cdef Connection *connection
    cdef uint8_t *peer = <uint8_t *> malloc(name.size + 1)
    if peer != NULL:
        memcpy(peer, name.data, name.size)
        connection = connection_new(shard, descriptor, NULL, listener_id, peer, <uint16_t> name.size)
        if connection != NULL:
            return connection
    free(peer)
    close(descriptor)
    return NULL


cdef Bytes _name_of(const PeerAddress *peer, char *text) noexcept nogil:
    """"host:port", written into text, which has _PEER_SIZE."""
    cdef Bytes name
    rookery_name_peer(peer, text, _PEER_SIZE)
    name.data = <const uint8_t *> text
    name.size = strlen(text)
    return name


cdef void adopt_nobody(Shard *shard, Command *command) noexcept nogil:
    if command.ssl != NULL:
        shard.universe.tls.free(command.ssl)
    if command.ticket != 0:
        connection_report_closed(shard, command.ticket)
    if command.is_counted:
        gate_leave(shard.universe.gate, command.listener_id, command.network, shard.world.now_ms)
    close(command.descriptor)


cdef void adopt(Shard *shard, Command *command) noexcept nogil:
    cdef Bytes early = command_string(command, ADOPT_EARLY)
    cdef WebSocket *websocket = NULL
    cdef Bytes name = command_string(command, ADOPT_PEER)
    cdef Tls *tls = NULL
    cdef PeerAddress peer
    cdef char text[_PEER_SIZE]
    cdef Connection *connection
    if shard.is_stopping:
        adopt_nobody(shard, command)
        return
    if command.ssl != NULL:
        tls = tls_new(&shard.universe.tls, command.ssl)
    if command.flag:
        websocket = websocket_new(early.data, <uint32_t> early.size)
    if (command.ssl != NULL and tls == NULL) or (command.flag and websocket == NULL):
        free(tls)  # Without its ssl, which goes with the command.
        websocket_free(websocket)
        adopt_nobody(shard, command)
        return
    rookery_no_delay(command.descriptor)
    if name.size == 0:
        rookery_peer_of(command.descriptor, &peer)
        name = _name_of(&peer, text)
    connection = _welcome(shard, command.descriptor, command.listener_id, name)
    if connection == NULL:
        tls_free(tls)
        websocket_free(websocket)
        if command.ticket != 0:
            connection_report_closed(shard, command.ticket)
        if command.is_counted:
            gate_leave(shard.universe.gate, command.listener_id, command.network, shard.world.now_ms)
        return
    connection.network = command.network
    connection.is_counted = command.is_counted
    connection.websocket = websocket
    connection.tls = tls
    connection.ticket = command.ticket
    connection.is_layered = tls != NULL or websocket != NULL
    if transport_has_read(connection):
        connection_ready(connection)


cdef void _let_in(Shard *shard, int descriptor, uint32_t listener_id, const PeerAddress *peer) noexcept nogil:
    """Serve a socket that was accepted here, if the gate is open for it."""
    cdef Gate *gate = shard.universe.gate
    cdef uint64_t network = 0
    cdef char text[_PEER_SIZE]
    cdef Connection *connection
    if gate != NULL:
        network = gate_network_of_socket(gate, descriptor)
        if gate_enter(gate, listener_id, network, shard.world.now_ms) != GATE_OPEN:
            # The first words of MQTT are the client's: nothing can be said to it before, and waiting for them is what
            # a limit of connections is to spare us.
            close(descriptor)
            return
    connection = _welcome(shard, descriptor, listener_id, _name_of(peer, text))
    if connection != NULL:
        connection.network = network
        connection.is_counted = gate != NULL
    elif gate != NULL:
        gate_leave(gate, listener_id, network, shard.world.now_ms)


cdef void listener_accept(Shard *shard, uint32_t index) noexcept nogil:
    cdef Listener *listener = shard.listeners
    cdef PeerAddress peer
    cdef int descriptor
    cdef uint32_t _count
    while listener != NULL and listener.index != index:
        listener = listener.next
    if listener == NULL:
        return
    for _count in range(ACCEPTS_PER_TURN):
        descriptor = rookery_accept(listener.descriptor, &peer)
        if descriptor >= 0:
            _let_in(shard, descriptor, listener.listener_id, &peer)
        elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
            epoll_ctl(shard.epoll_descriptor, EPOLL_CTL_DEL, listener.descriptor, NULL)
            listener.is_paused = 1
            wheel_arm(shard.world.wheel, &listener.timer, shard.world.now_ms + ACCEPT_PAUSE_MS)
            return
        elif errno == EAGAIN:
            return
        # Anything else concerns the one connection that was lost before it was accepted.


cdef void listener_resume(Shard *shard, Listener *listener) noexcept nogil:
    _listen(shard, listener)


cdef void listeners_clear(Shard *shard) noexcept nogil:
    cdef Listener *listener
    while shard.listeners != NULL:
        listener = shard.listeners
        shard.listeners = listener.next
        wheel_cancel(shard.world.wheel, &listener.timer)
        if not listener.is_paused:
            epoll_ctl(shard.epoll_descriptor, EPOLL_CTL_DEL, listener.descriptor, NULL)
        free(listener)
