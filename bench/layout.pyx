import os
import random
import socket as sockets

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy
from posix.unistd cimport close

from rookery.bench.ledger cimport Lane, release_lane, release_sightings
from rookery.bench.load_state cimport (
    HANDSHAKE_LIMIT, INPUT_BYTES, OUTPUT_BYTES, PREFIX_BYTES, STAMP_BYTES, Connection, Engine, Flow)
from rookery.bench.sockets cimport AF_INET, EPOLL_CLOEXEC, epoll_create1, htons
from rookery.bench.wire cimport WIRE_TLS, WIRE_WEBSOCKET, Wires, wire_close

from .packets import PUBLISH_PROPERTIES, UPGRADE_REQUEST, encode_publish_head
from .plan import Transport
from .tls import client_context, function_addresses
from rookery.server.tls.openssl import address_of_context


cdef Engine *new_engine() except NULL:
    """An engine of nothing, which free_engine takes in every state that lay_engine may leave it in."""
    cdef Engine *engine = <Engine *> calloc(1, sizeof(Engine))
    if engine == NULL:
        raise MemoryError
    engine.epoll = epoll_create1(EPOLL_CLOEXEC)
    if engine.epoll < 0:
        free(engine)
        raise OSError(errno, os.strerror(errno))
    return engine


cdef int lay_engine(Engine *engine, str host, int port, plan, traffic, list kept) except -1:
    """Fill a new engine; kept gets the objects into whose memory it points."""
    cdef uint32_t index
    cdef bytes address
    if traffic.payload_size < STAMP_BYTES:
        raise ValueError(f"payload of {traffic.payload_size} bytes, the stamp takes {STAMP_BYTES}")
    if traffic.version not in (4, 5):
        raise ValueError(f"protocol version {traffic.version} is neither 4 (3.1.1) nor 5")
    if traffic.qos not in (0, 1, 2):
        raise ValueError(f"QoS {traffic.qos} is not 0, 1 or 2")
    address = sockets.inet_aton(sockets.gethostbyname(host))
    engine.version = traffic.version
    engine.address.sin_family = AF_INET
    engine.address.sin_port = htons(<uint16_t> port)
    memcpy(&engine.address.sin_addr.s_addr, <const char *> address, 4)
    lay_wires(engine, traffic, kept)
    engine.source_count = traffic.sources
    engine.magic = random.getrandbits(32)
    engine.payload_size = traffic.payload_size
    engine.window = traffic.window
    engine.connection_count = len(plan.clients)
    engine.flow_count = plan.flow_count
    engine.input_capacity = max(INPUT_BYTES, 4 * (traffic.payload_size + 1024))
    engine.output_capacity = max(OUTPUT_BYTES, 4 * (traffic.payload_size + 1024))
    engine.connections = <Connection *> calloc(max(1, engine.connection_count), sizeof(Connection))
    engine.flows = <Flow *> calloc(max(1, engine.flow_count), sizeof(Flow))
    engine.dirty = <Connection **> calloc(max(1, engine.connection_count), sizeof(Connection *))
    engine.input = <uint8_t *> malloc(engine.input_capacity)
    engine.output = <uint8_t *> calloc(1, PREFIX_BYTES + engine.output_capacity)
    engine.filler = <uint8_t *> malloc(engine.payload_size)
    if (
        engine.connections == NULL
        or engine.flows == NULL
        or engine.dirty == NULL
        or engine.input == NULL
        or engine.output == NULL
        or engine.filler == NULL
    ):
        raise MemoryError
    for index in range(engine.payload_size):
        engine.filler[index] = <uint8_t> (97 + index % 26)
    for index in range(engine.connection_count):
        engine.connections[index].fd = -1
        engine.connections[index].index = index
    lay_flows(engine, plan, traffic, kept)
    lay_lanes(engine, plan, traffic)
    return 0


cdef void free_engine(Engine *engine) noexcept:
    cdef Connection *connection
    cdef uint32_t index
    cdef uint32_t lane
    if engine.connections != NULL:
        for index in range(engine.connection_count):
            connection = &engine.connections[index]
            if connection.fd >= 0:
                wire_close(&engine.wires, &connection.wire)
                close(connection.fd)
            if connection.lanes != NULL:
                for lane in range(connection.flow_count):
                    release_lane(&connection.lanes[lane])
            free(connection.lanes)
            free(connection.releases)
            free(connection.out.data)
            free(connection.fragment.data)
    if engine.flows != NULL:
        for index in range(engine.flow_count):
            free(engine.flows[index].outstanding)
            free(engine.flows[index].handshakes)
            release_sightings(&engine.flows[index].sightings)
    if engine.epoll >= 0:
        close(engine.epoll)
    free(engine.connections)
    free(engine.flows)
    free(engine.dirty)
    free(engine.input)
    free(engine.output)
    free(engine.filler)
    free(engine)


