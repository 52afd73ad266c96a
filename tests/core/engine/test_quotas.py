"""Quotas of tenants: what happens at each limit, that it is counted and told, and that shadows refuse nothing."""

from typing import Any

import pytest

from rookery.core.notices import DropReason, NoticeKind
from rookery.core.quotas import RATES, RESOURCES, TOTALS, ResourceState
from rookery.core.settings import TenantSettings
from support.memory_broker import TENANT, Admitted, Broker, Client
from support.packets import MQTT_3_1_1, Publish, Subscription

from .conftest import MakeBroker

QUOTA_EXCEEDED = 0x97


def limit(broker: Broker, **limits: int) -> None:
    broker.engine.configure_tenant(TENANT, TenantSettings.from_names(limits))
    broker.settle()


def state(broker: Broker, name: str, tenant_id: str = TENANT) -> ResourceState:
    found = {resource.name: resource for resource in broker.engine.resources(tenant_id)}
    assert tuple(found) == RESOURCES
    return found[name]


def usage(broker: Broker, tenant_id: str = TENANT) -> dict[str, int | None]:
    return {resource.name: resource.usage for resource in broker.engine.resources(tenant_id)}


def connect_code(broker: Broker, client_id: str, **fields: Any) -> int:
    client = broker.open(fields.pop("version", 5))
    return client.connect(client_id=client_id, **fields).reason_code


def names(count: int, prefix: str) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


# What there is


def test_usage_follows_what_clients_do(make_broker: MakeBroker) -> None:
    broker = make_broker()
    transient = broker.connect("transient")
    persistent = broker.connect("persistent", session_expiry_interval=100)
    transient.subscribe("a", "b", "$share/g/c")
    persistent.subscribe("a", "$oshare/g/d")
    transient.publish("r/1", b"x", qos=1, retain=True)
    transient.publish("r/2", b"x", qos=1, retain=True)
    used = usage(broker)
    assert used["TotalConnections"] == 2
    assert used["TotalPersistentSessions"] == 1
    assert used["TotalTransientSubscriptions"] == 3
    assert used["TotalPersistentSubscriptions"] == 2
    assert used["TotalSharedSubscriptions"] == 2
    assert used["TotalRetainTopics"] == 2
    retained_bytes = used["TotalRetainMessageSpaceBytes"]
    assert retained_bytes
    assert used["TotalSessionMemoryBytes"] > used["TotalPersistentSessionSpaceBytes"] > 0  # type: ignore[operator]
    transient.unsubscribe("a", "$share/g/c")
    persistent.drop()
    transient.publish("r/1", b"", qos=1, retain=True)
    used = usage(broker)
    assert used["TotalConnections"] == 1
    assert used["TotalPersistentSessions"] == 1
    assert used["TotalTransientSubscriptions"] == 1
    assert used["TotalSharedSubscriptions"] == 1
    assert used["TotalRetainTopics"] == 1
    assert used["TotalRetainMessageSpaceBytes"] == retained_bytes // 2


def test_nothing_is_left_of_what_has_gone(make_broker: MakeBroker) -> None:
    broker = make_broker()
    keeper = broker.connect("keeper")
    before = usage(broker)
    for number in range(5):
        client = broker.connect(f"c{number}", session_expiry_interval=10)
        client.subscribe("a/#", "$share/g/a/b", qos=1)
        client.drop()
        keeper.publish("a/b", bytes(1000), qos=1, retain=True)
    keeper.publish("a/b", b"", qos=1, retain=True)
    broker.advance(100)
    assert usage(broker) == before


def test_messages_that_wait_are_counted_from_the_first_limit_on(make_broker: MakeBroker) -> None:
    broker = make_broker()
    reader = broker.connect("reader", session_expiry_interval=100)
    reader.subscribe("t", qos=1)
    reader.drop()
    writer = broker.connect("writer")
    writer.publish("t", bytes(10_000), qos=1)
    limit(broker, TotalSessionMemoryBytes=1_000_000)
    assert usage(broker)["TotalPersistentSessionSpaceBytes"] > 10_000  # type: ignore[operator]
    writer.publish("t", bytes(10_000), qos=1)
    assert usage(broker)["TotalPersistentSessionSpaceBytes"] > 20_000  # type: ignore[operator]


