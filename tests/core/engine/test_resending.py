"""What 3.x clients do not acknowledge: sent again on the live connection, given up at last, as the tenant has it."""

from collections.abc import Callable

import pytest

from rookery.core.settings import TenantSettings
from support.memory_broker import TENANT, Broker, Client
from support.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel

MakeBroker = Callable[..., Broker]
TIMES, TIMEOUT_S = 3, 8  # a quarter of the time-out is two steps of the test's clock


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker(max_resend_times=TIMES, resend_timeout_seconds=TIMEOUT_S)


def receiver(broker: Broker, *, version: int = 4, clean_start: bool = True, qos: int = 2) -> Client:
    client = broker.connect("receiver", version=version, clean_start=clean_start)
    client.subscribe("a", qos=qos)
    return client


def send(broker: Broker, payload: bytes = b"x", *, qos: int) -> None:
    broker.connect("sender", version=4).publish("a", payload, qos=qos)


def waits(broker: Broker, client: Client, limit_s: int = 60) -> int:
    """Seconds until something comes."""
    for second in range(1, limit_s + 1):
        broker.advance(1)
        if client._received:
            return second
    raise AssertionError(f"nothing came within {limit_s} s")


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("clean_start", [True, False])
@pytest.mark.parametrize("qos", [1, 2])
def test_message_is_sent_again_after_the_timeout_and_given_up_at_last(
    broker: Broker, version: int, clean_start: bool, qos: int
) -> None:
    client = receiver(broker, version=version, clean_start=clean_start)
    send(broker, qos=qos)
    first = client.take(Publish)
    assert not first.dup
    for number in range(TIMES):
        waited = waits(broker, client)
        # The first is kept to a quarter of the time-out, the others are exact.
        assert TIMEOUT_S <= waited <= TIMEOUT_S * 5 // 4 if number == 0 else waited == TIMEOUT_S
        again = client.take(Publish)
        assert again == Publish(topic="a", payload=b"x", qos=qos, dup=True, packet_id=first.packet_id)
    assert broker.count("messages_dropped") == 0
    broker.advance(TIMEOUT_S - 1)
    assert broker.count("messages_dropped") == 0
    broker.advance(1)
    client.expect_nothing()
    assert broker.count("messages_dropped") == 1
    info = broker.session("receiver")
    assert info is not None
    assert info.inflight_count == 0
    broker.advance(100)
    client.expect_nothing()
    client.ping()


@pytest.mark.parametrize("qos", [1, 2])
def test_late_acknowledgement_ends_resending(broker: Broker, qos: int) -> None:
    client = receiver(broker)
    send(broker, qos=qos)
    client.take(Publish)
    waits(broker, client)
    client.acknowledge(client.take(Publish))
    broker.advance(100)
    client.expect_nothing()
    assert broker.count("messages_dropped") == 0


def test_acknowledgement_after_the_message_was_given_up_harms_nothing(broker: Broker) -> None:
    client = receiver(broker)
    for qos in (1, 2):
        send(broker, qos=qos)
    late = [client.take(Publish), client.take(Publish)]
    broker.advance(60)
    client.take_all()
    client.send(Puback(packet_id=late[0].packet_id), Pubrec(packet_id=late[1].packet_id))
    client.take(Pubrel)
    client.send(Pubcomp(packet_id=late[1].packet_id))
    client.ping()
    send(broker, b"new", qos=1)
    assert client.take_message().payload == b"new"


def test_pubrel_is_sent_again_from_its_own_sending_on(broker: Broker) -> None:
    client = receiver(broker)
    send(broker, qos=2)
    message = client.take(Publish)
    broker.advance(9)
    client.send(Pubrec(packet_id=message.packet_id))
    client.take(Pubrel)
    for _ in range(TIMES):
        assert waits(broker, client) >= TIMEOUT_S
        assert client.take(Pubrel).packet_id == message.packet_id
    broker.advance(100)
    client.expect_nothing()
    info = broker.session("receiver")
    assert info is not None
    assert info.inflight_count == 0


