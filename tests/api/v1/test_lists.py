"""Lists and looks: tenants, sessions, connections, subscriptions, retained messages, explanations."""

import base64
import time
from typing import Any

import httpx
import pytest

from rookery.api.v1.subscriptions import describe_rights
from rookery.core.pages import Verdicts
from support.service import Service

ACME = "/v1/tenants/acme"


async def get(service: Service, path: str, **query: Any) -> Any:
    response = await service.http.get(path, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


async def all_items(service: Service, path: str, **query: Any) -> list[dict[str, Any]]:
    """The items of all pages."""
    items: list[dict[str, Any]] = []
    for _ in range(1000):
        page = await get(service, path, **query)
        assert len(page["items"]) <= query.get("limit", 100)
        items += page["items"]
        if page["next"] is None:
            return items
        query["cursor"] = page["next"]
    raise AssertionError("the list does not end")


def expect_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["req_id"] == response.headers["req_id"]
    for word in words:
        assert word in response.text


async def test_sessions_and_connections_are_paged(service: Service) -> None:
    async with service.connect(client_id="online", username="acme/bob"):
        for number in range(7):
            async with service.connect(
                client_id=f"off{number}", username="acme/eve", session_expiry_interval=60
            ) as client:
                await client.disconnect()
        found = await all_items(service, f"{ACME}/sessions", limit=2)
        assert sorted(each["client_id"] for each in found) == [*(f"off{number}" for number in range(7)), "online"]
        assert [each["client_id"] for each in await all_items(service, f"{ACME}/connections")] == ["online"]
        assert len(await all_items(service, f"{ACME}/sessions", user_id="eve", limit=3)) == 7
        assert await all_items(service, "/v1/tenants/nobody/sessions") == []


@pytest.mark.parametrize("client_id", ["dev1", "a/b", "100%", "%2F", "ü/%25", "?#;+ "])
async def test_session_is_found_by_any_name(service: Service, client_id: str) -> None:
    quoted = "".join(f"%{byte:02X}" for byte in client_id.encode())
    async with service.connect(client_id=client_id, username="acme/bob", session_expiry_interval=60, keep_alive=9):
        found = await get(service, f"{ACME}/sessions/bob/{quoted}")
        assert (found["client_id"], found["user_id"], found["is_online"]) == (client_id, "bob", True)
        assert (found["session_expiry_interval"], found["keep_alive"]) == (60, 9)
        assert found["detached_at_ms"] is None
        response = await service.http.delete(f"{ACME}/connections/bob/{quoted}")
        assert response.json() == {"disconnected": 1}
    expect_problem(await service.http.delete(f"{ACME}/connections/bob/{quoted}"), 404, "not online")


async def test_session_that_is_not_there_is_a_problem(service: Service) -> None:
    for part in ("", "/subscriptions", "/inbox", "/inflight"):
        expect_problem(await service.http.get(f"{ACME}/sessions/bob/nobody{part}"), 404, "no session")


async def test_subscriptions_are_paged_with_their_options(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        for number in range(5):
            await client.subscribe(f"a/{number}", qos=1)
        await client.subscribe("$share/g/b/+", qos=2)
        for path in (f"{ACME}/subscriptions", f"{ACME}/sessions/bob/c/subscriptions"):
            found = await all_items(service, path, limit=2)
            assert len(found) == 6
            (shared,) = [each for each in found if each["share_name"] is not None]
            assert (shared["share_name"], shared["topic_filter"], shared["qos"]) == ("g", "b/+", 2)


async def test_inbox_is_shown_and_stays(service: Service) -> None:
    async with service.connect(client_id="r", username="acme/bob", session_expiry_interval=60) as client:
        await client.subscribe("a", qos=1)
        await client.disconnect()
    for number in range(3):
        await service.publish(str(number).encode(), topic="a")
    for _ in range(2):
        found = await all_items(service, f"{ACME}/sessions/bob/r/inbox", limit=2, payload_bytes=10)
        assert [base64.b64decode(each["payload"]) for each in found] == [b"0", b"1", b"2"]
    (first, *_) = await all_items(service, f"{ACME}/sessions/bob/r/inbox")
    assert (first["topic"], first["payload"], first["payload_size"]) == ("a", None, 1)
    assert (await get(service, f"{ACME}/sessions/bob/r"))["waiting"] == 3


async def test_message_in_flight_is_shown_with_what_is_due(service: Service) -> None:
    async with service.connect(client_id="r", username="acme/bob", session_expiry_interval=60) as client:
        await client.subscribe("a", qos=2)
        response = await service.http.post(f"{ACME}/publish", json={"topic": "a", "qos": 2})
        assert response.json()["matched"] == 1
        (found,) = await all_items(service, f"{ACME}/sessions/bob/r/inflight")
        assert found["due"] in ("PUBREC", "PUBCOMP")


async def test_retained_messages_are_listed_read_and_removed(service: Service) -> None:
    for number in range(5):
        message = {"topic": f"a/{number}", "payload": "kept", "retain": True, "expiry_seconds": 60}
        response = await service.http.post(f"{ACME}/publish", json=message)
        assert response.json()["retained"] is True
    found = await all_items(service, f"{ACME}/retained", topic_filter="a/+", limit=2)
    assert sorted(each["topic"] for each in found) == [f"a/{number}" for number in range(5)]
    assert await all_items(service, f"{ACME}/retained", topic_filter="b/#") == []
    found = await get(service, f"{ACME}/retained/message", topic="a/3")
    assert base64.b64decode(found["payload"]) == b"kept"
    assert found["expires_at_ms"] - found["stored_at_ms"] == 60_000
    response = await service.http.delete(f"{ACME}/retained/message", params={"topic": "a/3"})
    assert response.json() == {"removed": 1}
    for method in ("GET", "DELETE"):
        response = await service.http.request(method, f"{ACME}/retained/message", params={"topic": "a/3"})
        expect_problem(response, 404, "no retained message")


async def test_explanation_tells_filters_rights_and_the_state_of_a_session(service: Service) -> None:
    rule = {"effect": "deny", "actions": ["publish"], "topic_filter": "a/#", "user_id": "bob"}
    assert (await service.http.post(f"{ACME}/rules", json=rule)).status_code == 200
    async with (
        service.connect(client_id="c", username="acme/bob") as client,
        service.connect(client_id="d", username="acme/eve") as other,
    ):
        await client.subscribe("a/+", qos=1)
        await other.subscribe("a/+")
        await other.subscribe("$share/g/a/b")
        found = await get(service, f"{ACME}/explain", topic="a/b", user_id="bob", client_id="c")
        matches = {each["topic_filter"]: each for each in found["matches"]}
        assert set(matches) == {"a/+", "a/b"}
        assert (matches["a/+"]["sessions"], matches["a/+"]["granted_qos"]) == (2, 1)
        assert (matches["a/b"]["shared_groups"], matches["a/b"]["granted_qos"]) == (1, None)
        decided = {"source": "database", "place": 0, "tenant_id": "acme", "client_id": None, **rule}
        assert found["rights"] == {
            "has_rules": True,
            "publish_qos": None,
            "publish_retain": False,
            "subscribe_qos": 2,
            "publish_rule": decided,
            "subscribe_rule": None,
        }
        drops = {"dropped": 0, "last_drop_reason": None, "last_dropped_at_ms": None}
        assert found["session"] == {"is_online": True, "waiting": 0, "inflight": 0, **drops}
        assert found["is_retained"] is False
        nobody = await get(service, f"{ACME}/explain", topic="a/b")
        assert (nobody["session"], nobody["rights"]) == (None, None)


async def test_explanation_names_the_rule_that_decides_about_subscribing(service: Service) -> None:
    for effect, topic_filter in (("allow", "a/b"), ("deny", "a/#")):
        rule = {"effect": effect, "actions": ["subscribe"], "topic_filter": topic_filter}
        assert (await service.http.post(f"{ACME}/rules", json=rule)).status_code == 200
    async with service.connect(client_id="c", username="acme/bob"):
        for topic, qos, place in (("a/b", 2, 0), ("a/c", None, 1), ("b", 2, None)):
            found = await get(service, f"{ACME}/explain", topic=topic, user_id="bob", client_id="c")
            decided = found["rights"]["subscribe_rule"]
            assert (found["rights"]["subscribe_qos"], decided and decided["place"]) == (qos, place)


async def test_rule_that_came_with_the_client_is_known_by_its_place(service: Service) -> None:
    verdicts = Verdicts(True, 1, True, None, 3, None, rules_identity=1)
    described = describe_rights(service.broker, verdicts)
    unknown = dict.fromkeys(("effect", "actions", "topic_filter", "tenant_id", "user_id", "client_id"))
    assert described["publish_rule"] == {"source": "client", "place": 3, **unknown}
    assert described["subscribe_rule"] is None


async def test_explanation_tells_of_the_last_message_that_was_dropped(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob", maximum_packet_size=30) as client:
        await client.subscribe("a")
        before_ms = time.time_ns() // 1_000_000 - 1
        await service.publish(b"x" * 100, topic="a")
        explained = await get(service, f"{ACME}/explain", topic="a", user_id="bob", client_id="c")
        for told in (explained["session"], await get(service, f"{ACME}/sessions/bob/c")):
            assert (told["dropped"], told["last_drop_reason"]) == (1, "too_large")
            assert before_ms <= told["last_dropped_at_ms"] <= time.time_ns() // 1_000_000 + 1


async def test_tenants_are_listed_with_what_they_have(service: Service) -> None:
    clients = [service.connect(client_id="c", username=f"t{number}/bob") for number in range(5)]
    for client in clients:
        await client.__aenter__()
    found = await all_items(service, "/v1/tenants", limit=1000)
    assert sorted(each["tenant_id"] for each in found) == [f"t{number}" for number in range(5)]
    assert all(each["usage"]["TotalConnections"] == 1 for each in found)
    shown = await get(service, "/v1/tenants/t3")
    assert (shown["sessions"], shown["counters"]["connects"]) == (1, 1)
    assert shown["resources"]["TotalConnections"]["usage"] == 1
    for client in clients:
        await client.__aexit__(None, None, None)
    expect_problem(await service.http.get("/v1/tenants/nobody"), 404, "no such tenant")


async def test_settings_are_put_changed_and_taken_away(service: Service) -> None:
    path = f"{ACME}/settings"
    response = await service.http.put(path, json={"MaxTopicLevels": 3, "RetainEnabled": False})
    assert response.json()["set_here"] == {"MaxTopicLevels": 3, "RetainEnabled": False}
    assert response.json()["in_force"]["MaxTopicLevels"] == 3
    response = await service.http.patch(path, json={"RetainEnabled": None})
    assert response.json()["set_here"] == {"MaxTopicLevels": 3}
    expect_problem(await service.http.patch(path, json={"MaxTopicLevel": 3}), 400, "MaxTopicLevels")
    expect_problem(await service.http.patch(path, json={"MaxTopicLevels": "many"}), 400, "MaxTopicLevels")
    assert (await get(service, path))["set_here"] == {"MaxTopicLevels": 3}
    assert (await service.http.put(path, json={})).json()["set_here"] == {}


LISTS = [
    "/v1/tenants",
    f"{ACME}/sessions",
    f"{ACME}/connections",
    f"{ACME}/subscriptions",
    f"{ACME}/retained",
    f"{ACME}/users",
    f"{ACME}/rules",
    "/v1/bans",
    "/v1/audit",
]


WRONG_QUERIES = [
    ("limit=0", "query.limit"),
    ("limit=-1", "query.limit"),
    ("limit=1001", "query.limit"),
    ("limit=many", "query.limit"),
    ("limit=", "query.limit"),
    ("limit=1&limit=2", "query.limit"),
    ("cursor=%21", "query.cursor"),
    ("cursor=AAA", "query.cursor"),
    ("cursor=%FF", "query"),
    ("frobnicate=1", "query.frobnicate"),
]
FOREIGN_PLACES = [b"\x00", b"\xff" * 3, b"\x00" * 25, b"\xff" * 25, b".a/b/c", b"x" * 30_000]


async def test_wrong_query_of_a_list_is_a_problem_that_names_the_field(service: Service) -> None:
    for path in LISTS:
        for query, field in WRONG_QUERIES:
            expect_problem(await service.http.get(f"{path}?{query}"), 400, field)


async def test_foreign_cursor_does_no_harm(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a/b")
        for path in LISTS:
            for place in FOREIGN_PLACES:
                cursor = base64.urlsafe_b64encode(place).decode()
                response = await service.http.get(path, params={"cursor": cursor})
                assert response.status_code in (200, 400), (path, place[:30])
        await client.ping()


WRONG_PATHS = [
    (f"{ACME}/explain", "empty"),
    (f"{ACME}/explain?topic=a/%2B", "wildcard"),
    (f"{ACME}/explain?topic=a&limit=0", "query.limit"),
    (f"{ACME}/explain?topic=a&x=1", "query.x"),
    (f"{ACME}/retained?topic_filter=", "empty"),
    (f"{ACME}/retained?topic_filter=a%23", "wildcard"),
    (f"{ACME}/retained?topic_filter=$share/g/a", "share"),
    (f"{ACME}/retained?payload_bytes=-1", "query.payload_bytes"),
    (f"{ACME}/retained?payload_bytes=65537", "query.payload_bytes"),
    (f"{ACME}/retained/message", "empty"),
    (f"{ACME}/retained/message?topic=%23", "wildcard"),
    (f"{ACME}/sessions/bob/c/inbox?payload_bytes=x", "query.payload_bytes"),
    (f"{ACME}/sessions/bob/c/inflight?limit=0", "query.limit"),
    (f"{ACME}/trace?topic_filter=a%23", "wildcard"),
    (f"{ACME}/trace?x=1", "query.x"),
]


async def test_wrong_query_is_a_problem(service: Service) -> None:
    for path, field in WRONG_PATHS:
        expect_problem(await service.http.get(path), 400, field)


async def test_wrong_path_and_method_are_problems(service: Service) -> None:
    expect_problem(await service.http.get("/v1/nowhere"), 404)
    response = await service.http.patch(f"{ACME}/sessions")
    expect_problem(response, 405)
    assert "GET" in response.headers["allow"]
