"""The few calls and constants of Linux sockets and epoll that the load generator needs."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLLERR
        EPOLLHUP
        EPOLLIN
        EPOLLOUT

    ctypedef union epoll_data_t:
        uint32_t u32
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int descriptor, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int limit, int timeout_ms)


cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t value)
    uint32_t htonl(uint32_t value)
    int inet_pton(int family, const char *text, void *address)


cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_IP
        IPPROTO_TCP
        IP_BIND_ADDRESS_NO_PORT

    struct in_addr:
        uint32_t s_addr

    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr


cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY


cdef extern from "<poll.h>" nogil:
    enum:
        POLLOUT

    struct pollfd:
        int fd
        short events
        short revents

    int poll(pollfd *descriptors, unsigned long count, int timeout_ms)


cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET
        MSG_NOSIGNAL
        SOCK_CLOEXEC
        SOCK_NONBLOCK
        SOCK_STREAM
        SOL_SOCKET
        SO_SNDBUF

    ctypedef uint32_t socklen_t

    struct sockaddr:
        pass

    int socket(int family, int kind, int protocol)
    int bind(int descriptor, const sockaddr *address, socklen_t size)
    int connect(int descriptor, const sockaddr *address, socklen_t size)
    int setsockopt(int descriptor, int level, int option, const void *value, socklen_t size)
    ssize_t recv(int descriptor, void *data, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
