"""Loops of bench_wire: the codec called as a shard calls it, again and again, without the GIL."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from rookery.core.wire.decode cimport FRAME_WHOLE, decode_publish, read_frame
from rookery.core.wire.encode cimport OutgoingPublish, encode_publish, size_publish
from rookery.core.wire.packets cimport Frame, PublishPacket
from rookery.core.wire.text cimport is_utf8


cdef Py_ssize_t walk_stream(const uint8_t *data, Py_ssize_t size, int version) noexcept nogil:
    cdef Frame frame
    cdef PublishPacket packet
    cdef const char *detail
    cdef Py_ssize_t count = 0
    while size > 0:
        if read_frame(data, size, &frame) != FRAME_WHOLE:
            return -1
        if decode_publish(data + frame.header_size, frame.body_size, frame.flags, version, &packet, NULL, &detail) != 0:
            return -1
        data += frame.header_size + frame.body_size
        size -= frame.header_size + frame.body_size
        count += 1
    return count


def decode_publishes(bytes stream, int version, Py_ssize_t repeats):
    """Walk a stream of PUBLISH packets repeats times; the number of packets decoded."""
    cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(stream)
    cdef Py_ssize_t size = len(stream)
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t count = 0
    with nogil:
        for _ in range(repeats):
            count = walk_stream(data, size, version)
            if count < 0:
                break
            total += count
    if count < 0:
        raise ValueError("the stream is not made of whole, valid PUBLISH packets")
    return total


def encode_publishes(list topics, bytes payload, int qos, int version, Py_ssize_t repeats):
    """Size and encode one PUBLISH per topic, repeats times; the last packet."""
    cdef Py_ssize_t count = len(topics)
    cdef OutgoingPublish *packets = <OutgoingPublish *> malloc(count * sizeof(OutgoingPublish))
    cdef uint8_t *out = <uint8_t *> malloc(1 << 16)
    cdef Py_ssize_t index, size
    if packets == NULL or out == NULL:
        free(packets)
        free(out)
        raise MemoryError
    memset(packets, 0, count * sizeof(OutgoingPublish))
    for index in range(count):
        packets[index].topic.data = <const uint8_t *> PyBytes_AS_STRING(topics[index])
        packets[index].topic.size = len(topics[index])
        packets[index].payload.data = <const uint8_t *> PyBytes_AS_STRING(payload)
        packets[index].payload.size = len(payload)
        packets[index].qos = qos
        packets[index].packet_id = index + 1
    size = 0
    with nogil:
        for _ in range(repeats):
            for index in range(count):
                size = size_publish(&packets[index], version)
                if size > 1 << 16 or encode_publish(&packets[index], version, out) != size:
                    size = -1
                    break
            if size < 0:
                break
    try:
        if size < 0:
            raise ValueError("a packet is not as long as its size says")
        return (<const char *> out)[:size]
    finally:
        free(packets)
        free(out)


def check_utf8(list strings, Py_ssize_t repeats):
    """Check every string, repeats times; how many of one round are well-formed."""
    cdef Py_ssize_t count = len(strings)
    cdef Py_ssize_t index
    cdef Py_ssize_t total = 0
    cdef const uint8_t **data = <const uint8_t **> malloc(count * sizeof(uint8_t *))
    cdef Py_ssize_t *sizes = <Py_ssize_t *> malloc(count * sizeof(Py_ssize_t))
    if data == NULL or sizes == NULL:
        free(data)
        free(sizes)
        raise MemoryError
    for index in range(count):
        data[index] = <const uint8_t *> PyBytes_AS_STRING(strings[index])
        sizes[index] = len(strings[index])
    with nogil:
        for _ in range(repeats):
            for index in range(count):
                total += is_utf8(data[index], sizes[index])
    free(data)
    free(sizes)
    return total // repeats
