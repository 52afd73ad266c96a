"""Lists of what a broker has, page by page."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from rookery.core.pages import COUNTERS, NO_FIGURES, Page
from support.memory_broker import TENANT, USER, Admitted, Broker
from support.packets import Will

Command = Callable[..., None]


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def broker(request: pytest.FixtureRequest) -> Any:
    opened = Broker(shard_count=request.param)
    yield opened
    opened.close()


def pages(broker: Broker, command: Command, **words: Any) -> list[Page]:
    """All pages of one list, or of one shard's part of it."""
    found: list[Page] = []
    while True:
        page = broker._ask(partial(command, **words))
        found.append(page)
        assert len(found) < 10_000, "the list does not end"
        if not page.following and not page.place:
            return found
        words["place"] = page.following or page.place


def rows_of_shards(broker: Broker, command: Command, **words: Any) -> list[Any]:
    """The rows of all pages of all shards."""
    return [
        row
        for shard in range(broker.engine.shard_count)
        for page in pages(broker, partial(lambda s, request, **rest: command(request, s, **rest), shard), **words)
        for row in page.rows
    ]


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_every_session_is_listed_once(broker: Broker, limit: int) -> None:
    for number in range(50):
        broker.connect(f"c{number}", session_expiry_interval=100)
    rows = rows_of_shards(broker, broker.engine.list_sessions, tenant_id=TENANT, limit=limit)
    assert sorted(row.client_id for row in rows) == sorted(f"c{number}" for number in range(50))


def test_page_has_no_more_rows_than_asked_for(broker: Broker) -> None:
    for number in range(50):
        broker.connect(f"c{number}")
    words: dict[str, Any] = {"tenant_id": TENANT, "limit": 3}
    assert all(len(page.rows) <= 3 for page in pages(broker, partial(sessions_of_first, broker), **words))


def sessions_of_first(broker: Broker, request: int, **words: Any) -> None:
    broker.engine.list_sessions(request, 0, **words)


def test_sessions_that_stay_are_listed_while_others_come_and_go(broker: Broker) -> None:
    staying = [broker.connect(f"stays{number}") for number in range(40)]
    listed = set()
    for shard in range(broker.engine.shard_count):
        place, round_number = b"", 0
        while True:
            words: dict[str, Any] = {"tenant_id": TENANT, "limit": 2, "place": place}
            page = broker._ask(
                partial(lambda s, w, request: broker.engine.list_sessions(request, s, **w), shard, words)
            )
            listed |= {row.client_id for row in page.rows}
            place = page.place
            if not place:
                break
            # The map grows to a multiple of its size, and shrinks again.
            round_number += 1
            for number in range(20):
                broker.connect(f"{shard}-{round_number}-{number}").disconnect()
            if round_number == 2:
                crowd = [broker.connect(f"{shard}-crowd{number}") for number in range(200)]
            elif round_number == 6:
                for client in crowd:
                    client.disconnect()
    assert {f"stays{number}" for number in range(40)} <= listed
    assert all(client.is_open for client in staying)


def test_session_is_told_with_all_that_it_has(broker: Broker) -> None:
    client = broker.connect(
        "dev1", session_expiry_interval=100, keep_alive=30, will=Will(topic="gone", qos=1, retain=True, payload=b"x")
    )
    client.subscribe("a", qos=1)
    page = broker._ask(partial(broker.engine.look_at_session, tenant_id=TENANT, user_id=USER, client_id="dev1"))
    (row,) = page.rows
    assert (row.user_id, row.client_id, row.protocol_version) == (USER, "dev1", 5)
    assert (row.is_online, row.is_persistent, row.detached_at_ms) == (True, True, None)
    assert (row.subscription_count, row.session_expiry_interval, row.keep_alive) == (1, 100, 30)
    assert (row.peer, row.attributes) == ("memory", b"{}")
    assert row.will is not None
    assert (row.will.topic, row.will.qos, row.will.retain) == ("gone", 1, True)


def test_session_that_is_not_there_is_not_found(broker: Broker) -> None:
    page = broker._ask(partial(broker.engine.look_at_session, tenant_id="nobody", user_id=USER, client_id="dev1"))
    assert (page.rows, page.is_found) == ((), False)
    broker.connect("dev2")
    page = broker._ask(partial(broker.engine.look_at_session, tenant_id=TENANT, user_id=USER, client_id="dev1"))
    assert (page.rows, page.is_found) == ((), False)


def test_only_sessions_that_are_online_are_listed_on_request(broker: Broker) -> None:
    broker.connect("on")
    broker.connect("off", session_expiry_interval=100).disconnect()
    rows = rows_of_shards(broker, broker.engine.list_sessions, tenant_id=TENANT, online_only=True)
    assert [row.client_id for row in rows] == ["on"]
    rows = rows_of_shards(broker, broker.engine.list_sessions, tenant_id=TENANT)
    assert sorted((row.client_id, row.detached_at_ms is None) for row in rows) == [("off", False), ("on", True)]