def test_an_unknown_tenant_has_nothing(make_broker: MakeBroker) -> None:
    states = make_broker().engine.resources("nobody")
    assert [resource.name for resource in states] == list(TOTALS + RATES)
    assert all(resource.usage in (0, None) and resource.limit == 0 for resource in states)


# Connections and sessions


@pytest.mark.parametrize("version", [5, MQTT_3_1_1])
def test_connections_beyond_the_total_are_refused(make_broker: MakeBroker, version: int) -> None:
    broker = make_broker()
    limit(broker, TotalConnections=3)
    clients = [broker.connect(name) for name in names(3, "c")]
    assert connect_code(broker, "late", version=version) == (QUOTA_EXCEEDED if version == 5 else 3)
    assert state(broker, "TotalConnections")[1:4] == (3, 3, 1)
    # Taking over a connection adds none.
    again = broker.connect("c0")
    assert again.is_open
    clients[1].disconnect()
    assert connect_code(broker, "late") == 0


def test_connects_per_second_are_limited(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalConnectPerSecond=4)
    codes = [connect_code(broker, name) for name in names(6, "c")]
    assert codes == [0, 0, 0, 0, QUOTA_EXCEEDED, QUOTA_EXCEEDED]
    broker.advance(1)
    assert connect_code(broker, "c9") == 0


def test_persistent_sessions_beyond_the_total_are_refused(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalPersistentSessions=2)
    for name in names(2, "p"):
        broker.connect(name, session_expiry_interval=100).drop()
    assert connect_code(broker, "p2", session_expiry_interval=100) == QUOTA_EXCEEDED
    assert connect_code(broker, "transient") == 0
    # Coming back is no new session.
    assert connect_code(broker, "p1", session_expiry_interval=100, clean_start=False) == 0


@pytest.mark.parametrize("name", ["TotalSessionMemoryBytes", "TotalPersistentSessionSpaceBytes"])
def test_full_memory_lets_no_session_in(make_broker: MakeBroker, name: str) -> None:
    broker = make_broker()
    limit(broker, **{name: 30_000})
    reader = broker.connect("reader", session_expiry_interval=100)
    reader.subscribe("t", qos=1)
    reader.drop()
    writer = broker.connect("writer")
    for _ in range(3):
        writer.publish("t", bytes(10_000), qos=1)
    assert connect_code(broker, "other", session_expiry_interval=100) == QUOTA_EXCEEDED
    assert state(broker, name).throttled == 1
    # What waits is delivered, and then there is room.
    if name == "TotalPersistentSessionSpaceBytes":
        reader = broker.connect("reader", session_expiry_interval=100, clean_start=False)
        assert len(reader.take_messages()) == 3
        reader.drop()
        assert connect_code(broker, "other", session_expiry_interval=100) == 0


# Subscriptions


def test_subscriptions_beyond_the_totals_are_refused(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalTransientSubscriptions=2, TotalPersistentSubscriptions=1, TotalSharedSubscriptions=1)
    transient = broker.connect("transient")
    persistent = broker.connect("persistent", session_expiry_interval=100)
    assert transient.subscribe("a", "$share/g/b", "c").reason_codes == (0, 0, QUOTA_EXCEEDED)
    # One that is there may be replaced.
    assert transient.subscribe("a", qos=1).reason_codes == (1,)
    assert persistent.subscribe("$share/h/b", "a", "b").reason_codes == (QUOTA_EXCEEDED, 0, QUOTA_EXCEEDED)
    old = broker.connect("old", version=MQTT_3_1_1)
    assert old.subscribe("a").reason_codes == (0x80,)
    transient.unsubscribe("a")
    assert old.subscribe("a").reason_codes == (0,)


@pytest.mark.parametrize("kind", ["Transient", "Persistent"])
def test_subscribes_and_unsubscribes_per_second_are_limited(make_broker: MakeBroker, kind: str) -> None:
    broker = make_broker()
    limit(broker, **{f"Total{kind}SubscribePerSecond": 3, f"Total{kind}UnsubscribePerSecond": 2})
    client = broker.connect("c", session_expiry_interval=100 if kind == "Persistent" else 0)
    assert client.subscribe(*"abcd").reason_codes == (0, 0, 0, QUOTA_EXCEEDED)
    assert client.unsubscribe(*"abc").reason_codes == (0, 0, 0x80)
    broker.advance(1)
    assert client.unsubscribe("c").reason_codes == (0,)


# Retained messages


def retain(client: Client, topic: str, payload: bytes) -> None:
    assert client.publish(topic, payload, qos=1, retain=True) in (0, 0x10)


