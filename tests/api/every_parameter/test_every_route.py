"""Every route with what is wrong about no parameter: another method, an unknown tenant, a body that does not come.

The routes are those of /openapi.json.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from support.service import service_with

from .calls import CALLS, Call
from .test_every_parameter import JSON, WITH_BODIES, description, furnished_service, state_of

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
PATHS = sorted({call.path for call in CALLS})

# What a call about a tenant that nobody knows is answered; what sets something makes it known.
UNKNOWN_TENANT: dict[tuple[str, str], int] = {
    ("POST", "/pub"): 200,
    ("DELETE", "/retain"): 200,
    ("GET", "/session"): 404,
    ("DELETE", "/session"): 200,
    ("GET", "/session/inbox"): 404,
    ("DELETE", "/kill"): 404,
    ("PUT", "/sub"): 404,
    ("DELETE", "/unsub"): 404,
    ("GET", "/v1/tenants/{tenant_id}"): 404,
    ("GET", "/v1/tenants/{tenant_id}/connections"): 200,
    ("DELETE", "/v1/tenants/{tenant_id}/connections/{user_id}/{client_id}"): 404,
    ("GET", "/v1/tenants/{tenant_id}/explain"): 200,
    ("POST", "/v1/tenants/{tenant_id}/publish"): 200,
    ("POST", "/v1/tenants/{tenant_id}/publish/batch"): 200,
    ("GET", "/v1/tenants/{tenant_id}/retained"): 200,
    ("GET", "/v1/tenants/{tenant_id}/retained/message"): 404,
    ("DELETE", "/v1/tenants/{tenant_id}/retained/message"): 404,
    ("GET", "/v1/tenants/{tenant_id}/rules"): 200,
    ("GET", "/v1/tenants/{tenant_id}/rules/{rule_id}"): 404,
    ("PUT", "/v1/tenants/{tenant_id}/rules/{rule_id}"): 404,
    ("DELETE", "/v1/tenants/{tenant_id}/rules/{rule_id}"): 404,
    ("GET", "/v1/tenants/{tenant_id}/sessions"): 200,
    ("GET", "/v1/tenants/{tenant_id}/sessions/{user_id}/{client_id}"): 404,
    ("GET", "/v1/tenants/{tenant_id}/sessions/{user_id}/{client_id}/inbox"): 404,
    ("GET", "/v1/tenants/{tenant_id}/sessions/{user_id}/{client_id}/inflight"): 404,
    ("GET", "/v1/tenants/{tenant_id}/sessions/{user_id}/{client_id}/subscriptions"): 404,
    ("GET", "/v1/tenants/{tenant_id}/settings"): 200,
    ("GET", "/v1/tenants/{tenant_id}/subscriptions"): 200,
    ("GET", "/v1/tenants/{tenant_id}/users"): 200,
    ("GET", "/v1/tenants/{tenant_id}/users/{user_id}"): 404,
    ("DELETE", "/v1/tenants/{tenant_id}/users/{user_id}"): 404,
}
MAKE_KNOWN = {
    ("POST", "/retain"),
    ("POST", "/v1/tenants/{tenant_id}/rules"),
    ("PUT", "/v1/tenants/{tenant_id}/settings"),
    ("PATCH", "/v1/tenants/{tenant_id}/settings"),
    ("PUT", "/v1/tenants/{tenant_id}/users/{user_id}"),
    ("GET", "/v1/tenants/{tenant_id}/trace"),  # Follows what may come.
}


def of_unknown_tenant(call: Call) -> Call:
    if "tenant_id" in call.names:
        return call.with_name("tenant_id", b"nobody")
    return call.with_header("tenant_id", b"nobody")


def is_about_a_tenant(call: Call) -> bool:
    return "tenant_id" in call.names or any(name == "tenant_id" for name, _ in call.headers)


async def test_wrong_method_is_told_the_right_ones_and_nothing_happens(tmp_path: Path) -> None:
    async with furnished_service(tmp_path) as service:
        described = await description(service)
        before = await state_of(service)
        for path in PATHS:
            right = {method for method, each in described if each == path}
            call = next(call for call in CALLS if call.path == path)
            for method in set(METHODS) - right:
                answer = await replace(call, method=method).send(service)
                assert answer.status_code == 405, (method, path, answer.text)
                assert "method not allowed" in answer.text
                assert {each.strip() for each in answer.headers["allow"].split(",")} - {"HEAD"} == right, (method, path)
        assert await state_of(service) == before


async def test_unknown_tenant_is_answered_and_not_made(tmp_path: Path) -> None:
    about_tenants = {call.route for call in CALLS if is_about_a_tenant(call)}
    assert about_tenants == UNKNOWN_TENANT.keys() | MAKE_KNOWN
    async with furnished_service(tmp_path) as service:
        before = await state_of(service)
        for call in CALLS:
            if call.route in UNKNOWN_TENANT:
                answer = await of_unknown_tenant(call).send(service)
                assert answer.status_code == UNKNOWN_TENANT[call.route], (call.route, answer.text)
                if answer.status_code == 200 and answer.headers["content-type"] == JSON:
                    assert not answer.json().get("items"), (call.route, answer.text)
        assert await state_of(service) == before


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_body_that_does_not_come_is_given_up_and_nothing_happens(is_chunked: bool) -> None:
    calls = [*WITH_BODIES, *(call for call in CALLS if call.content)]
    async with service_with(api={"request_timeout_s": 0.2, "backup_dir": "backups"}) as service:

        async def ask(call: Call) -> None:
            path = call.path
            for name, value in call.names.items():
                path = path.replace(f"{{{name}}}", value.decode())
            fields = [f"{name}: {value.decode()}" for name, value in call.headers]
            fields += [f"content-type: {call.media_type or JSON}", "host: x"]
            fields.append("transfer-encoding: chunked" if is_chunked else "content-length: 1000")
            head = "\r\n".join([f"{call.method} {path} HTTP/1.1", *fields, "", ""]).encode()
            body = b"1\r\n{\r\n" if is_chunked else b"{"
            async with await service.open_stream() as stream:
                await stream.send_all(head + body)
                received = b"".join([part async for part in stream])
            assert received.startswith(b"HTTP/1.1 408 "), (call.route, received)
            assert b"the request did not arrive in time" in received, call.route
            assert b"connection: close" in received, call.route

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(ask, call)
        for path in ("/v1/tenants", "/v1/bans", "/v1/api-keys"):
            assert (await service.http.get(path)).json()["items"] == []