def test_sessions_of_one_user_are_listed_on_request() -> None:
    broker = Broker(decide=lambda request: Admitted(user_id=request.client_id[0]))
    for client_id in ("a1", "a2", "b1"):
        broker.connect(client_id)
    rows = rows_of_shards(broker, broker.engine.list_sessions, tenant_id=TENANT, user_id="a")
    assert sorted(row.client_id for row in rows) == ["a1", "a2"]
    broker.close()


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_every_subscription_of_a_tenant_is_listed_once(broker: Broker, limit: int) -> None:
    for number in range(12):
        client = broker.connect(f"c{number}")
        for level in range(number):
            client.subscribe(f"a/{level}", qos=1)
    rows = rows_of_shards(broker, broker.engine.list_subscriptions, tenant_id=TENANT, limit=limit)
    expected = sorted((f"c{number}", f"a/{level}") for number in range(12) for level in range(number))
    assert sorted((row.client_id, row.topic_filter) for row in rows) == expected


def test_subscription_is_told_with_its_options(broker: Broker) -> None:
    client = broker.connect("c")
    client.subscribe("$share/g/a/+", qos=2, subscription_id=7)
    client.subscribe("b", qos=1, no_local=True, retain_as_published=True, retain_handling=2)
    words = {"tenant_id": TENANT, "user_id": USER, "client_id": "c", "limit": 1}
    rows = [row for page in pages(broker, broker.engine.list_session_subscriptions, **words) for row in page.rows]
    shared, plain = sorted(rows, key=lambda row: row.topic_filter)
    assert (shared.topic_filter, shared.share_name, shared.qos, shared.subscription_id) == ("a/+", "g", 2, 7)
    assert (plain.share_name, plain.no_local, plain.retain_as_published, plain.retain_handling) == (None, True, True, 2)
    assert plain.subscription_id is None


@pytest.mark.parametrize("limit", [1, 4, 1000])
@pytest.mark.parametrize(
    ("topic_filter", "count"), [("#", 31), ("a/+/x", 10), ("a/3/#", 3), ("a/3/x", 1), ("none", 0), ("/+", 1)]
)
def test_every_retained_message_that_a_filter_matches_is_listed_once(
    broker: Broker, topic_filter: str, count: int, limit: int
) -> None:
    client = broker.connect("c")
    for number in range(10):
        for topic in (f"a/{number}", f"a/{number}/x", f"a/{number}/yy"):
            client.publish(topic, b"kept", qos=1, retain=True)
    client.publish("/z", b"kept", qos=1, retain=True)
    words = {"tenant_id": TENANT, "topic_filter": topic_filter, "limit": limit}
    rows = [row for page in pages(broker, broker.engine.list_retained, **words) for row in page.rows]
    assert len(rows) == len({row.topic for row in rows}) == count


def test_retained_messages_that_stay_are_listed_while_others_go(broker: Broker) -> None:
    client = broker.connect("c")
    for number in range(40):
        client.publish(f"t/{number}", b"x", qos=1, retain=True)
    listed: list[str] = []
    place = b""
    while True:
        words: dict[str, Any] = {"tenant_id": TENANT, "topic_filter": "t/#", "limit": 3, "place": place}
        page = broker._ask(partial(broker.engine.list_retained, **words))
        listed += [row.topic for row in page.rows]
        place = page.place
        if not place:
            break
        # The very one that the next page begins behind goes, too.
        last = page.rows[-1].topic
        if int(last[2:]) % 2:
            client.publish(last, b"", qos=1, retain=True)
    assert {f"t/{number}" for number in range(0, 40, 2)} <= set(listed)


def test_retained_message_is_told_with_the_beginning_of_its_payload(broker: Broker) -> None:
    broker.connect("c").publish("a", b"0123456789", qos=1, retain=True, message_expiry_interval=60)
    words: dict[str, Any] = {"tenant_id": TENANT, "topic_filter": "a", "payload_limit": 4}
    (row,) = broker._ask(partial(broker.engine.list_retained, **words)).rows
    assert (row.topic, row.qos, row.retain, row.payload_size, row.payload) == ("a", 1, True, 10, b"0123")
    assert row.expires_at_ms - row.stored_at_ms == 60_000


