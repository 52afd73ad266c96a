"""MESSAGE_DROPPED says which message a session did not get, and why; RETAINED_MATCHED what a subscription got."""

from rookery.core.notices import DropReason, Notice, NoticeKind
from support.memory_broker import Broker
from support.packets import MQTT_3_1_1

from .conftest import MakeBroker


def told(notices: list[Notice]) -> list[tuple[str, str, int, DropReason, int]]:
    return [
        (notice.client_id, notice.text, notice.numbers[0], DropReason(notice.numbers[1]), notice.numbers[2])
        for notice in notices
    ]


def away(broker: Broker, *, qos: int = 1, **fields: int) -> None:
    reader = broker.connect("reader", session_expiry_interval=1000, **fields)
    reader.subscribe("t", qos=qos)
    reader.drop()


def test_a_full_inbox_drops_the_new_message(make_broker: MakeBroker) -> None:
    broker = make_broker(session_inbox_size=2)
    notices = broker.observe(NoticeKind.MESSAGE_DROPPED)
    away(broker)
    writer = broker.connect("writer")
    for size in range(4):
        writer.publish("t", bytes(size), qos=1)
    assert told(notices) == [
        ("reader", "t", 1, DropReason.OVERFLOW, 2),
        ("reader", "t", 1, DropReason.OVERFLOW, 3),
    ]
    assert broker.count("messages_dropped") == 2


def test_qos_0_may_drop_the_oldest(make_broker: MakeBroker) -> None:
    broker = make_broker(session_inbox_size=2, qos0_drop_oldest=True)
    notices = broker.observe(NoticeKind.MESSAGE_DROPPED)
    away(broker)
    writer = broker.connect("writer")
    for size in range(4):
        writer.publish("t", bytes(size))
    assert told(notices) == [
        ("reader", "t", 0, DropReason.OVERFLOW_OLDEST, 0),
        ("reader", "t", 0, DropReason.OVERFLOW_OLDEST, 1),
    ]
    reader = broker.connect("reader", session_expiry_interval=1000, clean_start=False)
    assert [len(message.payload) for message in reader.take_messages()] == [2, 3]


def test_a_packet_too_large_for_the_client_is_dropped(make_broker: MakeBroker) -> None:
    broker = make_broker()
    notices = broker.observe(NoticeKind.MESSAGE_DROPPED)
    reader = broker.connect("reader", maximum_packet_size=100)
    reader.subscribe("t", qos=1)
    writer = broker.connect("writer")
    writer.publish("t", bytes(200), qos=1)
    writer.publish("t", bytes(200))
    assert told(notices) == [
        ("reader", "t", 1, DropReason.TOO_LARGE, 200),
        ("reader", "t", 0, DropReason.TOO_LARGE, 200),
    ]


def test_giving_up_after_the_last_resend_is_told(make_broker: MakeBroker) -> None:
    broker = make_broker(max_resend_times=1, resend_timeout_seconds=10)
    notices = broker.observe(NoticeKind.MESSAGE_DROPPED)
    reader = broker.connect("reader", version=MQTT_3_1_1)
    reader.subscribe("t", qos=1)
    broker.connect("writer").publish("t", b"xy", qos=1)
    broker.advance(40)
    reader.take_all()
    assert told(notices) == [("reader", "t", 1, DropReason.RETRIES_EXHAUSTED, 2)]


def test_expiry_is_told_in_debug_mode_only(make_broker: MakeBroker) -> None:
    for debug_mode_enabled in (False, True):
        broker = make_broker(debug_mode_enabled=debug_mode_enabled)
        notices = broker.observe(NoticeKind.MESSAGE_DROPPED)
        away(broker)
        broker.connect("writer").publish("t", b"x", qos=1, message_expiry_interval=5)
        broker.advance(6)
        broker.connect("reader", session_expiry_interval=1000, clean_start=False)
        assert told(notices) == [("reader", "t", 1, DropReason.EXPIRED, 1)] * debug_mode_enabled
        assert broker.count("messages_dropped") == 0


def test_retained_messages_of_a_subscription_are_counted_once(make_broker: MakeBroker) -> None:
    broker = make_broker()
    notices = broker.observe(NoticeKind.RETAINED_MATCHED)
    writer = broker.connect("writer")
    for number in range(150):
        writer.publish(f"r/{number}", b"x", retain=True)
    reader = broker.connect("reader")
    reader.subscribe("r/+", "nothing/#")
    assert len(reader.take_messages()) == 150
    assert [(notice.client_id, notice.text, notice.numbers[0]) for notice in notices] == [("reader", "r/+", 150)]
