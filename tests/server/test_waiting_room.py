"""The room for clients that wait for a decision: bounded, and nobody can take all of it from the others."""

import pytest

from rookery.core.events import ConnectRequested
from rookery.server import waiting_room
from rookery.server.waiting_room import LoginFlows, WaitingRoom


def _request(username: str | None, peer: str = "192.0.2.7:1000", tenant_id: str | None = None) -> ConnectRequested:
    return ConnectRequested(
        connection=1,
        peer=peer,
        listener_id=0,
        protocol_version=5,
        clean_start=True,
        client_id="c",
        username=username,
        password=b"x",
        authentication_method=None,
        authentication_data=None,
        tenant_id=tenant_id,
    )


def test_one_flow_alone_may_fill_the_room() -> None:
    room = WaitingRoom(3)
    assert all(room.enter("a") for _ in range(3))
    assert room.enter("a") is None
    assert room.count == 3


def test_who_has_most_gives_up_his_last_place_for_another() -> None:
    room = WaitingRoom(3)
    places = [room.enter("a") for _ in range(3)]
    assert room.enter("b") is not None
    assert [place is not None and place.is_given_up for place in places] == [False, False, True]
    assert places[2] is not None
    assert places[2].scope.cancel_called
    room.leave(places[2])
    assert room.count == 3


def test_nobody_gives_up_a_place_for_who_would_have_as_many() -> None:
    room = WaitingRoom(2)
    assert room.enter("a")
    assert room.enter("b")
    assert room.enter("a") is None
    assert room.enter("c") is None


def test_place_that_was_left_is_free() -> None:
    room = WaitingRoom(1)
    place = room.enter("a")
    assert place is not None
    room.leave(place)
    assert room.count == 0
    assert room.enter("b") is not None


def test_tenants_are_flows_once_somebody_was_let_in() -> None:
    flows = LoginFlows()
    before = flows.flow_of(_request("acme/bob"))
    flows.know("acme")
    assert flows.flow_of(_request("acme/bob")) == "acme" != before
    assert flows.flow_of(_request(None, tenant_id="acme")) == "acme"


def test_made_up_tenants_of_one_address_are_one_flow() -> None:
    flows = LoginFlows()
    assert len({flows.flow_of(_request(f"made-up{number}/x")) for number in range(10)}) == 1
    assert flows.flow_of(_request("x/y")) != flows.flow_of(_request("x/y", peer="192.0.2.8:1000"))


def test_name_of_a_tenant_is_not_that_of_an_address() -> None:
    flows = LoginFlows()
    flows.know("192.0.2.7")
    assert flows.flow_of(_request("192.0.2.7/x")) != flows.flow_of(_request("other/x"))


def test_known_tenants_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "TENANTS_LIMIT", 2)
    flows = LoginFlows()
    for tenant_id in ("a", "b", "c"):
        flows.know(tenant_id)
    assert flows.flow_of(_request("a/x")) != "a"
    assert flows.flow_of(_request("c/x")) == "c"
