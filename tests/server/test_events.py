"""From notices to events, and from events to whoever asked for them."""

import dataclasses
import inspect
from typing import get_type_hints

import pytest
import trio

from rookery.core.notices import DEBUG_KINDS, CloseCause, Notice, NoticeKind
from rookery.server import events
from rookery.server.event_bus import EventBus
from rookery.server.events import (
    KINDS,
    AccessControlFailed,
    AuthenticationAborted,
    CallerActed,
    ClientConnected,
    ClientDisconnected,
    ClientEvent,
    Event,
    MessagePublished,
    SessionEnded,
    StorageFailed,
    StorageRecovered,
    Subscribed,
    TenantEvent,
    event_of,
    kinds_of,
)
from support.own_broker import broker_with, connect

OF_THE_SERVER = {AccessControlFailed, AuthenticationAborted, CallerActed, StorageFailed, StorageRecovered}
BASES = {events.Event, events.StrangerEvent, events.TenantEvent, events.ClientEvent}


def notice_of(kind: NoticeKind) -> Notice:
    return Notice(kind, 5, "t", "u", "c", "peer", "text", (1, 2, 3, 4))


def ended(client_id: str = "c") -> SessionEnded:
    return SessionEnded(at_ms=1, tenant_id="t", user_id="u", client_id=client_id, was_persistent=False)


def test_every_kind_of_notice_has_an_event() -> None:
    assert set(KINDS.values()) == set(NoticeKind)


@pytest.mark.parametrize("kind", sorted(KINDS.values()), ids=lambda kind: kind.name)
def test_event_has_a_value_of_the_right_type_in_every_field(kind: NoticeKind) -> None:
    event = event_of(notice_of(kind))
    assert KINDS[type(event)] is kind
    types = get_type_hints(type(event))
    for field in dataclasses.fields(event):
        assert type(getattr(event, field.name)) is types[field.name], field.name


def test_every_event_class_is_frozen_and_documented() -> None:
    classes = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, Event)]
    assert len(classes) > 20
    for kind in classes:
        assert kind.__doc__
        assert inspect.getattr_static(kind, "__dataclass_params__").frozen
        assert kind in BASES or kind in KINDS or kind in OF_THE_SERVER


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_page_of_events_has_a_row_with_all_fields(kind: type[Event], pytestconfig: pytest.Config) -> None:
    page = (pytestconfig.rootpath / "docs" / "events.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{kind.__name__}`")]
    common = {field.name for base in BASES for field in dataclasses.fields(base)}
    own = [field.name for field in dataclasses.fields(kind) if field.name not in common]
    assert [f"`{name}`" in row for name in own] == [True] * len(own)
    assert ("*debug*" in row) == (KINDS[kind] in DEBUG_KINDS)


def test_base_class_stands_for_all_that_derive_from_it() -> None:
    assert kinds_of([SessionEnded]) == {NoticeKind.SESSION_ENDED}
    assert NoticeKind.SESSION_ENDED in kinds_of([ClientEvent]) < kinds_of([TenantEvent]) < kinds_of([Event])
    assert kinds_of([Event]) == set(KINDS.values())


async def test_listener_gets_what_it_asked_for_in_order() -> None:
    observed: list[frozenset[NoticeKind]] = []
    bus = EventBus(observed.append)
    with bus.subscribe(SessionEnded) as stream:
        first, second = ended("a"), ended("b")
        bus.publish(first)
        bus.publish(event_of(notice_of(NoticeKind.SUBSCRIBED)))
        bus.publish(second)
        assert [await stream.receive(), await stream.receive()] == [first, second]
    assert observed == [{NoticeKind.SESSION_ENDED}, frozenset()]


async def test_shards_are_told_only_when_what_is_wanted_changes() -> None:
    observed: list[frozenset[NoticeKind]] = []
    bus = EventBus(observed.append)
    with bus.subscribe(ClientEvent), bus.subscribe(SessionEnded, Subscribed):
        assert bus.is_wanted(SessionEnded)
        assert not bus.is_wanted(events.ConnectTimedOut)
    assert observed == [kinds_of([ClientEvent]), frozenset()]


async def test_full_stream_loses_the_newest_and_counts_them() -> None:
    bus = EventBus(lambda _: None)
    with bus.subscribe(SessionEnded, limit=2) as full, bus.subscribe(SessionEnded) as other:
        for name in "abcd":
            bus.publish(ended(name))
        bus.close()
        assert [event.client_id async for event in full if isinstance(event, SessionEnded)] == ["a", "b"]
        assert full.dropped == 2
        assert len([event async for event in other]) == 4
        assert other.dropped == 0


async def test_filter_that_raises_costs_only_its_own_listener() -> None:
    bus = EventBus(lambda _: None)

    def fail(event: Event) -> bool:
        raise LookupError(event)

    with bus.subscribe(SessionEnded, accepts=fail) as broken, bus.subscribe(SessionEnded) as other:
        bus.publish(ended())
        assert (await other.receive()) == ended()
        assert broken.failed == 1


def test_asking_for_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no event type"), EventBus(lambda _: None).subscribe():
        pass


@pytest.mark.parametrize("shard_count", [1, 3])
async def test_broker_tells_the_life_of_a_client(shard_count: int) -> None:
    async with broker_with(shards={"count": shard_count}, settings={"DebugModeEnabled": True}) as broker:
        with (
            broker.events.subscribe(ClientEvent, accepts=lambda event: True) as stream,
            trio.fail_after(5),
        ):
            await broker.statistics()  # Behind it every shard knows what to tell.
            async with connect(broker, client_id="c", username="acme/bob") as client:
                await client.subscribe("a/#", qos=1)
                await client.publish("a", b"x", qos=1)
            seen: list[ClientEvent] = []
            async for event in stream:
                assert isinstance(event, ClientEvent)
                seen.append(event)
                if isinstance(event, SessionEnded):
                    break
        assert {(event.tenant_id, event.user_id, event.client_id) for event in seen} == {("acme", "bob", "c")}
        kinds = [type(event) for event in seen]
        assert kinds[:3] == [events.SessionStarted, ClientConnected, Subscribed]
        assert MessagePublished in kinds
        assert kinds[-2:] == [ClientDisconnected, SessionEnded]
        parting = seen[-2]
        assert isinstance(parting, ClientDisconnected)
        assert parting.cause is CloseCause.CLIENT
        assert broker.events.lost_count == 0


async def test_stream_ends_with_the_broker() -> None:
    async with trio.open_nursery() as nursery, broker_with() as broker:
        entered = trio.Event()

        async def listen() -> None:
            with broker.events.subscribe(Event) as stream:
                entered.set()
                async for _ in stream:
                    pass

        nursery.start_soon(listen)
        await entered.wait()
