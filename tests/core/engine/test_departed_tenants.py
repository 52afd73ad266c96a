"""What was counted of a tenant is not forgotten when its last client goes."""

from collections.abc import Callable

from support import packets
from support.memory_broker import Admitted, Broker
from support.packets import MQTT_5_0, Connect, Disconnect, Publish

MakeBroker = Callable[..., Broker]

REMEMBERED = 16384  # DEPARTED_TENANTS: by each shard


def _publish_as(broker: Broker, tenant_id: str, count: int) -> None:
    client = broker.connect("writer", username=tenant_id)
    for _ in range(count):
        client.publish("a", b"x")
    client.drop()


def _tenant_of_user(make_broker: MakeBroker) -> Broker:
    return make_broker(decide=lambda request: Admitted(request.username or "nobody"))


def test_counters_never_fall_when_tenants_go_and_come_back(make_broker: MakeBroker) -> None:
    broker = _tenant_of_user(make_broker)
    _publish_as(broker, "first", 3)
    assert broker.count("tenants") == 0
    assert broker.count("messages_received") == 3
    bytes_received = broker.count("bytes_received")
    _publish_as(broker, "second", 2)
    _publish_as(broker, "first", 4)
    assert broker.count("messages_received") == 9
    assert broker.count("bytes_received") > bytes_received


def test_sum_knows_of_more_tenants_than_are_remembered() -> None:
    broker = _tenant_of_user(Broker)
    farewell = packets.encode(Publish(topic="a"), MQTT_5_0) + packets.encode(Disconnect(), MQTT_5_0)
    for number in range(REMEMBERED + 3):
        link = broker.engine.connect_memory()
        broker.engine.feed(link, packets.encode(Connect(client_id="c", username=f"t{number}"), MQTT_5_0) + farewell)
        if number % 500 == 0:
            broker.settle()
    assert broker.count("tenants") == 0
    assert broker.count("messages_received") == REMEMBERED + 3
    for number in (0, REMEMBERED):  # One that was forgotten, one that was not.
        _publish_as(broker, f"t{number}", 1)
    assert broker.count("messages_received") == REMEMBERED + 5
    broker.close()
