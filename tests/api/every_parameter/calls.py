"""A call of each route that is right as it is: what the tests of its parameters make wrong, one at a time."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from support.service import Service

Pairs = tuple[tuple[str, bytes], ...]
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Call:
    """A request in parts; places in path are filled from names."""

    method: str
    path: str
    names: dict[str, bytes] = field(default_factory=dict)  # of the path, percent-encoded
    query: Pairs = ()
    headers: Pairs = ()
    fields: tuple[tuple[str, Any], ...] | None = None  # of a JSON body; a name may come twice
    content: bytes = b""
    media_type: str | None = None

    @property
    def route(self) -> tuple[str, str]:
        return self.method, self.path

    def with_header(self, name: str, *values: bytes) -> "Call":
        return replace(self, headers=_with(self.headers, name, values))

    def with_query(self, name: str, *values: bytes) -> "Call":
        return replace(self, query=_with(self.query, name, values))

    def with_field(self, name: str, *values: Any) -> "Call":
        assert self.fields is not None
        others = tuple((each, value) for each, value in self.fields if each != name)
        return replace(self, fields=(*others, *((name, value) for value in values)))

    def with_name(self, name: str, value: bytes) -> "Call":
        return replace(self, names={**self.names, name: value})

    def body(self) -> bytes:
        if self.fields is None:
            return self.content
        members = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in self.fields)
        return f"{{{', '.join(members)}}}".encode()

    async def send(self, service: Service) -> httpx.Response:
        path = self.path
        for name, value in self.names.items():
            path = path.replace(f"{{{name}}}", value.decode("ascii"))
        query = b"&".join(name.encode() + b"=" + value for name, value in self.query)
        raw_path = path.encode() + (b"?" + query if query else b"")
        headers = [(name.encode(), value) for name, value in self.headers]
        media_type = self.media_type
        if media_type is None and self.fields is not None:
            media_type = "application/json"
        if media_type is not None:
            headers.append((b"content-type", media_type.encode()))
        # As it is: httpx would put it right, and takes no URL that is long.
        return await service.http.request(
            self.method, "/", headers=headers, content=self.body(), extensions={"target": raw_path}
        )


def _with(pairs: Pairs, name: str, values: tuple[bytes, ...]) -> Pairs:
    others = tuple((each, value) for each, value in pairs if each != name)
    return (*others, *((name, value) for value in values))


def _headers(**values: str) -> Pairs:
    return tuple((name, value.encode()) for name, value in values.items())


_ACME = "/v1/tenants/{tenant_id}"
_SESSION = {"tenant_id": "acme", "user_id": "bob", "client_id": "dev1"}
_TENANT = {"tenant_id": b"acme"}
_DEVICE = {"tenant_id": b"acme", "user_id": b"bob", "client_id": b"dev1"}
_RULE = (("effect", "allow"), ("topic_filter", "a/#"))


def _page(path: str, **query: str) -> Call:
    filled = {name: value for name, value in _DEVICE.items() if f"{{{name}}}" in path}
    pairs = (("limit", b"10"), *((name, value.encode()) for name, value in query.items()))
    return Call("GET", path, filled, pairs)


CALLS = [
    Call("POST", "/pub", headers=_headers(tenant_id="acme", topic="a/b", qos="1", client_type="test"), content=b"x"),
    Call("POST", "/retain", headers=_headers(tenant_id="acme", topic="a/b", qos="1", client_type="test"), content=b"x"),
    Call("DELETE", "/retain", headers=_headers(tenant_id="acme", expiry_seconds="0")),
    Call("GET", "/session", headers=_headers(**_SESSION)),
    Call("DELETE", "/session", headers=_headers(tenant_id="acme", expiry_seconds="0")),
    Call("GET", "/session/inbox", headers=_headers(**_SESSION)),
    Call("DELETE", "/kill", headers=_headers(**_SESSION, client_type="test")),
    Call("PUT", "/sub", headers=_headers(**_SESSION, topic_filter="c/+", sub_qos="1")),
    Call("DELETE", "/unsub", headers=_headers(**_SESSION, topic_filter="a/+")),
    Call("GET", "/healthz"),
    Call("GET", "/readyz"),
    Call("GET", "/metrics"),
    Call("GET", "/v1/api-keys"),
    Call("POST", "/v1/api-keys", fields=(("name", "ops"), ("role", "viewer"))),
    Call("DELETE", "/v1/api-keys/{key_id}", {"key_id": b"filled-in-later"}),
    _page("/v1/audit"),
    Call("POST", "/v1/backups", fields=(("name", "first"),)),
    Call("POST", "/v1/backups/{name}/restore", {"name": b"kept"}),
    _page("/v1/bans"),
    Call("POST", "/v1/bans", fields=(("kind", "user"), ("value", "eve"), ("tenant_id", "acme"))),
    Call("DELETE", "/v1/bans/{ban_id}", {"ban_id": b"1"}),
    Call("GET", "/v1/listeners"),
    Call("GET", "/v1/log-level"),
    Call("PUT", "/v1/log-level", fields=(("level", "warning"),)),
    Call("GET", "/v1/plugins"),
    _page("/v1/tenants"),
    Call("GET", _ACME, _TENANT),
    _page(f"{_ACME}/connections"),
    Call("DELETE", f"{_ACME}/connections/{{user_id}}/{{client_id}}", _DEVICE),
    Call("GET", f"{_ACME}/explain", _TENANT, (("topic", b"a/b"), ("user_id", b"bob"), ("client_id", b"dev1"))),
    Call("POST", f"{_ACME}/publish", _TENANT, fields=(("topic", "a/b"),)),
    Call("POST", f"{_ACME}/publish/batch", _TENANT, fields=(("topic", "a/b"),), media_type=NDJSON),
    _page(f"{_ACME}/retained"),
    Call("GET", f"{_ACME}/retained/message", _TENANT, (("topic", b"kept"),)),
    Call("DELETE", f"{_ACME}/retained/message", _TENANT, (("topic", b"kept"),)),
    _page(f"{_ACME}/rules"),
    Call("POST", f"{_ACME}/rules", _TENANT, fields=_RULE),
    Call("GET", f"{_ACME}/rules/{{rule_id}}", {**_TENANT, "rule_id": b"1"}),
    Call("PUT", f"{_ACME}/rules/{{rule_id}}", {**_TENANT, "rule_id": b"1"}, fields=_RULE),
    Call("DELETE", f"{_ACME}/rules/{{rule_id}}", {**_TENANT, "rule_id": b"1"}),
    _page(f"{_ACME}/sessions"),
    Call("GET", f"{_ACME}/sessions/{{user_id}}/{{client_id}}", _DEVICE),
    _page(f"{_ACME}/sessions/{{user_id}}/{{client_id}}/inbox"),
    _page(f"{_ACME}/sessions/{{user_id}}/{{client_id}}/inflight"),
    _page(f"{_ACME}/sessions/{{user_id}}/{{client_id}}/subscriptions"),
    Call("GET", f"{_ACME}/settings", _TENANT),
    Call("PUT", f"{_ACME}/settings", _TENANT, fields=(("MaxTopicLevels", 9),)),
    Call("PATCH", f"{_ACME}/settings", _TENANT, fields=(("MaxTopicLevels", 9),)),
    _page(f"{_ACME}/subscriptions"),
    Call("GET", f"{_ACME}/trace", _TENANT),
    _page(f"{_ACME}/users"),
    Call("GET", f"{_ACME}/users/{{user_id}}", {**_TENANT, "user_id": b"bob"}),
    Call("PUT", f"{_ACME}/users/{{user_id}}", {**_TENANT, "user_id": b"bob"}, fields=(("password", "secret"),)),
    Call("DELETE", f"{_ACME}/users/{{user_id}}", {**_TENANT, "user_id": b"bob"}),
]
