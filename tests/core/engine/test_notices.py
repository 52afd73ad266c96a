"""What a shard tells of its own accord, and that it tells nothing that nobody asked for."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rookery.core.engine import Engine
from rookery.core.notices import DEBUG_KINDS, CloseCause, Notice, NoticeKind
from support import raw
from support.memory_broker import Broker, Refused
from support.packets import MQTT_5_0, Disconnect, Pingreq, Publish, Subscription, Will

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[1, 3])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    broker = Broker(shard_count=request.param, debug_mode_enabled=True)
    yield broker
    broker.close()


def only(notices: list[Notice]) -> Notice:
    """The one notice that came, taken out of the list."""
    (notice,) = notices
    notices.clear()
    return notice


def test_numbers_of_kinds_are_those_of_the_core() -> None:
    header = (ROOT / "core" / "sessions" / "notices.pxd").read_text()
    in_core = {name: int(number) for name, number in re.findall(r"^    NOTICE_(\w+) = (\d+)  +# ", header, re.M)}
    in_core |= {name: int(number) for name, number in re.findall(r"^    NOTICE_(PING_RECEIVED) = (\d+)$", header, re.M)}
    kinds = {kind.name: kind.value for kind in NoticeKind}
    assert {name: in_core.get(name) for name in kinds} == kinds


def test_nothing_is_told_that_nobody_asked_for(broker: Broker) -> None:
    client = broker.connect("c", will=Will(topic="w", payload=b"x"))
    client.subscribe("a/#", qos=1)
    broker.connect("p").publish("a/b", b"x", qos=1, retain=True)
    client.drop()
    broker.settle()
    assert broker.notices == []


def test_asking_for_one_kind_brings_no_other(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.SUBSCRIBED)
    broker.connect("c").subscribe("a/#", qos=1)
    assert only(notices).kind is NoticeKind.SUBSCRIBED


def test_asking_anew_replaces_what_was_asked_for(broker: Broker) -> None:
    broker.observe(NoticeKind.CLIENT_CONNECTED)
    notices = broker.observe()
    broker.connect("c")
    assert notices == []


def test_client_is_told_with_what_is_in_force(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.CLIENT_CONNECTED)
    broker.connect("c", keep_alive=30, session_expiry_interval=600, clean_start=True, will=Will(topic="w", payload=b""))
    notice = only(notices)
    assert (notice.tenant_id, notice.user_id, notice.client_id, notice.peer) == ("tenant", "user", "c", "memory")
    assert notice.numbers == (MQTT_5_0, 1 | 4, 30, 600)
    broker.connect("c", clean_start=False, session_expiry_interval=600)
    assert only(notices).numbers == (MQTT_5_0, 2, 0, 600)


def test_time_of_a_notice_is_that_of_the_epoch(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.CLIENT_CONNECTED)
    broker.connect("c")
    first = only(notices).at_ms
    broker.advance(60)
    broker.connect("d")
    assert only(notices).at_ms == first + 60_000


@pytest.mark.parametrize(
    ("reason_code", "cause"), [(0x00, CloseCause.CLIENT), (0x04, CloseCause.CLIENT), (None, CloseCause.NETWORK)]
)
def test_disconnecting_is_told_with_who_did_it(broker: Broker, reason_code: int | None, cause: CloseCause) -> None:
    notices = broker.observe(NoticeKind.CLIENT_DISCONNECTED)
    client = broker.connect("c")
    if reason_code is None:
        client.drop()
    else:
        client.send(Disconnect(reason_code=reason_code))
    broker.settle()
    assert only(notices).numbers[:2] == (cause, 0x80 if reason_code is None else reason_code)


def test_client_that_is_sent_away_is_told_with_the_reason(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.CLIENT_DISCONNECTED)
    broker.connect("c")
    broker.connect("c")
    assert only(notices).numbers[:2] == (CloseCause.SERVER, 0x8E)
    broker.connect("d", keep_alive=10)
    broker.advance(16)
    notice = only(notices)
    assert (notice.client_id, notice.numbers[1], notice.text) == ("d", 0x8D, "keep alive timeout")


def test_refused_connect_names_client_and_reason() -> None:
    broker = Broker(decide=lambda _: Refused(0x87, "not you"))
    notices = broker.observe(NoticeKind.CONNECT_REFUSED)
    broker.open().connect(client_id="c")
    notice = only(notices)
    assert (notice.client_id, notice.text, notice.numbers[:2]) == ("c", "not you", (MQTT_5_0, 0x87))
    broker.close()


def test_bytes_that_are_no_connect_are_told(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.CONNECTION_FAILED)
    broker.open().send_bytes(b"GET / HTTP/1.1\r\n\r\n")
    assert only(notices).text == "the first packet is no CONNECT"
    broker.open().send_bytes(raw.connect(name=b"HTTP"))
    assert only(notices).text == "this is no MQTT"


def test_connect_that_does_not_come_is_told(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.CONNECT_TIMED_OUT)
    broker.open()
    broker.advance(25)
    assert only(notices).peer == "memory"


def test_life_of_a_session_is_told_at_both_ends(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.SESSION_STARTED, NoticeKind.SESSION_ENDED)
    client = broker.connect("c", session_expiry_interval=100)
    started = only(notices)
    assert (started.kind, started.numbers[0]) == (NoticeKind.SESSION_STARTED, 1)
    client.drop()
    broker.advance(99)
    assert notices == []
    broker.advance(2)
    ended = only(notices)
    assert (ended.kind, ended.client_id, ended.numbers[0]) == (NoticeKind.SESSION_ENDED, "c", 1)


def test_will_is_told_when_it_is_published(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.WILL_PUBLISHED)
    broker.connect("c", will=Will(topic="gone/c", payload=b"1234", qos=1)).drop()
    broker.settle()
    notice = only(notices)
    assert (notice.client_id, notice.text, notice.numbers[:3]) == ("c", "gone/c", (1, 0, 4))


def test_every_topic_filter_is_told_with_its_verdict(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.SUBSCRIBED, NoticeKind.SUBSCRIBE_REFUSED, NoticeKind.UNSUBSCRIBED)
    client = broker.connect("c")
    client.subscribe(Subscription("a/+", qos=2), Subscription("a/#/b"), subscription_id=7)
    granted, refused = notices
    assert (granted.kind, granted.text, granted.numbers[:2]) == (NoticeKind.SUBSCRIBED, "a/+", (2, 7))
    assert (refused.kind, refused.text, refused.numbers[0]) == (NoticeKind.SUBSCRIBE_REFUSED, "a/#/b", 0x8F)
    notices.clear()
    client.unsubscribe("a/+")
    assert (notices[0].text, notices[0].numbers[0]) == ("a/+", 0)


def test_refused_publication_is_told(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.PUBLISH_REFUSED)
    broker.connect("c").publish("$SYS/x", b"", qos=1)
    notice = only(notices)
    assert (notice.text, notice.numbers[:3]) == ("$SYS/x", (1, 0, 0x87))


def test_retained_messages_are_told_when_stored_and_cleared(broker: Broker) -> None:
    notices = broker.observe(NoticeKind.MESSAGE_RETAINED, NoticeKind.RETAINED_CLEARED)
    client = broker.connect("c")
    client.publish("a", b"12345", qos=1, retain=True)
    stored = only(notices)
    assert (stored.kind, stored.tenant_id, stored.text, stored.numbers[:2]) == (
        NoticeKind.MESSAGE_RETAINED,
        "tenant",
        "a",
        (1, 5),
    )
    client.publish("a", b"", retain=True)
    assert only(notices).kind is NoticeKind.RETAINED_CLEARED
    client.publish("a", b"", retain=True)
    assert notices == []


def test_single_messages_are_told_in_debug_mode(broker: Broker) -> None:
    client = broker.connect("c")
    client.subscribe("a", qos=1)
    notices = broker.observe(*DEBUG_KINDS)
    client.publish("a", b"123", qos=1)
    message = client.take(Publish)
    client.acknowledge(message)
    client.send(Pingreq())
    broker.settle()
    assert [(notice.kind, notice.text, notice.numbers) for notice in notices] == [
        (NoticeKind.MESSAGE_SENT, "a", (1, message.packet_id, 3, 0)),
        (NoticeKind.MESSAGE_PUBLISHED, "a", (1, 1, 3, 0)),
        (NoticeKind.MESSAGE_CONFIRMED, "", (message.packet_id, 4, 0, 0)),
        (NoticeKind.PING_RECEIVED, "", (0, 0, 0, 0)),
    ]


def test_single_messages_are_not_told_without_debug_mode() -> None:
    broker = Broker()
    notices = broker.observe(*DEBUG_KINDS)
    client = broker.connect("c")
    client.subscribe("a", qos=1)
    client.publish("a", b"123", qos=1)
    client.send(Pingreq())
    broker.settle()
    assert notices == []
    broker.close()


def test_notices_beyond_the_limit_are_counted_and_the_first_ones_kept() -> None:
    engine = Engine()
    engine.observe([NoticeKind.CONNECTION_FAILED])
    for number in range(16384 + 100):
        link = engine.connect_memory()
        engine.feed(link, b"\x20\x00")
        if number % 512 == 511:
            engine.turn(0, 1)
            engine.turn(0, 1)
    while engine.turn(0, 1) and len(engine.take_events(0)):
        pass
    for _ in range(4):
        engine.turn(0, 1)
    taken, lost = engine.take_notices(0, 1000)
    assert (len(taken), lost) == (1000, 100)
    rest, lost = engine.take_notices(0, 1_000_000)
    assert (len(rest), lost) == (16384 - 1000, 0)
    engine.close()
