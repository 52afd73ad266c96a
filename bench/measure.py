"""One run: a scenario against one broker, from the first connection to the check of the books.

Every method follows the same line: prepare, warm up, mark, measure for some seconds, stop, wait for what is still on
its way, check. Rates and CPU are those of the measured seconds; latency is that of the messages sent in them.
"""

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .brokers import Broker, waited_ns
from .load import Load
from .plan import Plan, Traffic
from .plan import pairs as pairs_plan
from .reflector import Reflector
from .scenarios import Method, Scenario

# Descriptors of a process that are no connections: log, epoll, listeners, and what Python keeps open.
SPARE_DESCRIPTORS = 200
# Connections from one source address: the kernel has 28 000 ports for them.
CONNECTIONS_PER_SOURCE = 20_000
TOPIC_PREFIX = "load"


@dataclass(frozen=True)
class Figures:
    """What one run yields; None is what this method or this broker cannot tell."""

    # Messages delivered, or connections made, per second.
    rate: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None
    # CPU time of the broker per message delivered or connection made.
    cpu_us: float | None = None
    # The same as a share of one CPU.
    cpu_percent: float | None = None
    # Resident memory of the broker per idle connection, and how many there were.
    connection_bytes: float | None = None
    connections: int | None = None
    # Resident memory of the broker at the end of the measured seconds.
    resident_bytes: float | None = None
    # Time that the generator did not wait for the broker: near 100 it is the generator that is measured.
    load_percent: float | None = None
    # Time that the broker, and the generator, were ready to run and others had their CPU: disturbance from outside.
    broker_wait_percent: float | None = None
    load_wait_percent: float | None = None
    # QoS 1 messages that came twice with DUP, which is allowed.
    redelivered: int | None = None


@dataclass(frozen=True)
class Times:
    """How long a run is."""

    seconds: float = 3.0
    warm_up_s: float = 1.0
    # A broker that is this long silent has lost what is still missing.
    silence_s: float = 5.0
    # Even a broker with a long queue has to be through with it by then.
    drain_s: float = 120.0


def measure(
    scenario: Scenario, broker: Broker, times: Times, *, username: str | None = None, password: str | None = None
) -> Figures:
    """Run a scenario once; raises LoadError if it cannot go on and InvalidRun if messages were lost or doubled."""
    traffic = replace(scenario.traffic, username=username, password=password)
    plan: Plan = scenario.plan(prefix=TOPIC_PREFIX)
    return _METHODS[scenario.method](scenario, plan, traffic, broker, times)


