"""Who may call what: keys, roles, tenants, rates."""

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from rookery.api import key_ring
from rookery.api.access import check_routes
from rookery.api.cli import main
from rookery.api.key_ring import KeyRing, check_keys
from rookery.api.rate_limit import RateLimit
from rookery.api.rights import RIGHTS, Right, Role, Scope, access_of
from rookery.server.exit_code import ExitCode
from rookery.server.serve import FrontError
from rookery.server.store import open_store
from support.own_broker import make_config
from support.process import rookery_command, run_process
from support.service import Service, service_with

ADMIN_KEY = "the administrator's own key, long enough"
CALLERS = [(role, tenant) for role in Role for tenant in (None, "acme", "other")]


@dataclass
class Guarded:
    """A service that asks for keys, and one key of each kind."""

    service: Service
    keys: dict[tuple[Role, str | None], str]

    async def call(self, method: str, path: str, key: str | None, **headers: str) -> httpx.Response:
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return await self.service.http.request(method, path, headers=headers)


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    async with service_with(api={"require_key": True, "admin_key": ADMIN_KEY}) as service:
        table = service.broker.store.api_keys
        keys = {
            (role, tenant): (await table.create(f"{role} of {tenant}", role=role, tenant_id=tenant))[0]
            for role, tenant in CALLERS
        }
        yield Guarded(service, keys)


def routes(service: Service) -> list[tuple[str, str, Right, Scope]]:
    """Method, path, right and scope of everything that can be called."""
    found = []
    for rule in service.app.url_map.iter_rules():
        access = access_of(service.app.view_functions[rule.endpoint])
        assert access is not None
        path = re.sub(r"<int:[^>]*>", "7", rule.rule.replace("<name:tenant_id>", "acme"))
        path = re.sub(r"<[^>]*>", "x", path)
        found += [
            (method, path, access.right, access.scope)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        ]
    assert len(found) > 10
    return found


async def test_every_route_asks_for_a_key_but_health(guarded: Guarded) -> None:
    for method, path, right, _ in routes(guarded.service):
        response = await guarded.call(method, path, None, tenant_id="acme")
        if right is Right.NONE:
            assert response.status_code != 401, path
        else:
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == "Bearer"
            assert "Bearer" in response.text


@pytest.mark.parametrize("caller", CALLERS, ids=str)
async def test_every_route_lets_in_whom_role_and_tenant_allow(
    guarded: Guarded, caller: tuple[Role, str | None]
) -> None:
    role, tenant = caller
    for method, path, right, scope in routes(guarded.service):
        if path.endswith("/trace"):
            continue  # It does not end by itself.
        response = await guarded.call(method, path, guarded.keys[caller], tenant_id="acme")
        is_allowed = right is Right.NONE or right in RIGHTS[role]
        if tenant == "other" and scope in (Scope.HEADER, Scope.PATH):
            is_allowed = is_allowed and right is Right.NONE
        if tenant is not None and scope is Scope.BROKER:
            is_allowed = is_allowed and right is Right.NONE
        assert (response.status_code != 403) is is_allowed, (method, path, response.text)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer  x y",
        "Basic YTpi",
        "Bearer rookery_wrong",
        "Bearer é".encode().decode("latin-1"),
        "x" * 5000,
    ],
)
async def test_wrong_key_is_refused_in_words(guarded: Guarded, value: str) -> None:
    response = await guarded.service.http.get("/metrics", headers={b"authorization": value.encode("latin-1")})
    assert response.status_code == 401
    assert "API key" in response.text


