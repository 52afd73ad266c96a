"""`GET /session/inbox`: a session as BifroMQ's protocol buffers show it in JSON."""

import time
from pathlib import Path

import httpx
import pytest

from support.packets import Subscription, Will
from support.service import Service, service_with

KEY = {"tenant_id": "acme", "user_id": "bob", "client_id": "dev1"}


async def get_inbox(service: Service, **headers: str | None) -> httpx.Response:
    """GET /session/inbox of KEY; headers replace or, by None, remove."""
    given = {name: value for name, value in {**KEY, **headers}.items() if value is not None}
    return await service.http.get("/session/inbox", headers=given)


async def test_persistent_session_that_is_offline_shows_what_waits(service: Service) -> None:
    before_ms = time.time_ns() // 1_000_000 - 1
    async with service.connect(
        client_id="dev1", username="acme/bob", session_expiry_interval=100, keep_alive=0
    ) as client:
        await client.subscribe(
            Subscription("a/+", 1, no_local=True, retain_as_published=True, retain_handling=1), subscription_id=7
        )
        await client.subscribe("$share/g/b", qos=2)
        await client.subscribe("c", qos=0)
        await client.disconnect()
        await client.expect_closed()
    for topic in ("a/1", "a/2"):
        await service.publish(topic=topic)
    response = await get_inbox(service, req_id="5")
    assert (response.status_code, response.headers["req_id"]) == (200, "5")
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    after_ms = time.time_ns() // 1_000_000 + 1
    created_ms, active_ms = int(answer.pop("createdAt")), int(answer.pop("lastActiveAt"))
    assert before_ms <= created_ms <= active_ms <= after_ms
    assert answer.pop("detachedAt") == str(active_ms)
    assert answer == {
        "limit": 10000,
        "expirySeconds": 100,
        "topicFilters": {
            "a/+": {
                "qos": "AT_LEAST_ONCE",
                "retainAsPublished": True,
                "noLocal": True,
                "retainHandling": "SEND_AT_SUBSCRIBE_IF_NOT_YET_EXISTS",
                "subId": 7,
            },
            "$share/g/b": {"qos": "EXACTLY_ONCE"},
            "c": {},
        },
        "undeliveredMsgCount": "2",
        "dropOldest": False,
        "unfetchedQoS0MsgCount": "0",
    }


async def test_transient_session_shows_its_will_and_no_fields_of_persistent_ones(service: Service) -> None:
    will = Will(topic="gone", payload=b"x", qos=1, retain=True, will_delay_interval=3)
    async with service.connect(client_id="dev1", username="acme/bob", will=will):
        answer = (await get_inbox(service)).json()
    assert answer.pop("createdAt") <= answer.pop("lastActiveAt")
    assert answer == {
        "limit": 10000,
        "will": {"topic": "gone", "qos": "AT_LEAST_ONCE", "isRetain": True, "delaySeconds": 3},
    }


async def test_creation_outlives_a_reconnect(service: Service) -> None:
    async with service.connect(client_id="dev1", username="acme/bob", session_expiry_interval=100):
        created = (await get_inbox(service)).json()["createdAt"]
    async with service.connect(client_id="dev1", username="acme/bob", session_expiry_interval=100, clean_start=False):
        assert (await get_inbox(service)).json()["createdAt"] == created


async def test_creation_outlives_the_process(tmp_path: Path) -> None:
    async with (
        service_with(data={"dir": str(tmp_path)}) as service,
        service.connect(client_id="dev1", username="acme/bob", session_expiry_interval=100) as client,
    ):
        await client.subscribe("a", qos=1)
        created = (await get_inbox(service)).json()["createdAt"]
    async with service_with(data={"dir": str(tmp_path)}) as service:
        restored = (await get_inbox(service)).json()["createdAt"]
    # The clock of the shards begins anew; that of the wall may have been set meanwhile.
    assert abs(int(restored) - int(created)) <= 1000


async def test_session_that_is_not_there_is_no_inbox(service: Service) -> None:
    response = await get_inbox(service)
    assert (response.status_code, response.text) == (404, "NO_INBOX")


@pytest.mark.parametrize("name", KEY)
async def test_each_part_of_the_key_is_required(service: Service, name: str) -> None:
    response = await get_inbox(service, **{name: None})
    assert (response.status_code, response.text) == (400, f"header not found: {name}")
