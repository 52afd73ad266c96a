"""`GET /session`: who is behind a connection, as BifroMQ shows it."""

from typing import Any

import httpx
import pytest

from rookery.api.session import describe_client
from rookery.core.events import SessionInfo
from support.service import Service

KEY = {"tenant_id": "acme", "user_id": "bob", "client_id": "dev1"}


async def get_session(service: Service, **headers: str | None) -> httpx.Response:
    """GET /session of KEY; headers replace or, by None, remove."""
    given = {**KEY, **headers}
    fields = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    return await service.http.get("/session", headers=fields)


@pytest.mark.parametrize(("version", "ver"), [(3, "3"), (4, "4"), (5, "5")])
async def test_session_that_is_online_is_shown_as_bifromq_does(service: Service, version: int, ver: str) -> None:
    async with service.connect(client_id="dev1", username="acme/bob", version=version):
        response = await get_session(service, req_id="7")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["req_id"] == "7"
    answer = response.json()
    metadata: dict[str, Any] = answer.pop("metadata")
    assert answer == {"tenantId": "acme", "type": "MQTT"}
    assert metadata.pop("address").startswith("/127.0.0.1:")
    assert metadata.pop("channelId")
    assert metadata == {
        "ver": ver,
        "userId": "bob",
        "clientId": "dev1",
        "broker": service.broker.server_id,
        "sessionType": "t",
    }


async def test_persistent_session_is_said_to_be_one(service: Service) -> None:
    async with service.connect(client_id="dev1", username="acme/bob", session_expiry_interval=100):
        assert (await get_session(service)).json()["metadata"]["sessionType"] == "p"


async def test_session_that_is_offline_is_not_found(service: Service) -> None:
    async with service.connect(client_id="dev1", username="acme/bob", session_expiry_interval=100) as client:
        await client.disconnect()
        await client.expect_closed()
    assert await service.broker.sessions.find("acme", "bob", "dev1") is not None
    response = await get_session(service)
    assert (response.status_code, response.content) == (404, b"")


@pytest.mark.parametrize("name", KEY)
async def test_session_of_another_tenant_user_or_client_is_not_found(service: Service, name: str) -> None:
    async with service.connect(client_id="dev1", username="acme/bob"):
        assert (await get_session(service)).status_code == 200
        response = await get_session(service, **{name: "other"})
    assert (response.status_code, response.content) == (404, b"")
    assert int(response.headers["req_id"])


async def test_names_in_utf_8_survive_the_trip(service: Service) -> None:
    async with service.connect(client_id="gerät/1", username="änt/bö b"):
        response = await get_session(service, tenant_id="%C3%A4nt", user_id="bö b", client_id="ger%c3%a4t%2F1")
    assert response.json()["tenantId"] == "änt"
    assert response.json()["metadata"]["clientId"] == "gerät/1"


@pytest.mark.parametrize("name", KEY)
async def test_missing_or_empty_header_is_named(service: Service, name: str) -> None:
    missing = await get_session(service, **{name: None})
    assert (missing.status_code, missing.text) == (400, f"header not found: {name}")
    empty = await get_session(service, **{name: ""})
    assert (empty.status_code, empty.text) == (400, f"header is empty: {name}")


def test_attributes_of_the_authenticator_stand_beside_our_entries_and_replace_none() -> None:
    info = SessionInfo(
        tenant_id="t",
        user_id="u",
        client_id="c",
        protocol_version=5,
        is_online=True,
        is_persistent=False,
        channel_id="ch",
        peer="[::1]:5",
        attributes=b'{"color": "blue", "userId": "root", "broker": "forged"}',
        subscription_count=0,
        inbox_count=0,
        inflight_count=0,
        session_expiry_interval=0,
        keep_alive=0,
        connected_at_ms=0,
        detached_at_ms=None,
    )
    assert describe_client(info, "server-1")["metadata"] == {
        "color": "blue",
        "ver": "5",
        "userId": "u",
        "clientId": "c",
        "channelId": "ch",
        "address": "/[::1]:5",
        "broker": "server-1",
        "sessionType": "t",
    }