async def test_doubled_authorization_is_refused(guarded: Guarded) -> None:
    key = guarded.keys[Role.ADMIN, None]
    headers = [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")]
    assert (await guarded.service.http.get("/metrics", headers=headers)).status_code == 401


async def test_refused_call_has_no_effect(guarded: Guarded) -> None:
    async with guarded.service.connect(client_id="dev1", username="acme/bob") as client:
        response = await guarded.call(
            "DELETE", "/kill", guarded.keys[Role.PUBLISHER, "acme"], tenant_id="acme", client_type="t"
        )
        assert response.status_code == 403
        await client.ping()


async def test_tenant_of_a_key_is_compared_after_decoding(guarded: Guarded) -> None:
    key = guarded.keys[Role.PUBLISHER, "acme"]
    headers = {"topic": "a", "qos": "0", "client_type": "t"}
    assert (await guarded.call("POST", "/pub", key, **headers, **{"Tenant-Id": "ac%6De"})).status_code == 200
    assert (await guarded.call("POST", "/pub", key, **headers, tenant_id="acm%65%65")).status_code == 403
    assert (await guarded.call("POST", "/pub", key, **headers)).status_code == 400


async def test_key_of_the_configuration_may_do_everything(guarded: Guarded) -> None:
    assert (await guarded.call("GET", "/metrics", ADMIN_KEY)).status_code == 200


async def test_expired_and_revoked_keys_are_refused(guarded: Guarded) -> None:
    table = guarded.service.broker.store.api_keys
    expired, _ = await table.create("old", role="admin", expires_at_s=1)
    assert (await guarded.call("GET", "/metrics", expired)).status_code == 401
    key, kept = await table.create("short", role="admin")
    ring = KeyRing(table)
    assert await ring.find(key) is not None
    await table.remove(kept.key_id)
    ring.forget()
    assert await ring.find(key) is None


async def test_key_that_is_made_meanwhile_holds_without_a_restart(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.0)
    key, _ = await guarded.service.broker.store.api_keys.create("new", role="viewer")
    assert (await guarded.call("GET", "/metrics", key)).status_code == 200


async def test_unknown_role_in_the_database_lets_nobody_in(guarded: Guarded) -> None:
    key, _ = await guarded.service.broker.store.api_keys.create("odd", role="emperor")
    assert (await guarded.call("GET", "/metrics", key)).status_code == 401


def test_database_keeps_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["api-key", "create", "k", "--role", "admin", "--data", str(tmp_path)]) == ExitCode.OK
    key = capsys.readouterr().out.strip().encode()
    assert all(key not in file.read_bytes() for file in tmp_path.iterdir())


async def test_route_that_says_nothing_is_refused_at_the_start(service: Service) -> None:
    @service.app.get("/forgotten")
    async def forgotten() -> str:
        return ""

    with pytest.raises(TypeError, match="forgotten"):
        check_routes(service.app)


# Rates.


async def test_requests_above_the_rate_are_refused_with_the_time_to_wait() -> None:
    async with service_with(api={"requests_per_second": 3}) as service:
        statuses = [(await service.http.get("/metrics")).status_code for _ in range(10)]
        assert statuses[:3] == [200] * 3
        assert 429 in statuses
        refused = await service.http.get("/metrics")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert (await service.http.get("/healthz")).status_code == 200


