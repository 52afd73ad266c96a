"""Changes: publishing, users, rules, bans, keys, log level, backups; and the live trace."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from rookery.api.v1 import trace
from rookery.api.v1.trace import matches
from rookery.server.events import ClientConnected
from support.mqtt_client import Client
from support.service import Service, service_with

from .test_lists import ACME, all_items, expect_problem, get

NDJSON = {"content-type": "application/x-ndjson"}


async def batch(service: Service, *lines: str | dict[str, Any], **headers: str) -> httpx.Response:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return await service.http.post(f"{ACME}/publish/batch", content=text.encode(), headers={**NDJSON, **headers})


# Publishing.


async def test_message_is_published_with_all_that_was_given(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a/+", qos=2)
        message = {"topic": "a/ü", "payload_base64": "AP8=", "qos": 1, "expiry_seconds": 100}
        response = await service.http.post(f"{ACME}/publish", json=message)
        assert response.json() == {"matched": 1, "queued": 1, "dropped": 0, "dropped_by": {}, "retained": False}
        received = await client.receive_message()
        assert (received.topic, received.payload, received.qos) == ("a/ü", b"\x00\xff", 1)
        assert received.message_expiry_interval in (99, 100)


WRONG_MESSAGES: Any = [
    ({}, "body.topic"),
    ([], "body"),
    ({"topic": 1}, "body.topic"),
    ({"topic": ""}, "body.topic"),
    ({"topic": "a/#"}, "body.topic"),
    ({"topic": "a\0"}, "body.topic"),
    ({"topic": "x" * 70_000}, "body.topic"),
    ({"topic": "a", "qos": 3}, "body.qos"),
    ({"topic": "a", "qos": -1}, "body.qos"),
    ({"topic": "a", "qos": "x"}, "body.qos"),
    ({"topic": "a", "retain": "perhaps"}, "body.retain"),
    ({"topic": "a", "expiry_seconds": 0}, "body.expiry_seconds"),
    ({"topic": "a", "expiry_seconds": 2**31}, "body.expiry_seconds"),
    ({"topic": "a", "payload": 1}, "body.payload"),
    ({"topic": "a", "payload_base64": "*"}, "body.payload_base64"),
    ({"topic": "a", "payload": "x", "payload_base64": "eA=="}, "both"),
    ({"topic": "a", "frobnicate": 1}, "body.frobnicate"),
]


async def test_wrong_message_is_a_problem_that_names_the_field(service: Service) -> None:
    for message, words in WRONG_MESSAGES:
        expect_problem(await service.http.post(f"{ACME}/publish", json=message), 400, words)


NO_JSON: Any = [(b"", 400), (b"{", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b'{"topic":"\\ud800"}', 400)]


async def test_body_that_is_no_json_is_a_problem(service: Service) -> None:
    for content, status in NO_JSON:
        headers = {"content-type": "application/json"}
        expect_problem(await service.http.post(f"{ACME}/publish", content=content, headers=headers), status)


async def test_body_of_another_media_type_is_a_problem(service: Service) -> None:
    for headers in ({}, {"content-type": "text/plain"}):
        response = await service.http.post(f"{ACME}/publish", content=b'{"topic":"a"}', headers=headers)
        expect_problem(response, 415, "application/json")
    response = await service.http.post(f"{ACME}/publish/batch", json={"topic": "a"})
    expect_problem(response, 415, "application/x-ndjson")


async def test_too_large_body_is_a_problem() -> None:
    async with service_with(api={"body_limit_bytes": 100, "batch_limit_bytes": 200}) as service:
        response = await service.http.post(f"{ACME}/publish", json={"topic": "a", "payload": "x" * 100})
        expect_problem(response, 413)
        expect_problem(await batch(service, *[{"topic": "a"}] * 20), 413)


async def test_payload_above_that_of_the_tenant_is_a_problem(service: Service) -> None:
    await service.http.patch(f"{ACME}/settings", json={"MaxUserPayloadBytes": 5})
    expect_problem(
        await service.http.post(f"{ACME}/publish", json={"topic": "a", "payload": "123456"}), 400, "allows 5"
    )


async def test_batch_arrives_whole_and_in_order(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a", qos=0)
        response = await batch(service, *[{"topic": "a", "payload": str(number)} for number in range(1200)], "")
        assert response.json() == {"messages": 1200, "matched": 1200, "queued": 1200, "dropped": 0, "dropped_by": {}}
        for number in range(1200):
            assert (await client.receive_message()).payload == str(number).encode()


async def test_empty_batch_is_none(service: Service) -> None:
    assert (await batch(service)).json()["messages"] == 0


async def test_batch_with_a_wrong_line_publishes_nothing_and_names_the_line(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a")
        for wrong in ('{"topic":"a/#"}', "{", "", '{"topic":"a","qos":9}', '"a"', '{"topic":"a","payload_base64":"*"}'):
            response = await batch(service, {"topic": "a"}, {"topic": "a"}, wrong, {"topic": "a"})
            expect_problem(response, 400, "line 3")
        await service.publish(b"afterwards", topic="a")
        assert (await client.receive_message()).payload == b"afterwards"


async def test_batch_above_the_limit_is_a_problem(service: Service) -> None:
    expect_problem(await batch(service, *['{"topic":"a"}'] * 10_001), 413, "10001 lines")


@pytest.mark.parametrize("shard_count", [1, 3])
async def test_batch_is_retained_and_reaches_all_shards(shard_count: int) -> None:
    async with service_with(shards={"count": shard_count}) as service:
        readers = [service.connect(client_id=f"c{number}", username="acme/bob") for number in range(6)]
        clients: list[Client] = [await reader.__aenter__() for reader in readers]
        for client in clients:
            await client.subscribe("r/#")
        lines = [{"topic": f"r/{number}", "payload": "x", "retain": True, "expiry_seconds": 60} for number in range(4)]
        assert (await batch(service, *lines)).json()["matched"] == 24
        for client in clients:
            assert [(await client.receive_message()).topic for _ in range(4)] == [f"r/{number}" for number in range(4)]
        assert len(await all_items(service, f"{ACME}/retained")) == 4
        for reader in readers:
            await reader.__aexit__(None, None, None)


# Administration.


async def test_users_are_made_changed_listed_and_removed(service: Service) -> None:
    path = f"{ACME}/users"
    made = await service.http.put(f"{path}/bob", json={"password": "secret", "attributes": {"city": "Kyiv"}})
    assert made.json()["has_password"] is True
    assert "secret" not in made.text
    changed = await service.http.put(f"{path}/bob", json={"is_enabled": False})
    assert (changed.json()["attributes"], changed.json()["is_enabled"]) == ({"city": "Kyiv"}, False)
    for name in ("ann", "eve"):
        await service.http.put(f"{path}/{name}", json={})
    assert [each["user_id"] for each in await all_items(service, path, limit=1)] == ["ann", "bob", "eve"]
    assert (await service.http.delete(f"{path}/bob")).json() == {"removed": 1}
    for method in ("GET", "DELETE"):
        expect_problem(await service.http.request(method, f"{path}/bob"), 404, "no such user")
    assert all("secret" not in str(entry) for entry in await service.broker.store.audit.page())


WRONG_USERS: Any = [
    {"password": ""},
    {"password": "x" * 2000},
    {"attributes": []},
    {"attributes": {"a": 1}},
    {"x": 1},
    7,
]


async def test_wrong_user_is_a_problem_and_is_not_made(service: Service) -> None:
    for given in WRONG_USERS:
        expect_problem(await service.http.put(f"{ACME}/users/bob", json=given), 400, "body")
        assert await all_items(service, f"{ACME}/users") == []


async def test_name_that_no_user_can_have_is_a_problem(service: Service) -> None:
    expect_problem(await service.http.put(f"{ACME}/users/a%2Fb", json={}), 400, "user_id")


async def test_rules_are_added_changed_listed_and_removed(service: Service) -> None:
    path = f"{ACME}/rules"
    rules = [{"effect": "deny", "actions": ["publish"], "topic_filter": f"a/{number}"} for number in range(3)]
    ids = [(await service.http.post(path, json=rule)).json()["rule_id"] for rule in rules]
    assert [each["rule_id"] for each in await all_items(service, path, limit=2)] == ids
    changed = await service.http.put(f"{path}/{ids[0]}", json={"effect": "allow", "topic_filter": "%c/#", "max_qos": 1})
    assert (changed.json()["topic_filter"], changed.json()["max_qos"]) == ("%c/#", 1)
    assert (await get(service, f"{path}/{ids[0]}"))["effect"] == "allow"
    assert (await service.http.delete(f"{path}/{ids[0]}")).json() == {"removed": 1}
    for method in ("GET", "DELETE"):
        expect_problem(await service.http.request(method, f"{path}/{ids[0]}"), 404)
        expect_problem(await service.http.request(method, f"/v1/tenants/other/rules/{ids[1]}"), 404)
    assert len(await all_items(service, path)) == 2


WRONG_RULES: Any = [
    ({}, "body.effect"),
    ({"effect": "perhaps", "topic_filter": "a"}, "body.effect"),
    ({"effect": "allow"}, "body.topic_filter"),
    ({"effect": "allow", "topic_filter": "a#"}, "a#"),
    ({"effect": "allow", "topic_filter": "%x"}, "%x"),
    ({"effect": "allow", "topic_filter": "$share/g/a"}, "share"),
    ({"effect": "allow", "topic_filter": "a", "actions": []}, "body.actions"),
    ({"effect": "allow", "topic_filter": "a", "actions": ["fly"]}, "body.actions"),
    ({"effect": "allow", "topic_filter": "a", "max_qos": 3}, "body.max_qos"),
    ({"effect": "deny", "topic_filter": "a", "max_qos": 1}, "max_qos"),
    ({"effect": "allow", "topic_filter": "a", "position": 2**60}, "body.position"),
]


async def test_wrong_rule_is_a_problem_and_is_not_kept(service: Service) -> None:
    for rule, words in WRONG_RULES:
        expect_problem(await service.http.post(f"{ACME}/rules", json=rule), 400, words)
        assert await all_items(service, f"{ACME}/rules") == []


async def test_bans_are_put_listed_and_lifted(service: Service) -> None:
    for number in range(3):
        ban = {"kind": "client", "value": f"c{number}", "tenant_id": "acme", "expires_at_s": 2**35}
        assert (await service.http.post("/v1/bans", json=ban)).status_code == 200
    found = await all_items(service, "/v1/bans", limit=2)
    assert [each["value"] for each in found] == ["c0", "c1", "c2"]
    assert (await service.http.delete(f"/v1/bans/{found[0]['ban_id']}")).json() == {"removed": 1}
    expect_problem(await service.http.delete(f"/v1/bans/{found[0]['ban_id']}"), 404)
    assert len(await all_items(service, "/v1/bans")) == 2


WRONG_BANS: Any = [
    {"kind": "client", "value": "c"},
    {"kind": "address", "value": "not an address"},
    {"kind": "address", "value": "::1", "tenant_id": "acme"},
    {"kind": "tenant", "value": ""},
    {"kind": "planet", "value": "x"},
    {"kind": "tenant", "value": "x", "expires_at_s": -1},
]


async def test_wrong_ban_is_a_problem(service: Service) -> None:
    for ban in WRONG_BANS:
        expect_problem(await service.http.post("/v1/bans", json=ban), 400)


async def test_keys_of_one_tenant_see_and_change_its_bans_only() -> None:
    async with service_with(api={"require_key": True, "admin_key": "k" * 40}) as service:
        admin = {"authorization": "Bearer " + "k" * 40}
        made = await service.http.post(
            "/v1/api-keys", json={"name": "n", "role": "admin", "tenant_id": "acme"}, headers=admin
        )
        own = {"authorization": f"Bearer {made.json()['key']}"}
        foreign = {"kind": "user", "value": "bob", "tenant_id": "other"}
        ban = await service.http.post("/v1/bans", json=foreign, headers=admin)
        expect_problem(await service.http.post("/v1/bans", json=foreign, headers=own), 403)
        expect_problem(await service.http.post("/v1/bans", json={"kind": "address", "value": "::1"}, headers=own), 403)
        assert (await service.http.get("/v1/bans", headers=own)).json()["items"] == []
        expect_problem(await service.http.delete(f"/v1/bans/{ban.json()['ban_id']}", headers=own), 404)
        listed = (await service.http.get("/v1/tenants", headers=own)).json()["items"]
        assert [each["tenant_id"] for each in listed] == ["acme"]
        # A key that is revoked is refused at once.
        assert (await service.http.get("/v1/tenants", headers=own)).status_code == 200
        key_id = made.json()["key_id"]
        assert (await service.http.delete(f"/v1/api-keys/{key_id}", headers=admin)).json() == {"removed": 1}
        expect_problem(await service.http.get("/v1/tenants", headers=own), 401)
        keys = await service.http.get("/v1/api-keys", headers=admin)
        assert keys.json()["items"] == []
        audit = (await service.http.get("/v1/audit", params={"limit": 2}, headers=admin)).json()
        assert len(audit["items"]) == 2
        assert audit["items"][0]["action"] == f"DELETE /v1/api-keys/{key_id}"
        older = await service.http.get("/v1/audit", params={"cursor": audit["next"]}, headers=admin)
        assert all(entry["entry_id"] < audit["items"][1]["entry_id"] for entry in older.json()["items"])


@pytest.fixture
def _log_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.mark.usefixtures("_log_level")
async def test_log_level_is_shown_and_changed(service: Service) -> None:
    assert (await service.http.put("/v1/log-level", json={"level": "error"})).json() == {"level": "error"}
    assert await get(service, "/v1/log-level") == {"level": "error"}
    expect_problem(await service.http.put("/v1/log-level", json={"level": "loud"}), 400, "body.level")


async def test_listeners_and_plugins_are_listed() -> None:
    async with service_with(listeners={"web": {"kind": "ws", "bind": "127.0.0.1:0"}}) as service:
        found = {each["name"]: each for each in await all_items(service, "/v1/listeners")}
        assert found["mqtt"]["address"] == str(service.broker.mqtt_address)
        assert (found["web"]["kind"], found["web"]["admitted"]) == ("ws", 0)
        assert await all_items(service, "/v1/plugins") == []


async def test_backup_is_made_while_the_broker_runs(tmp_path: Path) -> None:
    sections = {"data": {"dir": str(tmp_path / "data")}, "api": {"backup_dir": str(tmp_path / "backups")}}
    await trio.Path(tmp_path / "backups").mkdir()
    async with service_with(**sections) as service:
        made = await service.http.post("/v1/backups", json={"name": "first"})
        assert made.status_code == 200, made.text
        assert made.json()["directory"] == str(tmp_path / "backups" / "first")
        expect_problem(await service.http.post("/v1/backups", json={"name": "first"}), 409)
        for name in ("../x", "/x", ".", "a/b", "x" * 101):
            expect_problem(await service.http.post("/v1/backups", json={"name": name}), 400, "body.name")


async def test_backup_without_a_place_is_a_problem(service: Service) -> None:
    expect_problem(await service.http.post("/v1/backups", json={}), 409, "api.backup_dir")


async def test_restore_puts_back_what_administrators_keep_and_is_at_once_in_force(tmp_path: Path) -> None:
    sections = {
        "data": {"dir": str(tmp_path / "data")},
        "api": {"backup_dir": str(tmp_path / "backups")},
        "permissions": {"database": True},
        "authentication": {"chain": ["users"]},
    }
    rule = {"effect": "deny", "actions": ["publish"], "topic_filter": "a"}
    ban = {"kind": "client", "tenant_id": "acme", "value": "c"}
    async with service_with(**sections) as service:
        http = service.http
        for path, body in (
            (f"{ACME}/users/bob", {"password": "first"}),
            (f"{ACME}/settings", {"MaxTopicLevels": 7}),
        ):
            assert (await http.put(path, json=body)).status_code == 200
        assert (await http.post(f"{ACME}/rules", json=rule)).status_code == 200
        assert (await http.post("/v1/bans", json=ban)).status_code == 200
        key = (await http.post("/v1/api-keys", json={"name": "k", "role": "viewer"})).json()
        assert (await http.post("/v1/backups", json={"name": "b"})).status_code == 200

        assert (await http.put(f"{ACME}/users/bob", json={"password": "second"})).status_code == 200
        assert (await http.put(f"{ACME}/users/eve", json={"password": "third"})).status_code == 200
        assert (await http.put(f"{ACME}/settings", json={"MaxTopicLevels": 9})).status_code == 200
        assert (await http.put("/v1/tenants/other/settings", json={"MaxTopicLevels": 8})).status_code == 200
        for path in (f"{ACME}/rules", "/v1/bans"):
            for each in await all_items(service, path):
                number = each.get("rule_id", each.get("ban_id"))
                assert (await http.delete(f"{path}/{number}")).status_code == 200
        assert (await http.delete(f"/v1/api-keys/{key['key_id']}")).status_code == 200

        restored = await http.post("/v1/backups/b/restore")
        assert restored.status_code == 200, restored.text
        assert restored.json() == {"users": 1, "rules": 1, "settings": 1, "api_keys": 1, "bans": 1}
        assert [user["user_id"] for user in await all_items(service, f"{ACME}/users")] == ["bob"]
        assert [each["topic_filter"] for each in await all_items(service, f"{ACME}/rules")] == ["a"]
        assert [each["value"] for each in await all_items(service, "/v1/bans")] == ["c"]
        assert [each["name"] for each in await all_items(service, "/v1/api-keys")] == ["k"]
        assert service.broker.stored_settings.values("acme") == {"MaxTopicLevels": 7}
        assert service.broker.stored_settings.values("other") == {}
        assert len(service.broker.bans) == 1
        audited = [entry["action"] for entry in await all_items(service, "/v1/audit")]
        assert audited[0] == "POST /v1/backups/b/restore"
        assert "PUT /v1/tenants/acme/users/eve" in audited
        async with service.connect(client_id="d", username="acme/bob", password=b"first"):
            explained = await get(service, f"{ACME}/explain", topic="a", user_id="bob", client_id="d")
            assert explained["rights"]["publish_qos"] is None


async def test_restore_of_what_is_no_backup_changes_nothing(tmp_path: Path) -> None:
    sections = {"data": {"dir": str(tmp_path / "data")}, "api": {"backup_dir": str(tmp_path / "backups")}}
    async with service_with(**sections) as service:
        assert (await service.http.put(f"{ACME}/users/bob", json={"password": "x"})).status_code == 200
        assert (await service.http.post("/v1/backups", json={"name": "b"})).status_code == 200
        assert (await service.http.put(f"{ACME}/users/eve", json={"password": "x"})).status_code == 200
        expect_problem(await service.http.post("/v1/backups/b/restore", content=b"x"), 400, "body")
        for name in ("c", "..", "%2e%2e%2fdata", "x" * 101):
            expect_problem(await service.http.post(f"/v1/backups/{name}/restore"), 404)
        database = trio.Path(tmp_path / "backups" / "b" / "admin.db")
        content = await database.read_bytes()
        await database.write_bytes(content[:-1] + b"?")
        expect_problem(await service.http.post("/v1/backups/b/restore"), 409, "not as it was when the backup was made")
        await database.unlink()
        expect_problem(await service.http.post("/v1/backups/b/restore"), 409, "missing")
        assert [user["user_id"] for user in await all_items(service, f"{ACME}/users")] == ["bob", "eve"]


async def test_restore_without_a_place_is_a_problem(service: Service) -> None:
    expect_problem(await service.http.post("/v1/backups/b/restore"), 409, "api.backup_dir")


# The trace.


async def test_trace_follows_a_client_and_nobody_else(service: Service) -> None:
    received = b""
    with trio.fail_after(10):
        async with await service.open_stream() as stream:
            await stream.send_all(f"GET {ACME}/trace?client_id=c HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            while b": following" not in received:
                received += await stream.receive_some()
            async with (
                service.connect(client_id="other", username="acme/bob"),
                service.connect(client_id="c", username="other/bob"),
                service.connect(client_id="c", username="acme/bob") as client,
            ):
                await client.subscribe("a")
            while b"ClientDisconnected" not in received.rpartition(b"data: ")[0]:
                received += await stream.receive_some()
    assert b"text/event-stream" in received
    lines = [line.strip() for line in received.decode().splitlines()]
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert {"ClientConnected", "SessionStarted", "Subscribed", "ClientDisconnected"} <= set(events)
    for line in lines:
        if line.startswith("data: ") and line.endswith("}"):
            fields = json.loads(line.removeprefix("data: "))
            assert (fields["tenant_id"], fields["client_id"]) == ("acme", "c")


async def test_trace_that_nobody_follows_any_more_ends(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "SIGN_OF_LIFE_S", 0.05)  # Only writing tells that a client has gone.
    with trio.fail_after(10):
        async with await service.open_stream() as stream:
            await stream.send_all(f"GET {ACME}/trace HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await stream.receive_some()
            while not service.broker.events.is_wanted(ClientConnected):
                await trio.lowlevel.checkpoint()
        while service.broker.events.is_wanted(ClientConnected):
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("+/b", "/b", True),
        ("#", None, False),
    ],
)
def test_topic_of_an_event_is_matched_as_a_subscription(topic_filter: str, topic: str | None, expected: bool) -> None:
    assert matches(topic_filter.split("/"), topic) is expected
