import os

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from rookery.bench.clients cimport DIGITS, hang_up, mark_dirty, now_ns, say, start_connection
from rookery.bench.histogram cimport clear, percentile
from rookery.bench.layout cimport free_engine, lay_engine, new_engine
from rookery.bench.ledger cimport Tally, forget
from rookery.bench.load_state cimport (
    ANSWERED, BAD_PACKET, CANNOT_CONNECT, CLOSED, CLOSED_BY_BROKER, CONNECT_REFUSED, CONNECTED, DISCONNECTED, DRAINED,
    FETCHED, GONE, LEAVING, NO_FAULT, NONE, PACKET_TOO_LARGE, PUBLISH_REFUSED, PUBLISHED, READY, SUBSCRIBE_REFUSED,
    SUBSCRIBED, Connection, Engine, Flow, Goal)
from rookery.bench.turns cimport run_until

from .outcome import Counts, InvalidRun, LoadError
from .packets import NUMBER_DIGITS, encode_connect, encode_publish_head, encode_subscribes

assert NUMBER_DIGITS == DIGITS

cdef const uint8_t *LEAVE = b"\xe0\x00"
cdef const uint8_t *PING = b"\xc0\x00"
cdef uint64_t UNLIMITED = <uint64_t> -1
# The GIL comes back so often, for signals.
cdef double SLICE_S = 0.2


