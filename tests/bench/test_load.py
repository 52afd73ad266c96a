"""The generator against mosquitto, in fractions of a second: every shape, every QoS, both versions."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from rookery.bench import plan
from rookery.bench.brokers import Broker
from rookery.bench.load import Load
from rookery.bench.outcome import Counts, LoadError
from rookery.bench.plan import Plan, Traffic

SHAPES: dict[str, Callable[..., Plan]] = {
    "pairs": partial(plan.pairs, 5),
    "fan-out": partial(plan.fan_out, 20),
    "fan-in": partial(plan.fan_in, 5),
    "shared": partial(plan.shared, 4, 3),
    "filters": partial(plan.filters, 3, 4, 50),
    "trickle": partial(plan.trickle, 8, bystanders=3),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])
versions = pytest.mark.parametrize("version", [4, 5], ids=["3.1.1", "5.0"])


@contextlib.contextmanager
def connected(peer: Broker, whole: Plan, traffic: Traffic) -> Iterator[Load]:
    """A load whose clients are connected and subscribed."""
    load = Load(peer.host, peer.port, whole, traffic)
    try:
        load.connect()
        load.subscribe()
        yield load
    finally:
        load.close()


def measured_until(load: Load, is_so: Callable[[Counts], bool]) -> Counts:
    """What happened from now on, for 0.2 s or until it is so: peer and generator may have to wait for their CPUs."""
    before = load.mark()
    for _ in range(100):
        load.run(0.2)
        interval = load.counts.since(before)
        if is_so(interval):
            return interval
    raise AssertionError(f"not within 20 s: {interval}")


@shapes
@every_qos
@versions
def test_a_number_of_messages_arrives_whole(
    peer: Broker, unique: str, shape: Callable[..., Plan], qos: int, version: int
) -> None:
    whole = shape(prefix=unique)
    traffic = Traffic(qos=qos, version=version, window=10, client_id_prefix=unique)
    with connected(peer, whole, traffic) as load:
        load.start(messages=200)
        load.publish_all()
        assert load.drain()
        load.check()
        copies = 1 if whole.is_parted else max(len(whole.receivers) // whole.flow_count, 1)
        copies = 1 if shape is SHAPES["trickle"] else copies
        assert load.counts.sent == 200 * whole.flow_count
        assert load.counts.delivered == load.counts.due == load.counts.sent * copies


@every_qos
def test_messages_arrive_whole_with_properties(peer: Broker, unique: str, qos: int) -> None:
    traffic = Traffic(qos=qos, version=5, has_properties=True, window=10, client_id_prefix=unique)
    with connected(peer, plan.pairs(3, prefix=unique), traffic) as load:
        load.start(messages=200)
        load.publish_all()
        assert load.drain()
        load.check()
        assert load.counts.delivered == load.counts.sent == 600


@shapes
@every_qos
def test_a_stretch_of_time_arrives_whole(peer: Broker, unique: str, shape: Callable[..., Plan], qos: int) -> None:
    with connected(peer, shape(prefix=unique), Traffic(qos=qos, window=10, client_id_prefix=unique)) as load:
        load.start()
        load.run(0.02)
        measured_until(load, lambda interval: interval.delivered > 0)
        load.stop()
        assert load.drain()
        load.check()
        assert 0 < load.latency_ns(50) <= load.latency_ns(99) <= load.latency_ns(100)


@every_qos
@versions
def test_publishers_without_a_window_lose_nothing(peer: Broker, unique: str, qos: int, version: int) -> None:
    traffic = Traffic(qos=qos, version=version, window=0, client_id_prefix=unique)
    with connected(peer, plan.pairs(2, prefix=unique), traffic) as load:
        load.start(messages=5000)
        load.publish_all()
        assert load.drain()
        load.check()
        assert load.counts.delivered == 10_000


@every_qos
def test_an_open_loop_sends_at_its_rate(peer: Broker, unique: str, qos: int) -> None:
    traffic = Traffic(qos=qos, window=0, client_id_prefix=unique)
    with connected(peer, plan.trickle(4, prefix=unique), traffic) as load:
        load.start(rate=1000)
        # One per millisecond; what is due at the very end is missing while this process waits for its CPU.
        interval = measured_until(load, lambda interval: interval.sent > interval.time_ns / 1e6 - 50)
        load.stop()
        assert load.drain()
        load.check()
        assert interval.time_ns >= 200e6
        assert interval.sent < interval.time_ns / 1e6 + 2


@pytest.mark.parametrize("payload_size", [24, 25, 100, 16 * 1024, 200_000])
@every_qos
def test_payloads_of_all_sizes_arrive_whole(peer: Broker, unique: str, payload_size: int, qos: int) -> None:
    traffic = Traffic(qos=qos, payload_size=payload_size, window=4, client_id_prefix=unique)
    with connected(peer, plan.pairs(2, prefix=unique), traffic) as load:
        load.start(messages=70)
        load.publish_all()
        assert load.drain()
        load.check()
        assert load.counts.delivered == 140


@versions
def test_queued_messages_are_replayed_to_sessions_that_come_back(peer: Broker, unique: str, version: int) -> None:
    whole = plan.pairs(3, prefix=unique)
    load = Load(peer.host, peer.port, whole, Traffic(qos=1, version=version, window=0, client_id_prefix=unique))
    load.connect(whole.receivers, is_clean=False)
    load.subscribe(whole.receivers)
    load.disconnect(whole.receivers)
    load.connect(whole.publishers)
    load.start(messages=100)
    load.publish_all()
    load.stop()
    assert load.counts.delivered == 0
    load.connect(whole.receivers, is_clean=False)
    assert load.drain()
    load.check()
    assert load.counts.delivered == 300
    load.disconnect(whole.receivers)
    load.connect(whole.receivers)
    load.close()


@versions
def test_retained_messages_are_fetched_whole_again_and_again(peer: Broker, unique: str, version: int) -> None:
    whole = plan.retained(300, 2, prefix=unique)
    with connected(peer, whole, Traffic(version=version, window=0, client_id_prefix=unique)) as load:
        load.retain()
        load.start(rate=1000)
        load.mark()
        assert load.fetch() > 0
        assert load.fetch() > 0
        load.run(0.02)
        load.stop()
        assert load.drain()
        load.check()
        assert load.counts.delivered >= 600
        assert 0 < load.latency_count <= load.counts.delivered - 600
        load.forget_retained()


def test_forgotten_retained_messages_come_no_more(peer: Broker, unique: str) -> None:
    with connected(peer, plan.retained(10, 1, prefix=unique), Traffic(client_id_prefix=unique)) as load:
        load.retain()
        load.forget_retained()
        with pytest.raises(LoadError, match="10 of 10 retained messages did not come"):
            load.fetch(timeout_s=0.1)


@versions
def test_connections_come_and_go_while_churning(peer: Broker, unique: str, version: int) -> None:
    traffic = Traffic(version=version, client_id_prefix=unique, sources=2)
    load = Load(peer.host, peer.port, plan.idle(8, prefix=unique), traffic)
    before = load.mark()
    load.churn(0.05, in_flight=8)
    load.churn(0.05, in_flight=8)
    connects = load.counts.since(before).connects
    load.close()
    assert connects > 16
    assert load.latency_count == connects
    assert load.latency_ns(50) > 0


def test_idle_clients_are_kept_alive_by_pings(peer: Broker, unique: str) -> None:
    with connected(peer, plan.idle(5, prefix=unique), Traffic(keep_alive_s=60, client_id_prefix=unique)) as load:
        load.ping(500)
        load.run(0.1)
        load.ping(0)
        assert load.drain()
        load.check()
        # Each of them more than once, however late this process gets its CPU.
        assert load.counts.pings > 5


def test_clients_come_from_several_source_addresses(peer: Broker, unique: str) -> None:
    traffic = Traffic(client_id_prefix=unique, sources=3)
    with connected(peer, plan.pairs(3, prefix=unique), traffic) as load:
        load.start(messages=10)
        load.publish_all()
        assert load.drain()
        load.check()


def test_nobody_listening_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    load = Load("127.0.0.1", port, plan.idle(1, prefix=""), Traffic())
    with pytest.raises(LoadError, match="client 0: cannot connect: Connection refused"):
        load.connect()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (Traffic(payload_size=23), "the stamp takes 24"),
        (Traffic(version=3), "protocol version 3"),
        (Traffic(qos=3), "QoS 3"),
    ],
)
def test_traffic_that_cannot_be_is_refused(wrong: Traffic, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Load("127.0.0.1", 1, plan.pairs(1, prefix=""), wrong)


def test_a_plan_without_publishers_cannot_start() -> None:
    with pytest.raises(ValueError, match="publishes nothing"):
        Load("127.0.0.1", 1, plan.idle(1, prefix=""), Traffic()).start()
