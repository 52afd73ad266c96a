"""Every parameter of every call, made wrong in every way: what the caller is told, and that nothing happens.

The calls and their parameters are those of /openapi.json, so that one which is new and has no row fails here.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from rookery.core.settings import SETTINGS
from support.service import Service, service_with

from .calls import CALLS, NDJSON, Call
from .wrong import (
    FIELDS,
    FIELDS_OF_ROUTES,
    HEADERS,
    HEADERS_OF_ROUTES,
    PATHS,
    QUERIES,
    SURROGATE,
    Wrong,
)

ACME = "/v1/tenants/acme"
SETTINGS_PATH = "/v1/tenants/{tenant_id}/settings"
JSON = "application/json"
LISTS = (
    f"{ACME}/sessions",
    f"{ACME}/subscriptions",
    f"{ACME}/retained?payload_bytes=100",
    f"{ACME}/retained?payload_bytes=100&topic_filter=$SYS/%23",
    f"{ACME}/rules",
    f"{ACME}/users",
    f"{ACME}/settings",
    f"{ACME}/sessions/bob/away/inbox?payload_bytes=100",
    "/v1/bans",
    "/v1/api-keys",
    "/v1/log-level",
    "/v1/tenants",
)

every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")


@pytest.fixture
async def furnished(tmp_path: Path) -> AsyncIterator[Service]:
    """A broker that has one of everything, and a client that waits for whatever is published."""
    async with furnished_service(tmp_path) as service:
        yield service


@asynccontextmanager
async def furnished_service(folder: Path) -> AsyncIterator[Service]:
    (folder / "backups").mkdir()
    async with (
        service_with(
            data={"dir": str(folder / "data")},
            api={"header_limit_bytes": 262_144, "backup_dir": str(folder / "backups")},
            permissions={"database": True, "default": "allow"},
        ) as service,
        service.connect(client_id="dev1", username="acme/bob", clean_start=True) as client,
    ):
        await client.subscribe("a/+", qos=1)
        async with service.connect(
            client_id="away", username="acme/bob", clean_start=False, session_expiry_interval=1000
        ) as away:
            await away.subscribe("#", qos=1)
        for method, path, body in (
            ("PUT", f"{ACME}/users/bob", {"password": "secret"}),
            ("POST", f"{ACME}/rules", {"effect": "allow", "topic_filter": "#"}),
            ("POST", "/v1/bans", {"kind": "user", "value": "eve", "tenant_id": "acme"}),
            ("POST", "/v1/api-keys", {"name": "ops", "role": "viewer"}),
            ("POST", f"{ACME}/publish", {"topic": "kept", "payload": "x", "retain": True}),
            ("PUT", f"{ACME}/settings", {"MaxTopicLevels": 16}),
            ("POST", "/v1/backups", {"name": "kept"}),
        ):
            answer = await service.http.request(method, path, json=body)
            assert answer.status_code == 200, (path, answer.text)
        while (await service.http.get(f"{ACME}/sessions/bob/away")).json()["is_online"]:  # noqa: ASYNC110
            await trio.sleep(0.001)  # Nothing sets an event.
        yield service


async def filled(service: Service, call: Call) -> Call:
    """The call with what only this broker knows."""
    if "key_id" not in call.names:
        return call
    keys = (await service.http.get("/v1/api-keys")).json()["items"]
    return call.with_name("key_id", keys[0]["key_id"].encode())


async def state_of(service: Service) -> dict[str, Any]:
    """All that a call may change."""
    state = {path: (await service.http.get(path)).json() for path in LISTS}
    backups = trio.Path(service.broker.config.api.backup_dir)
    return {**state, "backups": sorted([path.name for path in await backups.iterdir()])}


def is_told(answer: httpx.Response, wrong: Wrong) -> bool:
    """Is it refused as the row says, in the form that the call answers in?"""
    if answer.status_code != wrong.status or not answer.headers["req_id"]:
        return False
    if answer.headers["content-type"] == "application/problem+json":
        problem = answer.json()
        return problem["status"] == wrong.status and wrong.says in problem["detail"]
    return answer.headers["content-type"].startswith("text/plain") and answer.text.startswith(wrong.says)


async def description(service: Service) -> dict[tuple[str, str], dict[str, Any]]:
    paths = (await service.http.get("/openapi.json")).json()["paths"]
    return {(method.upper(), path): each for path, methods in paths.items() for method, each in methods.items()}


async def test_every_call_has_a_row(service: Service) -> None:
    assert {call.route for call in CALLS} == set(await description(service))


def wrong_calls(call: Call, described: dict[str, Any]) -> Iterator[tuple[str, Wrong, Call]]:
    """The parameter, what is wrong with it, and the call: for all parameters of the description."""
    for parameter in described["parameters"]:
        name = parameter["name"]
        route = (*call.route, name)
        if parameter["in"] == "header":
            rows = HEADERS_OF_ROUTES.get(route) or HEADERS[name]
            yield from ((name, wrong, call.with_header(name, *wrong.values)) for wrong in rows)
        elif parameter["in"] == "query":
            yield from ((name, wrong, call.with_query(name, *wrong.values)) for wrong in QUERIES[name])
        else:
            yield from ((name, wrong, call.with_name(name, wrong.values[0])) for wrong in PATHS[name])
    if call.media_type == NDJSON:
        names = set(MESSAGE_FIELDS)
    else:
        body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        names = set(body.get("properties", ()))
    for name in sorted(names):
        rows = FIELDS_OF_ROUTES.get((*call.route, name)) or FIELDS[name]
        yield from ((name, wrong, call.with_field(name, *wrong.values)) for wrong in rows)


MESSAGE_FIELDS = ("topic", "payload", "payload_base64", "qos", "retain", "expiry_seconds")


@every_call
async def test_wrong_parameter_is_told_and_nothing_happens(furnished: Service, call: Call) -> None:
    described = (await description(furnished))[call.route]
    call = await filled(furnished, call)
    before = await state_of(furnished)
    surprises = []
    for name, wrong, wrong_call in wrong_calls(call, described):
        answer = await wrong_call.send(furnished)
        if not is_told(answer, wrong):
            values = [str(value)[:40] for value in wrong.values]
            told = f"{answer.status_code} {answer.text[:160]}"
            surprises.append(f"{name}: {values}: expected {wrong.status} {wrong.says}, got {told}")
    assert not surprises, "\n".join(surprises)
    assert await state_of(furnished) == before
    # It was right but for what was made wrong.
    if not call.path.endswith("/trace"):  # It does not end by itself.
        answer = await call.send(furnished)
        assert answer.status_code == 200, (call.route, answer.text)


# Settings of tenants are fields, too: those of the table of settings.


def wrong_settings() -> Iterator[tuple[str, Any]]:
    values: tuple[Any, ...]
    for setting in SETTINGS:
        if setting.minimum is None or setting.maximum is None:
            values = ("", "perhaps", [], 1.5, 2, -1)
        else:
            values = ("", "one", [], 1.5, True, setting.minimum - 1, setting.maximum + 1)
        yield from ((setting.name, value) for value in values)
    yield from (("NoSuchSetting", 1), ("", 1), (SURROGATE, 1), ("MaxTopicLevels", SURROGATE))


async def test_wrong_setting_is_told_and_nothing_happens(furnished: Service) -> None:
    put, patch = (next(call for call in CALLS if call.route == (method, SETTINGS_PATH)) for method in ("PUT", "PATCH"))
    before = await state_of(furnished)
    surprises = []
    for place, (name, value) in enumerate(wrong_settings()):
        call = (put, patch)[place % 2]
        answer = await call.with_field(name, value).send(furnished)
        if not is_told(answer, Wrong((value,), name if name != SURROGATE else "body")):
            surprises.append(f"{name}: {value!r}: {answer.status_code} {answer.text[:160]}")
    for call in (put, patch):
        doubled = await call.with_field("MaxTopicLevels", 9, 9).send(furnished)
        assert is_told(doubled, Wrong((), "body.MaxTopicLevels: expected once"))
    assert not surprises, "\n".join(surprises)
    assert await state_of(furnished) == before


# Bodies as a whole.

WITH_BODIES = [call for call in CALLS if call.fields is not None]
NO_OBJECTS: list[tuple[bytes, str]] = [
    (b"", "body: expected JSON in UTF-8"),
    (b"{", "body: expected JSON in UTF-8"),
    (b"\xff", "body: expected JSON in UTF-8"),
    (b'{"name": "\xed\xa0\x80"}', "body: expected JSON in UTF-8"),
    (b"[" * 100_000, "body: expected JSON in UTF-8"),
    (b"[]", "body: Input should be"),
    (b"null", "body: Input should be"),
    (b'"text"', "body: Input should be"),
    (b'{"no such field": 1}', "no such field"),
]


@pytest.mark.parametrize("call", WITH_BODIES, ids=lambda call: f"{call.method} {call.path}")
async def test_body_that_is_none_is_told_and_nothing_happens(furnished: Service, call: Call) -> None:
    is_batch = call.media_type == NDJSON
    limit = furnished.broker.config.api.batch_limit_bytes if is_batch else furnished.broker.config.api.body_limit_bytes
    before = await state_of(furnished)
    for content, says in NO_OBJECTS:
        if is_batch and not content:
            continue  # No line is no message.
        answer = await replace(call, fields=None, content=content, media_type=call.media_type or JSON).send(furnished)
        assert is_told(answer, Wrong((), "line 1" if is_batch else says)), (content[:60], answer.text)
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "é"):
        answer = await replace(call, media_type=media_type).send(furnished)
        says = f"expected the header Content-Type: {call.media_type or JSON}"
        assert is_told(answer, Wrong((), says, 415)), (media_type, answer.text)
    large = await replace(call, fields=None, content=b" " * (limit + 1), media_type=call.media_type or JSON).send(
        furnished
    )
    assert is_told(large, Wrong((), f"the body is larger than {limit} bytes", 413)), large.text
    assert await state_of(furnished) == before