def test_inbox_is_told_from_the_oldest_and_stays_as_it_is(broker: Broker) -> None:
    reader = broker.connect("reader", session_expiry_interval=100)
    reader.subscribe("a", qos=1)
    reader.disconnect()
    writer = broker.connect("writer")
    for number in range(5):
        writer.publish("a", str(number).encode(), qos=number % 2)
    words: dict[str, Any] = {"tenant_id": TENANT, "user_id": USER, "client_id": "reader", "limit": 2}
    for _ in range(2):
        found = pages(broker, broker.engine.list_inbox, **words, payload_limit=10)
        assert [row.payload for page in found for row in page.rows] == [b"0", b"1", b"2", b"3", b"4"]
    assert [row.qos for page in found for row in page.rows] == [0, 1, 0, 1, 0]


def test_messages_in_flight_are_told_with_what_is_due(broker: Broker) -> None:
    reader = broker.connect("reader", session_expiry_interval=100)
    reader.subscribe("a", qos=2)
    writer = broker.connect("writer")
    writer.publish("a", b"1", qos=1)
    writer.publish("a", b"2", qos=2)
    words: dict[str, Any] = {"tenant_id": TENANT, "user_id": USER, "client_id": "reader"}
    rows = broker._ask(partial(broker.engine.list_inflight, **words)).rows
    assert [(row.due, row.is_sent, row.topic) for row in rows] == [("PUBACK", True, "a"), ("PUBREC", True, "a")]


def test_topic_filters_that_match_a_topic_are_told_with_who_wants_them(broker: Broker) -> None:
    for number in range(6):
        client = broker.connect(f"c{number}")
        client.subscribe("a/+")
        client.subscribe("$share/g/a/b")
        client.subscribe("b")
    broker.connect("asked").subscribe("a/#", qos=1)
    sums: dict[str, list[int]] = {}
    granted = {}
    for shard in range(broker.engine.shard_count):
        words: dict[str, Any] = {"tenant_id": TENANT, "topic": "a/b", "user_id": USER, "client_id": "asked"}
        page = broker._ask(partial(lambda s, w, request: broker.engine.list_matches(request, s, **w), shard, words))
        for row in page.rows:
            total = sums.setdefault(row.topic_filter, [0, 0])
            total[0] += row.sessions
            total[1] += row.groups
            if row.granted_qos is not None:
                granted[row.topic_filter] = row.granted_qos
    assert sums == {"a/+": [6, 0], "a/b": [0, 1], "a/#": [1, 0]}
    assert granted == {"a/#": 1}


def test_tenants_are_listed_with_what_they_have() -> None:
    broker = Broker(decide=lambda request: Admitted(tenant_id=request.client_id))
    for number in range(30):
        broker.connect(f"t{number}", session_expiry_interval=100).subscribe("a")
    listed = {}
    place = 0
    while True:
        rows, place = broker.engine.list_tenants(place, 4)
        listed.update({row.tenant_id: row.usage for row in rows})
        if place == 0:
            break
    assert sorted(listed) == sorted(f"t{number}" for number in range(30))
    assert all(usage["TotalConnections"] == 1 for usage in listed.values())
    assert all(usage["TotalPersistentSubscriptions"] == 1 for usage in listed.values())
    broker.close()


def test_counters_of_a_tenant_add_up_over_the_shards(broker: Broker) -> None:
    readers = [broker.connect(f"r{number}", session_expiry_interval=9 * (number == 0)) for number in range(4)]
    for reader in readers:
        reader.subscribe("a", qos=1)
    writer = broker.connect("writer")
    for qos in (0, 1, 2):
        writer.publish("a", b"12345", qos=qos)
    readers[0].unsubscribe("a")
    readers[0].take_all()
    readers[0].disconnect()
    everybody = total = NO_FIGURES
    for shard in range(broker.engine.shard_count):
        words: dict[str, Any] = {"tenant_ids": [TENANT, "nobody"]}
        of_all, mine, none = broker._ask(
            partial(lambda s, w, request: broker.engine.tell_tenants(request, s, **w), shard, words)
        ).rows
        everybody += of_all
        total += mine
        assert none == NO_FIGURES
    counted = dict(zip(COUNTERS, total.counters, strict=True))
    assert everybody == total
    assert total.sessions == 5
    assert [counted[f"received_qos{qos}"] for qos in (0, 1, 2)] == [1, 1, 1]
    assert [counted[f"received_bytes_qos{qos}"] for qos in (0, 1, 2)] == [5, 5, 5]
    assert [counted[f"sent_qos{qos}"] for qos in (0, 1, 2)] == [4, 8, 0]
    assert [counted[f"sent_bytes_qos{qos}"] for qos in (0, 1, 2)] == [20, 40, 0]
    assert (counted["connects"], counted["disconnects"]) == (5, 1)
    assert (counted["transient_subscribes"], counted["transient_unsubscribes"]) == (3, 0)
    assert (counted["persistent_subscribes"], counted["persistent_unsubscribes"]) == (1, 1)