cdef int lay_flows(Engine *engine, plan, traffic, list kept) except -1:
    """One flow per client that publishes; clients with the same list of topics share its heads."""
    cdef Flow *flow
    cdef uint32_t index
    cdef uint32_t flow_index = 0
    cdef bytes heads
    cdef dict known = {}
    cdef bytes properties = PUBLISH_PROPERTIES if traffic.has_properties else b""
    for index, client in enumerate(plan.clients):
        if not client.topics:
            continue
        flow = &engine.flows[flow_index]
        flow_index += 1
        # Retaining is not what is measured: QoS 1 tells when the broker has it.
        flow.qos = 1 if client.is_retaining else traffic.qos
        key = (id(client.topics), flow.qos, client.is_retaining)
        if key not in known:
            parts = [
                encode_publish_head(
                    topic,
                    version=engine.version,
                    qos=flow.qos,
                    retain=client.is_retaining,
                    payload_size=engine.payload_size,
                    properties=properties,
                )
                for topic in client.topics
            ]
            if len({len(part) for part in parts}) != 1:
                raise ValueError("the topics of a client differ in length")
            known[key] = b"".join(parts)
            kept.append(known[key])
        heads = known[key]
        flow.heads = <const uint8_t *> heads
        flow.topic_count = len(client.topics)
        flow.head_size = len(heads) // flow.topic_count
        if flow.qos:
            flow.packet_id_offset = flow.head_size - 2 - (engine.version == 5) - len(properties)
            # Twice the window: the broker may deliver a message before it acknowledges it.
            window = 0 if client.is_retaining else traffic.window
            flow.handshake_count = min(65535, max(16, 2 * window)) if window else HANDSHAKE_LIMIT
            flow.handshakes = <uint8_t *> calloc(flow.handshake_count, 1)
            if flow.handshakes == NULL:
                raise MemoryError
        flow.is_parted = plan.is_parted or client.is_retaining
        flow.is_random = flow.topic_count > 1 and not client.is_retaining
        flow.is_timed = not client.is_retaining
        flow.receivers = 1 if plan.is_parted else 0
        flow.publisher = &engine.connections[index]
        flow.publisher.flow = flow
        if client.is_retaining:
            engine.first_open_flow = flow_index
    return 0


cdef int lay_wires(Engine *engine, traffic, list kept) except -1:
    """What MQTT is carried by."""
    cdef Wires *wires = &engine.wires
    cdef bytes request
    if traffic.transport is Transport.TLS:
        context = client_context(traffic.groups)
        kept.append(context)
        addresses = function_addresses()
        wires.kind = WIRE_TLS
        wires.context = <void *> <size_t> address_of_context(context)
        # As integers: Cython has no other way from a Python number to a pointer to a function.
        (<size_t *> &wires.library.new)[0] = addresses["new"]
        (<size_t *> &wires.library.set_descriptor)[0] = addresses["set_descriptor"]
        (<size_t *> &wires.library.set_connect_state)[0] = addresses["set_connect_state"]
        (<size_t *> &wires.library.read)[0] = addresses["read"]
        (<size_t *> &wires.library.write)[0] = addresses["write"]
        (<size_t *> &wires.library.get_error)[0] = addresses["get_error"]
        (<size_t *> &wires.library.free)[0] = addresses["free"]
        (<size_t *> &wires.library.clear_errors)[0] = addresses["clear_errors"]
    elif traffic.transport is Transport.WEBSOCKET:
        request = UPGRADE_REQUEST
        kept.append(request)
        wires.kind = WIRE_WEBSOCKET
        wires.request = request
        wires.request_size = len(request)
    return 0


cdef int lay_lanes(Engine *engine, plan, traffic) except -1:
    """One lane per client and flow that it receives."""
    cdef Connection *connection
    cdef Flow *flow
    cdef uint32_t index
    cdef uint64_t slots = 1
    for index, client in enumerate(plan.clients):
        connection = &engine.connections[index]
        connection.first_flow = client.receives.start
        connection.flow_count = len(client.receives)
        connection.first_topic = client.owns.start
        connection.topic_count = len(client.owns)
        connection.publish_bits = traffic.qos << 1 | client.is_fetching
        if connection.flow_count == 0:
            continue
        if client.receives.stop > engine.flow_count or client.receives.start < 0:
            raise ValueError(f"client {index} receives flows {client.receives}, there are {engine.flow_count}")
        connection.lanes = <Lane *> calloc(connection.flow_count, sizeof(Lane))
        if connection.lanes == NULL:
            raise MemoryError
        if not plan.is_parted and not client.is_fetching:
            for flow_index in client.receives:
                engine.flows[flow_index].receivers += 1
    while slots < engine.window:
        slots *= 2
    for index in range(engine.flow_count):
        flow = &engine.flows[index]
        if engine.window and flow.receivers > 1:
            flow.outstanding = <uint32_t *> calloc(slots, sizeof(uint32_t))
            if flow.outstanding == NULL:
                raise MemoryError
            flow.outstanding_mask = slots - 1
    return 0