cdef class Load:
    """The clients of a plan, connected to one broker, driven by the thread that calls the methods."""

    def __cinit__(self, str host, int port, plan, traffic):
        self.plan = plan
        self.traffic = traffic
        self.kept = []
        self.place = f"{host}:{port}"
        self.engine = new_engine()
        lay_engine(self.engine, host, port, plan, traffic, self.kept)

    def __dealloc__(self):
        if self.engine != NULL:
            free_engine(self.engine)

    # Orders: what the clients do before and after they publish.

    cdef int prepare(self, bint is_clean, uint32_t in_flight) except -1:
        """Lay out the CONNECT packet of an order."""
        cdef bytes greeting
        greeting, self.engine.digits_offset = encode_connect(
            version=self.traffic.version,
            client_id_prefix=self.traffic.client_id_prefix,
            keep_alive_s=self.traffic.keep_alive_s,
            clean=is_clean,
            username=self.traffic.username,
            password=self.traffic.password,
        )
        self.kept.append(greeting)
        self.engine.greeting = <const uint8_t *> greeting
        self.engine.greeting_size = len(greeting)
        self.engine.in_flight_limit = in_flight
        self.engine.cursor = 0
        return 0

    def connect(self, clients=None, *, bint is_clean=True, uint32_t in_flight=64, double timeout_s=60):
        cdef uint32_t index
        self.prepare(is_clean, in_flight)
        for index in self.chosen(clients):
            if self.engine.connections[index].state == CLOSED:
                self.engine.connections[index].is_wanted = True
                self.engine.wanted += 1
        if not self.pursue(CONNECTED, timeout_s):
            raise LoadError(f"{self.engine.wanted} clients got no CONNACK from {self.place} within {timeout_s:g} s")

    def disconnect(self, clients=None, *, double timeout_s=60):
        cdef uint32_t index
        cdef Connection *connection
        self.engine.cursor = self.engine.connection_count
        for index in self.chosen(clients):
            connection = &self.engine.connections[index]
            if connection.state == READY:
                connection.is_wanted = True
                connection.state = LEAVING
                self.engine.wanted += 1
                say(self.engine, connection, LEAVE, 2)
        if not self.pursue(GONE, timeout_s):
            raise LoadError(f"{self.place} did not close {self.engine.wanted} connections within {timeout_s:g} s")

    def subscribe(self, clients=None, *, double timeout_s=60):
        cdef uint32_t index
        for index in self.chosen(clients):
            if not self.plan.clients[index].is_fetching:
                self.send_subscribes(index)
        if not self.pursue(SUBSCRIBED, timeout_s):
            raise LoadError(f"{self.engine.subacks_due} SUBACKs missing from {self.place} after {timeout_s:g} s")

    def send_subscribes(self, uint32_t index):
        cdef bytes packet
        cdef Connection *connection = &self.engine.connections[index]
        for packet in encode_subscribes(
            self.plan.clients[index].topic_filters, version=self.engine.version, qos=self.traffic.qos
        ):
            connection.subacks_due += 1
            self.engine.subacks_due += 1
            say(self.engine, connection, packet, <uint32_t> len(packet))

    def retain(self, *, double timeout_s=120):
        cdef Flow *flow = self.retaining_flow()
        flow.limit = flow.topic_count
        self.engine.is_publishing = True
        mark_dirty(self.engine, flow.publisher)
        reached = self.pursue(PUBLISHED, timeout_s)
        self.engine.is_publishing = False
        if not reached:
            raise LoadError(f"{self.place} acknowledged not all retained messages within {timeout_s:g} s")

    def fetch(self, *, double timeout_s=60):
        cdef Flow *flow = self.retaining_flow()
        cdef uint32_t index
        for index, client in enumerate(self.plan.clients):
            if client.is_fetching:
                forget(&flow.sightings)
                self.engine.connections[index].lanes[0].expected = 0
                self.engine.due += flow.sent
                self.send_subscribes(index)
        started = now_ns()
        if not self.pursue(FETCHED, timeout_s):
            missing = self.engine.due - self.engine.delivered
            raise LoadError(f"{missing} of {flow.sent} retained messages did not come within {timeout_s:g} s")
        return (now_ns() - started) / 1e9

    def forget_retained(self, *, double timeout_s=60):
        cdef Flow *flow = self.retaining_flow()
        cdef bytes packet
        for topic in self.plan.clients[flow.publisher.index].topics:
            packet = encode_publish_head(topic, version=self.engine.version, qos=0, retain=True, payload_size=0)
            say(self.engine, flow.publisher, packet, <uint32_t> len(packet))
        say(self.engine, flow.publisher, PING, 2)
        self.engine.pings_open += 1
        if not self.pursue(ANSWERED, timeout_s):
            raise LoadError(f"{self.place} did not answer within {timeout_s:g} s")

    cdef Flow *retaining_flow(self) except NULL:
        if self.engine.first_open_flow == 0:
            raise ValueError("the plan retains nothing")
        return &self.engine.flows[self.engine.first_open_flow - 1]

    # The measured part.

    def start(self, *, double rate=0, messages=None):
        cdef Engine *engine = self.engine
        cdef uint32_t index
        cdef Flow *flow
        if engine.flow_count == engine.first_open_flow:
            raise ValueError("the plan publishes nothing")
        engine.is_publishing = True
        engine.interval_ns = 1e9 / rate if rate else 0
        engine.schedule_ns = now_ns()
        engine.schedule_position = 0
        for index in range(engine.first_open_flow, engine.flow_count):
            flow = &engine.flows[index]
            flow.limit = UNLIMITED if messages is None else flow.sent + messages
            flow.is_open_loop = rate > 0
            flow.scheduled = flow.schedule_base = flow.sent
            flow.schedule_offset = index - engine.first_open_flow
            mark_dirty(engine, flow.publisher)

    def run(self, double seconds):
        self.pursue(NONE, seconds)

    def publish_all(self, *, double timeout_s=60):
        if not self.pursue(PUBLISHED, timeout_s):
            raise LoadError(f"{self.engine.sent} messages were sent within {timeout_s:g} s, the rest was not taken")

    def stop(self):
        self.engine.is_publishing = False
        self.engine.interval_ns = 0

    def mark(self):
        clear(&self.engine.latency)
        self.engine.mark_ns = now_ns()
        return self.counts

    def drain(self, *, double silence_s=5, double timeout_s=60):
        cdef uint64_t deadline = now_ns() + <uint64_t> (timeout_s * 1e9)
        cdef uint64_t quiet_since = now_ns()
        cdef uint64_t received = self.engine.bytes_received
        while not self.pursue(DRAINED, 0.1):
            if self.engine.bytes_received != received:
                received = self.engine.bytes_received
                quiet_since = now_ns()
            if now_ns() > deadline or now_ns() - quiet_since > silence_s * 1e9:
                return False
        return True

    def ping(self, double per_second):
        self.engine.ping_interval_ns = 1e9 / per_second if per_second else 0
        self.engine.ping_ns = now_ns()
        self.engine.ping_position = 0

    def churn(self, double seconds, *, uint32_t in_flight=64):
        cdef uint32_t index
        cdef Engine *engine = self.engine
        self.prepare(True, in_flight)
        if not engine.is_churning:
            engine.is_churning = True
            for index in range(min(in_flight, engine.connection_count)):
                start_connection(engine, &engine.connections[index])
        self.pursue(NONE, seconds)

    def check(self):
        cdef Tally *tally = &self.engine.tally
        found = {
            "lost": self.engine.due - min(self.engine.due, self.engine.delivered),
            "doubled": tally.doubled,
            "out of order": tally.reordered,
            "damaged": tally.damaged,
            "at the wrong subscriber": tally.strays,
            "never sent": tally.invented,
            "with the wrong QoS or retain flag": tally.misgraded,
            "acknowledgements out of step": tally.handshakes,
            "handshakes unfinished": self.engine.handshakes_open,
            "pings unanswered": self.engine.pings_open,
        }
        problems = {name: count for name, count in found.items() if count}
        if problems:
            raise InvalidRun(problems, self.engine.delivered)

    # What was seen.

    @property
    def counts(self):
        return Counts(
            time_ns=now_ns(),
            sent=self.engine.sent,
            due=self.engine.due,
            delivered=self.engine.delivered,
            redelivered=self.engine.tally.redelivered,
            connects=self.engine.connects,
            pings=self.engine.pings,
            receives=self.engine.receives,
            sends=self.engine.sends,
            waits=self.engine.waits,
            idle_ns=self.engine.idle_ns,
            last_receive_ns=self.engine.last_receive_ns,
        )

    def latency_ns(self, double percent):
        return percentile(&self.engine.latency, percent)

    @property
    def latency_count(self):
        return self.engine.latency.count

    def close(self):
        cdef uint32_t index
        for index in range(self.engine.connection_count):
            hang_up(self.engine, &self.engine.connections[index])

    # Inside.

    def chosen(self, clients):
        return range(self.engine.connection_count) if clients is None else clients

    cdef bint pursue(self, Goal goal, double seconds) except *:
        """Run without the GIL until the goal is reached or the time is up; raises what went wrong."""
        cdef uint64_t end = now_ns() + <uint64_t> (seconds * 1e9)
        cdef uint64_t until
        cdef bint reached
        while True:
            until = min(end, now_ns() + <uint64_t> (SLICE_S * 1e9))
            with nogil:
                reached = run_until(self.engine, until, goal)
            self.raise_fault()
            PyErr_CheckSignals()
            if reached or until >= end:
                return reached

    cdef int raise_fault(self) except -1:
        cdef int detail = self.engine.fault_detail
        cdef object text
        if self.engine.fault == NO_FAULT:
            return 0
        if self.engine.fault == CANNOT_CONNECT:
            text = f"cannot connect: {os.strerror(detail)}"
        elif self.engine.fault == CLOSED_BY_BROKER:
            text = f"closed by the broker ({os.strerror(detail) if detail else 'end of stream'})"
        elif self.engine.fault == CONNECT_REFUSED:
            text = f"CONNECT refused with code 0x{detail:02X}"
        elif self.engine.fault == SUBSCRIBE_REFUSED:
            text = f"SUBSCRIBE answered with code 0x{detail:02X}"
        elif self.engine.fault == PUBLISH_REFUSED:
            text = f"PUBLISH refused with code 0x{detail:02X}"
        elif self.engine.fault == DISCONNECTED:
            text = f"DISCONNECT from the broker with code 0x{detail:02X}"
        elif self.engine.fault == BAD_PACKET:
            text = f"malformed or unexpected packet, first byte 0x{detail:02X}"
        elif self.engine.fault == PACKET_TOO_LARGE:
            text = f"packet of {detail} bytes, longer than any that was sent"
        else:
            text = "out of memory"
        raise LoadError(f"{self.place}, client {self.engine.fault_connection}: {text}")