async def test_rate_is_that_of_each_caller(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(2)
    assert [limit.take("a") for _ in range(2)] == [0, 0]
    assert limit.take("a") == pytest.approx(0.5)
    assert limit.take("b") == 0
    await trio.sleep(0.5)
    assert limit.take("a") == 0
    assert limit.take("a") > 0


async def test_rate_below_one_a_second_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(0.1)
    assert limit.take("a") == 0
    assert limit.take("a") == pytest.approx(10)
    await trio.sleep(10)
    assert limit.take("a") == 0


# The audit log.


async def test_changes_are_written_down_with_who_did_them(guarded: Guarded) -> None:
    key = guarded.keys[Role.ADMIN, "acme"]
    await guarded.call("DELETE", "/kill", key, tenant_id="acme", user_id="bob", client_type="t", req_id="7")
    (entry,) = await guarded.service.broker.store.audit.page()
    assert (entry.actor, entry.action, entry.tenant_id) == ("admin of acme", "DELETE /kill", "acme")
    assert entry.target == "user_id=bob"
    assert (entry.detail["status"], entry.detail["req_id"], entry.detail["from"]) == (404, "7", "127.0.0.1")
    assert key not in repr(entry)


async def test_reading_and_publishing_are_not_written_down(guarded: Guarded) -> None:
    key = guarded.keys[Role.ADMIN, None]
    await guarded.call("GET", "/session", key, tenant_id="acme", user_id="bob", client_id="c")
    await guarded.call("POST", "/pub", key, tenant_id="acme", topic="a", qos="0", client_type="t")
    assert await guarded.service.broker.store.audit.page() == []


async def test_refused_change_of_a_known_caller_is_written_down(guarded: Guarded) -> None:
    await guarded.call("DELETE", "/kill", guarded.keys[Role.VIEWER, None], tenant_id="acme", client_type="t")
    (entry,) = await guarded.service.broker.store.audit.page()
    assert (entry.actor, entry.detail["status"]) == ("viewer of None", 403)


async def test_audit_log_that_cannot_be_written_does_not_undo_the_change(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rookery.server.store import StoreUnavailable

    async def fail(*entries: object) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(service.broker.store.audit, "add", fail)
    headers = {"tenant_id": "acme", "expiry_seconds": "5"}
    assert (await service.http.request("DELETE", "/session", headers=headers)).status_code == 200


# The start.


async def test_open_address_without_a_key_is_refused() -> None:
    config = make_config(api={"bind": "0.0.0.0:0", "require_key": True})
    async with open_store(None) as store:
        with pytest.raises(FrontError, match="api-key create"):
            await check_keys(KeyRing(store.api_keys), config)
        await check_keys(KeyRing(store.api_keys, ADMIN_KEY), config)
        await store.api_keys.create("k", role="viewer")
        await check_keys(KeyRing(store.api_keys), config)


async def test_loopback_address_without_a_key_serves() -> None:
    async with open_store(None) as store:
        await check_keys(KeyRing(store.api_keys), make_config(api={"require_key": True}))


def test_process_that_other_machines_could_reach_without_a_key_does_not_start(tmp_path: Path) -> None:
    arguments = ("--mqtt", "127.0.0.1:0", "--api", "0.0.0.0:0", "--data", str(tmp_path))
    with run_process(*rookery_command("serve", *arguments)) as process:
        assert process.wait(20) == ExitCode.CONFIG
        assert "api.require_key" in str(process.stderr)


# The command.


def keys_in(directory: Path) -> list[tuple[str, str, str | None]]:
    with sqlite3.connect(directory / "admin.db") as connection:
        return connection.execute("SELECT name, role, tenant_id FROM api_keys ORDER BY name").fetchall()


def test_keys_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(tmp_path)]
    assert main(["api-key", "create", "ops", "--role", "admin", *data]) == ExitCode.OK
    assert main(["api-key", "create", "app", "--role", "publisher", "--tenant", "acme", "--days", "7", *data]) == 0
    printed = capsys.readouterr().out.split()
    assert len(printed) == 2
    assert all(key.startswith("rookery_") for key in printed)
    assert keys_in(tmp_path) == [("app", "publisher", "acme"), ("ops", "admin", None)]
    assert main(["api-key", "list", *data]) == ExitCode.OK
    listed = capsys.readouterr().out
    assert "acme" in listed
    assert not any(key in listed for key in printed)
    key_id = listed.splitlines()[0].split()[0]
    assert main(["api-key", "revoke", key_id, *data]) == ExitCode.OK
    assert len(keys_in(tmp_path)) == 1
    assert main(["api-key", "revoke", key_id, *data]) == ExitCode.USAGE
    assert key_id in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "k"],
        ["create", "k", "--role", "emperor"],
        ["create", "", "--role", "admin"],
        ["create", "k", "--role", "admin", "--tenant", ""],
        ["create", "k", "--role", "admin", "--days", "0"],
        ["create", "k", "--role", "admin", "--days", "many"],
        ["revoke"],
    ],
)
def test_mistyped_key_command_is_refused_and_makes_no_key(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["api-key", *arguments, "--data", str(tmp_path)]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("rookery: ")
    assert not (tmp_path / "admin.db").exists()


async def test_key_of_the_command_opens_a_broker_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with AsyncExitStack() as stack:
        sections = {"api": {"require_key": True}, "data": {"dir": str(tmp_path)}}
        service = await stack.enter_async_context(service_with(**sections))
        arguments = ["api-key", "create", "ops", "--role", "viewer", "--data", str(tmp_path)]
        assert await trio.to_thread.run_sync(main, arguments) == ExitCode.OK
        headers = {"authorization": f"Bearer {capsys.readouterr().out.strip()}"}
        assert (await service.http.get("/metrics", headers=headers)).status_code == 200
