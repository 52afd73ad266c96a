"""The load generator: many MQTT clients on one thread that cost far less than the broker they talk to.

How it stays cheap
- One epoll, level-triggered. A turn takes what is ready, reads each ready socket once with one large recv, walks the
  packets where they lie, and at its end writes once to each connection that has something to say.
- New messages are built in one buffer that all connections share. It is laid out as slots of one packet each, whose
  payload is filled in beforehand: a message costs the copy of its head (topic) and a stamp of 24 bytes.
- What must be said to the broker in between (acknowledgements) gathers in a small buffer per connection and goes out
  in front of the messages, in the same send.
- The clock is read once per recv and once per send, not per message.
- It polls for a moment before it sleeps, so that a broker does not pay for waking it up.
- No Python object and no GIL from `run` to its return.

How it stays honest
- Each message carries who sent it, its number, and when it was sent: in an open loop the moment at which it was *due*,
  however late the socket took it. Latency counts all messages sent after the mark, also those that arrive after
  publishing has stopped.
- Every subscriber keeps books (see ledger.pxd). A run in which anything was lost, doubled or reordered has no result.
- One message in 64 is compared byte for byte.
- In a closed loop a flow has at most `window` messages on their way: sent, and not yet received by all its receivers.

A turn of a closed loop:

    epoll_wait -> recv (subscriber) -> books, credit for the flow, acknowledgement -> publisher is dirty
               -> recv (publisher)  -> its handshake goes on, packet identifiers become free -> publisher is dirty
    flush every dirty connection: acknowledgements + as many new messages as credit and packet identifiers allow
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from rookery.bench.histogram cimport Histogram
from rookery.bench.ledger cimport Lane, Sightings, Tally
from rookery.bench.sockets cimport sockaddr_in
from rookery.bench.wire cimport Wire, Wires


cdef enum:
    # One recv: a saturated connection of small messages costs one call per 800 of them.
    INPUT_BYTES = 64 * 1024
    # One send of new messages, and what is walked of a recv before the credit that it brought is used. Smaller than a
    # recv, so that broker and generator work at the same time also with one pair: against a peer that only copies,
    # window 1000, 16 KiB reach 40 % more than 64 KiB.
    OUTPUT_BYTES = 16 * 1024
    # What bounds a publisher without a window. The kernel would let it grow to 4 MiB, and a slow broker then takes
    # a minute for what is in the sockets when publishing stops.
    SEND_BUFFER_BYTES = 256 * 1024
    # Acknowledgements that go out in front of new messages.
    PREFIX_BYTES = 16 * 1024
    EVENT_LIMIT = 512
    # One message in so many is compared byte for byte (a mask).
    SAMPLE_MASK = 63
    # An open loop does not sleep when the next message is due sooner than this: waking up costs up to 0.1 ms.
    SPIN_NS = 2000000
    # A generator that sleeps must be woken, at the cost of the broker's CPU and of its latency: it polls so long first.
    POLL_NS = 100000
    # Packet identifiers a publisher without a window has in use at once.
    HANDSHAKE_LIMIT = 16384


cdef enum:
    STAMP_BYTES = 24


cdef enum ConnectionState:
    CLOSED
    GREETING            # from connect() to CONNACK
    READY
    LEAVING             # DISCONNECT sent, the broker's FIN awaited


cdef enum HandshakeState:
    FREE
    AWAIT_PUBACK
    AWAIT_PUBREC
    AWAIT_PUBCOMP


cdef enum Fault:
    NO_FAULT
    CANNOT_CONNECT      # detail: errno
    CLOSED_BY_BROKER    # detail: errno, or 0 for an orderly end
    CONNECT_REFUSED     # detail: return or reason code
    SUBSCRIBE_REFUSED   # detail: return or reason code
    PUBLISH_REFUSED     # detail: reason code
    DISCONNECTED        # detail: reason code of the broker's DISCONNECT (5.0)
    BAD_PACKET          # detail: first byte
    PACKET_TOO_LARGE    # detail: size
    OUT_OF_MEMORY


cdef enum Goal:
    NONE                # until the time is up
    CONNECTED           # every client that was asked to
    SUBSCRIBED          # every SUBACK is here
    PUBLISHED           # every flow has reached its limit, all handshakes are complete
    DRAINED             # every message arrived, all handshakes are complete, all pings answered
    GONE                # every client that was asked to leave has left
    FETCHED             # every retained message is here
    ANSWERED            # every PINGRESP is here


cdef struct Stamp:          # the first bytes of each payload; never leaves the machine, so in its byte order
    uint32_t magic
    uint32_t flow
    uint64_t sequence
    uint64_t sent_ns        # CLOCK_MONOTONIC


cdef struct Buffer:
    uint8_t *data       # owned; NULL until first used
    uint32_t start      # first byte that is still to be taken
    uint32_t end        # one past the last
    uint32_t capacity


cdef struct Flow:
    Connection *publisher       # borrowed
    const uint8_t *heads        # PUBLISH packets up to their payloads, head_size each, one per topic; owned by Load
    uint32_t head_size
    uint32_t topic_count
    uint32_t packet_id_offset   # within a head; 0 at QoS 0
    uint32_t receivers          # clients that get each message; 1 if the flow is parted; 0 if it is only retained
    bint is_parted              # each message goes to one of several
    bint is_random              # topic by a hash of the sequence number, else in turn
    bint is_open_loop
    bint is_timed               # its messages count for the latency
    uint8_t qos
    uint64_t sent               # messages so far, and so the next sequence number
    uint64_t limit              # stop at this number
    uint64_t scheduled          # open loop: messages that were due so far
    uint64_t schedule_offset    # open loop: number of its first message in the schedule of all flows
    uint64_t schedule_base      # open loop: sent when the schedule began
    uint64_t completed          # closed loop: received by all receivers; the window counts from here
    uint32_t *outstanding       # ring over the window: receivers that still miss this message; owned, several receivers
    uint64_t outstanding_mask
    Sightings sightings         # if is_parted
    uint8_t *handshakes         # state per packet identifier minus 1; owned; NULL at QoS 0
    uint32_t handshake_count    # packet identifiers it uses
    uint32_t handshakes_open    # of these not FREE
    uint32_t next_handshake     # index of the next packet identifier


cdef struct Connection:
    int fd                      # -1 if there is none
    Wire wire
    uint32_t index
    ConnectionState state
    bint is_dirty               # on the list that the end of the turn flushes
    bint is_blocked             # the kernel took less than we had; EPOLLOUT tells when to go on
    bint is_wanted              # the current connect or leave order is about this one
    Buffer out                  # acknowledgements, and what the kernel did not take
    Buffer fragment             # start of a packet whose rest is still to come
    Flow *flow                  # what it publishes; NULL if nothing; borrowed
    uint16_t receive_maximum    # of the broker, from CONNACK
    uint32_t first_flow         # flows it receives
    uint32_t flow_count
    Lane *lanes                 # one per flow it receives; owned
    uint32_t first_topic        # topics of parted flows that it gets
    uint32_t topic_count        # 0: any
    uint8_t publish_bits        # QoS and retain flag that its messages must have
    uint8_t *releases           # QoS 2: bit per packet identifier for which PUBREL is awaited; owned
    uint32_t releases_open
    uint32_t subacks_due
    uint64_t started_ns         # connect rate: when this connection was begun


cdef struct Engine:
    int epoll
    int version                 # 4 or 5
    sockaddr_in address
    Wires wires
    uint32_t source_count       # connections start from 127.0.0.1 to 127.0.0.source_count; 0: kernel's choice
    uint32_t magic              # of this run, so that a message of another is recognised
    uint32_t payload_size
    uint64_t window             # 0: no bound

    Connection *connections
    uint32_t connection_count
    Flow *flows
    uint32_t flow_count
    Connection **dirty
    uint32_t dirty_count

    uint8_t *input
    size_t input_capacity
    uint8_t *output             # PREFIX_BYTES, then slots
    size_t output_capacity      # of the slots, bytes
    uint32_t slot_size          # packet for which the slots are laid out; 0: none
    uint8_t *filler             # payload of every message behind its stamp

    const uint8_t *greeting     # CONNECT of the current order; borrowed
    uint32_t greeting_size
    uint32_t digits_offset      # of the client's number within it
    uint32_t cursor             # next connection to look at
    uint32_t in_flight_limit    # connections that are being made at once
    uint32_t in_flight
    uint32_t wanted             # connections that the order still waits for
    bint is_churning            # a connection that was accepted leaves, and another takes its place
    uint64_t next_number        # of a client, while churning

    bint is_publishing
    bint is_busy                # the last turn had something to do
    uint64_t busy_ns            # when that was
    double interval_ns          # open loop: between two messages of the schedule
    uint64_t schedule_ns        # when the schedule began
    uint64_t schedule_position  # messages of the schedule that were due so far
    uint32_t first_open_flow    # open loop flows are this one and those after it
    double ping_interval_ns     # 0: none
    uint64_t ping_ns            # when the pings began
    uint64_t ping_position

    uint64_t mark_ns            # messages sent before are not timed
    uint64_t last_receive_ns    # when something last arrived
    uint64_t sent               # messages
    uint64_t due                # deliveries that follow from them
    uint64_t delivered          # deliveries, each counted once
    uint64_t bytes_received
    uint64_t connects           # CONNACKs
    uint64_t pings              # PINGRESPs
    uint64_t pings_open
    uint64_t handshakes_open    # publishers' and subscribers'
    uint64_t subacks_due
    uint64_t receives           # calls of recv that brought something
    uint64_t sends
    uint64_t waits
    uint64_t idle_ns            # time spent waiting for the broker
    Histogram latency
    Tally tally

    Fault fault
    int fault_detail
    uint32_t fault_connection