def retained(broker: Broker) -> dict[str, bytes]:
    reader = broker.connect("reader")
    reader.subscribe("#")
    found = {message.topic: message.payload for message in reader.take_messages()}
    reader.disconnect()
    return found


def test_topics_beyond_the_total_are_delivered_and_not_retained(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalRetainTopics=2)
    live, writer = broker.connect("live"), broker.connect("writer")
    live.subscribe("#")
    for topic in "abc":
        retain(writer, topic, b"1")
    assert [message.topic for message in live.take_messages()] == ["a", "b", "c"]
    retain(writer, "b", b"2")
    assert retained(broker) == {"a": b"1", "b": b"2"}
    retain(writer, "a", b"")
    retain(writer, "c", b"3")
    assert retained(broker) == {"b": b"2", "c": b"3"}
    assert state(broker, "TotalRetainTopics")[1:4] == (2, 2, 1)


def test_bytes_beyond_the_total_are_not_retained(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalRetainMessageSpaceBytes=5000)
    writer = broker.connect("writer")
    retain(writer, "a", bytes(3000))
    retain(writer, "b", bytes(3000))
    assert list(retained(broker)) == ["a"]
    # Smaller than what it replaces.
    retain(writer, "a", bytes(2900))
    retain(writer, "c", bytes(1000))
    assert sorted(retained(broker)) == ["a", "c"]


@pytest.mark.parametrize(
    ("name", "per_second"), [("TotalRetainedMessagesPerSeconds", 2), ("TotalRetainedBytesPerSecond", 2500)]
)
def test_what_is_retained_per_second_is_limited(make_broker: MakeBroker, name: str, per_second: int) -> None:
    broker = make_broker()
    limit(broker, **{name: per_second})
    writer = broker.connect("writer")
    for topic in "abcd":
        retain(writer, topic, bytes(1000))
    assert sorted(retained(broker)) == ["a", "b"]
    broker.advance(1)
    retain(writer, "c", bytes(1000))
    assert sorted(retained(broker)) == ["a", "b", "c"]


def test_matches_of_retained_messages_per_second_are_limited(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalRetainMatchPerSeconds=2)
    reader = broker.connect("reader")
    subscriptions = (*(Subscription(topic) for topic in "abc"), Subscription("d", retain_handling=2))
    assert reader.subscribe(*subscriptions).reason_codes == (0, 0, QUOTA_EXCEEDED, 0)


def test_bytes_of_matched_retained_messages_per_second_are_limited(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalRetainMatchBytesPerSecond=1000)
    writer, reader = broker.connect("writer"), broker.connect("reader")
    retain(writer, "a", bytes(3000))
    assert reader.subscribe("a").reason_codes == (0,)
    assert len(reader.take_messages()) == 1
    assert reader.subscribe("b").reason_codes == (QUOTA_EXCEEDED,)
    broker.advance(3)
    assert reader.subscribe("b").reason_codes == (0,)


# Messages


def test_inbound_bytes_per_second_hold_back_reading(make_broker: MakeBroker) -> None:
    broker = make_broker()
    limit(broker, TotalInboundBytesPerSecond=10_000)
    reader = broker.connect("reader")
    reader.subscribe("t")
    writers = [broker.connect(name, keep_alive=10) for name in names(2, "w")]
    broker.advance(1)
    for writer in writers:
        writer.send(*(Publish(topic="t", payload=bytes(2000)) for _ in range(8)))
        writer.send(*(Publish(topic="t", payload=bytes(2000)) for _ in range(8)))
    early = len(reader.take_messages())
    assert early < 32
    for _ in range(200):
        broker.advance(0.05)
    assert early + len(reader.take_messages()) == 32
    assert all(writer.is_open for writer in writers)
    assert state(broker, "TotalInboundBytesPerSecond").throttled > 0