def test_messages_are_sent_again_in_their_order(broker: Broker) -> None:
    client = receiver(broker)
    for number in range(5):
        send(broker, b"%d" % number, qos=1 + number % 2)
    messages = [client.take(Publish) for _ in range(5)]
    client.acknowledge(messages[2])
    waits(broker, client)
    assert [client.take(Publish).payload for _ in range(4)] == [b"0", b"1", b"3", b"4"]


def test_a_younger_message_waits_for_its_own_time(broker: Broker) -> None:
    client = receiver(broker)
    send(broker, b"old", qos=1)
    client.take(Publish)
    broker.advance(5)
    send(broker, b"young", qos=1)
    client.take(Publish)
    assert waits(broker, client) <= 5
    assert client.take(Publish).payload == b"old"
    assert waits(broker, client) >= 3
    assert client.take(Publish).payload == b"young"


@pytest.mark.parametrize("qos", [1, 2])
def test_5_0_is_never_sent_anything_again_on_a_live_connection(broker: Broker, qos: int) -> None:
    client = receiver(broker, version=5)
    send(broker, qos=qos)
    client.take(Publish)
    broker.advance(500)
    client.expect_nothing()
    assert broker.count("messages_dropped") == 0


@pytest.mark.parametrize("qos", [1, 2])
def test_default_is_never(make_broker: MakeBroker, qos: int) -> None:
    broker = make_broker()
    client = receiver(broker, clean_start=False)
    send(broker, qos=qos)
    client.take(Publish)
    broker.advance(500)
    client.expect_nothing()
    client.drop()
    client = broker.connect("receiver", version=4, clean_start=False)
    assert client.take(Publish).dup


def test_reconnect_begins_anew_and_disconnect_ends_it(broker: Broker) -> None:
    client = receiver(broker, clean_start=False)
    send(broker, qos=1)
    client.take(Publish)
    broker.advance(2 * TIMEOUT_S + 3)
    assert len(client.take_all()) == 2
    client.drop()
    broker.advance(100)
    client = broker.connect("receiver", version=4, clean_start=False)
    assert client.take(Publish).dup
    for _ in range(TIMES):
        assert waits(broker, client) >= TIMEOUT_S
        client.take(Publish)
    broker.advance(100)
    client.expect_nothing()


def test_a_session_expires_after_resending_as_without(make_broker: MakeBroker) -> None:
    broker = make_broker(
        max_resend_times=1, resend_timeout_seconds=1, min_session_expiry_seconds=60, max_session_expiry_seconds=60
    )
    client = receiver(broker, clean_start=False)
    send(broker, qos=1)
    broker.advance(30)
    client.drop()
    broker.advance(59)
    assert broker.session("receiver") is not None
    broker.advance(2)
    assert broker.session("receiver") is None


def test_tenant_may_change_its_mind(make_broker: MakeBroker) -> None:
    broker = make_broker()
    client = receiver(broker)
    wanted = TenantSettings(max_resend_times=1, resend_timeout_seconds=4)
    broker.engine.configure_tenant(TENANT, wanted)
    broker.advance(61)  # A connection looks at its settings once a minute.
    send(broker, qos=1)
    client.take(Publish)
    assert 4 <= waits(broker, client) <= 5
    client.take_all()
    broker.engine.configure_tenant(TENANT, TenantSettings())
    broker.advance(2)
    send(broker, qos=1)
    client.take(Publish)
    broker.advance(100)
    client.expect_nothing()


def test_many_in_flight_are_given_up_together(broker: Broker) -> None:
    client = receiver(broker)
    sender = broker.connect("sender", version=4)
    for number in range(1000):
        sender.publish("a", b"%d" % number, qos=1)
    assert len(client.take_all()) == 1000
    broker.advance(60)
    assert len(client.take_all()) == 1000 * TIMES
    assert broker.count("messages_dropped") == 1000