def connection_room() -> int:
    """How many connections a process of this user may have, the generator as well as a broker that it starts."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - SPARE_DESCRIPTORS


class _Meter:
    """The interval that is measured: it begins at the mark and ends with `figures`."""

    def __init__(self, load: Load, broker: Broker) -> None:
        self.load = load
        self.broker = broker
        self.cpu_ns = broker.cpu_ns()
        self.broker_waited_ns = broker.waited_ns()
        self.load_waited_ns = waited_ns(os.getpid())
        self.before = load.mark()

    def figures(self, events: int | None = None, seconds: float | None = None) -> Figures:
        """Rates since the mark; events are deliveries unless given, seconds all that passed unless given."""
        interval = self.load.counts.since(self.before)
        cpu_ns = self.broker.cpu_ns()
        broker_waited_ns = self.broker.waited_ns()
        load_waited_ns = waited_ns(os.getpid())
        elapsed = interval.time_ns / 1e9
        count = interval.delivered if events is None else events
        used_ns = cpu_ns - self.cpu_ns if cpu_ns is not None and self.cpu_ns is not None else None
        return Figures(
            rate=count / (elapsed if seconds is None else seconds),
            cpu_us=used_ns / 1e3 / count if used_ns is not None and count else None,
            cpu_percent=100 * used_ns / interval.time_ns if used_ns is not None else None,
            resident_bytes=self.broker.resident_bytes(),
            load_percent=100 * (1 - interval.idle_ns / interval.time_ns),
            broker_wait_percent=100 * (broker_waited_ns - self.broker_waited_ns) / interval.time_ns
            if broker_waited_ns is not None and self.broker_waited_ns is not None
            else None,
            load_wait_percent=100 * (load_waited_ns - self.load_waited_ns) / interval.time_ns,
            redelivered=interval.redelivered,
        )


@contextlib.contextmanager
def _load(broker: Broker, plan: Plan, traffic: Traffic) -> Iterator[Load]:
    load = Load(broker.host, broker.port_of(traffic.transport), plan, traffic)
    try:
        yield load
    finally:
        load.close()


def _with_latency(figures: Figures, load: Load) -> Figures:
    if not load.latency_count:
        return figures
    return replace(
        figures,
        p50_ms=load.latency_ns(50) / 1e6,
        p99_ms=load.latency_ns(99) / 1e6,
        p999_ms=load.latency_ns(99.9) / 1e6,
        max_ms=load.latency_ns(100) / 1e6,
    )


def _finish(load: Load, times: Times) -> None:
    """Publish nothing more, wait for the last message, and see whether all is well."""
    load.stop()
    load.drain(silence_s=times.silence_s, timeout_s=times.drain_s)
    load.check()


def _stream(scenario: Scenario, plan: Plan, traffic: Traffic, broker: Broker, times: Times) -> Figures:
    """Publish all the time, closed or open loop."""
    with _load(broker, plan, traffic) as load:
        load.connect()
        load.subscribe()
        load.start(rate=scenario.rate)
        load.run(times.warm_up_s)
        meter = _Meter(load, broker)
        load.run(times.seconds)
        figures = meter.figures()
        _finish(load, times)
        return _with_latency(figures, load)


def _replay(scenario: Scenario, plan: Plan, traffic: Traffic, broker: Broker, times: Times) -> Figures:
    """Fill the persistent sessions of absent subscribers, then let them all come back at once."""
    # Without a window: what bounds the publishers is the broker's acknowledgements, nobody receives.
    with _load(broker, plan, replace(traffic, window=0)) as load:
        load.connect(plan.receivers, is_clean=False)
        load.subscribe(plan.receivers)
        load.disconnect(plan.receivers)
        load.connect(plan.publishers)
        load.start(messages=scenario.messages)
        load.publish_all(timeout_s=times.drain_s)
        load.stop()
        meter = _Meter(load, broker)
        load.connect(plan.receivers, is_clean=False, in_flight=len(plan.receivers))
        load.drain(silence_s=times.silence_s, timeout_s=times.drain_s)
        figures = meter.figures()
        load.check()
        # Clean sessions replace the persistent ones, for a broker that lives on.
        load.disconnect(plan.receivers)
        load.connect(plan.receivers)
        return figures


def _retained(scenario: Scenario, plan: Plan, traffic: Traffic, broker: Broker, times: Times) -> Figures:
    """Fetch all retained messages again and again while others trickle on; the latency is theirs."""
    with _load(broker, plan, traffic) as load:
        load.connect()
        load.subscribe()
        load.retain()
        topics = len(plan.clients[1].topics)
        load.start(rate=scenario.rate)
        load.run(times.warm_up_s)
        meter = _Meter(load, broker)
        fetched, spent_s = 0, 0.0
        while spent_s < times.seconds:
            spent_s += load.fetch(timeout_s=times.drain_s)
            fetched += topics
        figures = meter.figures(events=fetched, seconds=spent_s)
        _finish(load, times)
        load.forget_retained()
        return _with_latency(figures, load)


def _idle(scenario: Scenario, plan: Plan, traffic: Traffic, broker: Broker, times: Times) -> Figures:
    """Connect clients that do nothing but keep alive; as many as the limit of open files allows."""
    count = min(len(plan.clients), connection_room())
    sources = 1 + count // CONNECTIONS_PER_SOURCE
    with _load(broker, Plan(plan.clients[:count]), replace(traffic, sources=sources)) as load:
        # What a broker allocates once is not counted.
        load.connect(range(1))
        before = broker.resident_bytes()
        load.connect()
        after = broker.resident_bytes()
        load.ping(count / traffic.keep_alive_s)
        meter = _Meter(load, broker)
        load.run(times.seconds)
        figures = meter.figures(events=0)
        load.ping(0)
        load.drain(silence_s=times.silence_s, timeout_s=times.drain_s)
        load.check()
        return replace(
            figures,
            rate=None,
            connection_bytes=(after - before) / (count - 1) if after is not None and before is not None else None,
            connections=count,
        )


def _connects(scenario: Scenario, plan: Plan, traffic: Traffic, broker: Broker, times: Times) -> Figures:
    """Connect and disconnect all the time; the latency is that from connect() to CONNACK."""
    with _load(broker, plan, traffic) as load:
        in_flight = len(plan.clients)
        load.churn(times.warm_up_s, in_flight=in_flight)
        meter = _Meter(load, broker)
        load.churn(times.seconds, in_flight=in_flight)
        return _with_latency(meter.figures(events=load.counts.since(meter.before).connects), load)


_METHODS: dict[Method, Callable[[Scenario, Plan, Traffic, Broker, Times], Figures]] = {
    Method.STREAM: _stream,
    Method.REPLAY: _replay,
    Method.RETAINED: _retained,
    Method.IDLE: _idle,
    Method.CONNECTS: _connects,
}


def measure_ceiling(pairs: int, traffic: Traffic, times: Times, *, cpu: int | None) -> Figures:
    """What the generator reaches against a peer that only copies bytes, on another CPU."""
    with Reflector(pairs, cpu=cpu) as reflector:
        broker = Broker("reflector", "127.0.0.1", reflector.port)
        with _load(broker, pairs_plan(pairs, prefix=TOPIC_PREFIX), traffic) as load:
            load.connect()
            load.subscribe()
            load.start()
            load.run(times.warm_up_s)
            meter = _Meter(load, broker)
            load.run(times.seconds)
            figures = meter.figures()
            _finish(load, times)
            return _with_latency(figures, load)