@pytest.mark.parametrize("kind", ["Transient", "Persistent"])
def test_fan_out_bytes_per_second_thin_a_publication_out(make_broker: MakeBroker, kind: str) -> None:
    broker = make_broker()
    notices = broker.observe(NoticeKind.MESSAGE_DROPPED)
    limit(broker, **{f"Total{kind}FanOutBytesPerSeconds": 3500})
    readers = [
        broker.connect(name, session_expiry_interval=100 if kind == "Persistent" else 0) for name in names(9, "r")
    ]
    for reader in readers:
        reader.subscribe("t")
    writer = broker.connect("writer")
    writer.publish("t", bytes(1000))
    first = sum(len(reader.take_messages()) for reader in readers)
    assert 3 <= first <= 3 + broker.engine.shard_count
    assert {notice.numbers[1] for notice in notices} == {DropReason.OUT_OF_RESOURCE}
    # The first of each shard is served whatever there is.
    writer.publish("t", bytes(1000))
    assert 1 <= sum(len(reader.take_messages()) for reader in readers) <= broker.engine.shard_count


# Telling, shadows, plugins


def test_what_is_refused_is_told_once_a_second(make_broker: MakeBroker) -> None:
    broker = make_broker()
    notices = broker.observe(NoticeKind.OUT_OF_RESOURCE)
    limit(broker, TotalTransientSubscriptions=1)
    client = broker.connect("c")
    client.subscribe(*"abcd")
    (notice,) = notices
    assert (notice.tenant_id, notice.client_id) == (TENANT, "c")
    assert notice.numbers == (RESOURCES.index("TotalTransientSubscriptions"), 1, 0, 1)
    assert broker.count("resources_throttled") == 3
    broker.advance(1.5)
    client.subscribe("e")
    assert [notice.numbers[3] for notice in notices] == [1, 4]


def test_a_shadow_only_counts(make_broker: MakeBroker) -> None:
    broker = make_broker()
    notices = broker.observe(NoticeKind.OUT_OF_RESOURCE)
    limit(broker, ShadowTotalConnections=1, ShadowTotalTransientSubscribePerSecond=2)
    clients = [broker.connect(name) for name in names(3, "c")]
    assert clients[0].subscribe(*"abcde").reason_codes == (0,) * 5
    assert state(broker, "TotalConnections") == ("TotalConnections", 3, 0, 0, 1, 2)
    assert state(broker, "TotalTransientSubscribePerSecond")[2:] == (0, 0, 2, 3)
    assert {notice.numbers[2] for notice in notices} == {1}
    assert broker.count("resources_throttled") == 0


def test_limits_change_and_go_while_clients_are_connected(make_broker: MakeBroker) -> None:
    broker = make_broker()
    clients = [broker.connect(name) for name in names(3, "c")]
    limit(broker, TotalConnections=3)
    assert connect_code(broker, "late") == QUOTA_EXCEEDED
    limit(broker)
    assert connect_code(broker, "late") == 0
    assert all(client.is_open for client in clients)


def test_quotas_of_everybody_hold_for_each_tenant_apart() -> None:
    broker = Broker(decide=lambda request: Admitted(request.username or TENANT), shard_count=2, total_connections=2)
    for tenant_id in ("one", "two"):
        codes = [connect_code(broker, name, username=tenant_id) for name in names(3, "c")]
        assert codes == [0, 0, QUOTA_EXCEEDED]
        assert state(broker, "TotalConnections", tenant_id).usage == 2
    broker.close()


def test_a_closed_resource_is_refused_until_it_is_opened(make_broker: MakeBroker) -> None:
    broker = make_broker()
    broker.engine.throttle(TENANT, ["TotalConnections", "TotalTransientSubscriptions"])
    broker.settle()
    assert connect_code(broker, "c") == QUOTA_EXCEEDED
    broker.engine.throttle(TENANT, ["TotalTransientSubscriptions"])
    broker.settle()
    client = broker.connect("c")
    assert client.subscribe("a").reason_codes == (QUOTA_EXCEEDED,)
    broker.engine.throttle(TENANT, [])
    broker.settle()
    assert client.subscribe("a").reason_codes == (0,)


def test_closing_inbound_bytes_stops_reading_until_it_is_opened(make_broker: MakeBroker) -> None:
    broker = make_broker()
    client = broker.connect("c", keep_alive=2)
    broker.engine.throttle(TENANT, ["TotalInboundBytesPerSecond"])
    broker.settle()
    for _ in range(100):
        broker.advance(0.1)
    assert client.is_open is False
    broker.engine.throttle(TENANT, [])
    broker.settle()
    broker.connect("d").ping()


def test_a_wrong_name_is_refused(make_broker: MakeBroker) -> None:
    with pytest.raises(
        ValueError, match=r"'TotalConections' is no resource of a tenant; did you mean TotalConnections\?"
    ):
        make_broker().engine.throttle(TENANT, ["TotalConections"])
