# A peer that does nothing, to learn what the load generator itself can do.
#
# It answers CONNECT and SUBSCRIBE with fixed bytes, and from then on copies what publisher i sends to subscriber i
# without looking at it. A broker cannot be faster than this at the same system calls, so the rate against it is the
# ceiling of the generator on this machine.

import os
import socket as sockets
import threading

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from posix.unistd cimport close

from rookery.bench.sockets cimport (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLLIN,
    MSG_NOSIGNAL,
    POLLOUT,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    poll,
    pollfd,
    recv,
    send,
)

from .packets import NUMBER_DIGITS

cdef enum:
    COPY_BYTES = 128 * 1024
    EVENT_LIMIT = 256

CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x00"
# A load generator that fails before all its clients are here must not leave the thread waiting for ever.
HANDSHAKE_TIMEOUT_S = 10


cdef bint copy(int source, int target, uint8_t *data) noexcept nogil:
    """Move what one read brings to the other socket; False at the end of the stream."""
    cdef ssize_t size = recv(source, data, COPY_BYTES, 0)
    cdef ssize_t position = 0
    cdef ssize_t taken
    cdef pollfd writable
    if size <= 0:
        return size < 0 and (errno == EAGAIN or errno == EINTR)
    while position < size:
        taken = send(target, data + position, size - position, MSG_NOSIGNAL)
        if taken >= 0:
            position += taken
        elif errno == EAGAIN:
            # The load generator always reads what is there, so that this wait ends.
            writable.fd = target
            writable.events = POLLOUT
            poll(&writable, 1, 100)
        elif errno != EINTR:
            return False
    return True


cdef void copy_all(int epoll, uint8_t *data) noexcept nogil:
    """Copy between the pairs of descriptors that are the data of the events, until one publisher ends."""
    cdef epoll_event events[EVENT_LIMIT]
    cdef uint64_t pair
    cdef int index
    cdef int ready
    while True:
        ready = epoll_wait(epoll, events, EVENT_LIMIT, 1000)
        for index in range(ready):
            pair = events[index].data.u64
            if not copy(<int> (pair >> 32), <int> <uint32_t> pair, data):
                return


class Reflector:
    """Joins client pairs + i of a load to its client i, on a thread of its own.

    As a context manager it serves one load of the plan `pairs(count)` at QoS 0, and waits for its thread at the end:
    close the load first.
    """

    def __init__(self, pairs, *, cpu=None):
        self.pairs = pairs
        self.cpu = cpu
        self.listener = sockets.create_server(("127.0.0.1", 0), backlog=256)
        self.listener.settimeout(HANDSHAKE_TIMEOUT_S)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, name="reflector")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.listener.close()

    def serve(self):
        if self.cpu is not None:
            os.sched_setaffinity(0, {self.cpu})
        clients = {}
        try:
            for _ in range(2 * self.pairs):
                client = self.listener.accept()[0]
                client.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
                number = int(read_packet(client)[-NUMBER_DIGITS:])
                clients[number] = client
                client.sendall(CONNACK)
            for number in range(self.pairs):
                read_packet(clients[number])
                clients[number].sendall(SUBACK)
            reflect([(clients[self.pairs + number], clients[number]) for number in range(self.pairs)])
        finally:
            for client in clients.values():
                client.close()


def read_packet(client):
    """One packet of less than 128 bytes."""
    client.settimeout(HANDSHAKE_TIMEOUT_S)
    packet = client.recv(2, sockets.MSG_WAITALL)
    return packet + client.recv(packet[1], sockets.MSG_WAITALL)


def reflect(pairs):
    """Copy from the first to the second socket of each pair until one of the first ends; without the GIL."""
    cdef epoll_event event
    cdef int epoll
    cdef uint64_t source_fd
    cdef uint64_t target_fd
    cdef uint8_t *data = <uint8_t *> malloc(COPY_BYTES)
    if data == NULL:
        raise MemoryError
    epoll = epoll_create1(EPOLL_CLOEXEC)
    try:
        for source, target in pairs:
            source.setblocking(False)
            target.setblocking(False)
            event.events = EPOLLIN
            source_fd = source.fileno()
            target_fd = target.fileno()
            event.data.u64 = source_fd << 32 | target_fd
            epoll_ctl(epoll, EPOLL_CTL_ADD, <int> source_fd, &event)
        with nogil:
            copy_all(epoll, data)
    finally:
        close(epoll)
        free(data)
