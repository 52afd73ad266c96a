"""BifroMQ's calls and those of probes, as OpenAPI tells of them: their parameters are headers, their answers words.

What a call does is the docstring of its route; here is what a route does not say of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any

from .parameters import (
    AGE_SECONDS,
    CLIENT_ID,
    CLIENT_TYPE,
    EXPIRY_SECONDS,
    EXPIRY_SECONDS_MAXIMUM,
    QOS,
    SERVER_REDIRECT,
    SERVER_REFERENCE,
    SUB_QOS,
    TENANT_ID,
    TEXT_SIZE_MAXIMUM,
    TOPIC,
    TOPIC_FILTER,
    USER_ID,
    VERBOSE,
    Parameter,
    Redirection,
)

TAG = "calls of BifroMQ"
PROBES = "probes and figures"
_TEXT = "text/plain"
_JSON = "application/json"

_NAME = {"type": "string", "minLength": 1, "maxLength": TEXT_SIZE_MAXIMUM}
_LEVELS = {"type": "integer", "minimum": 0, "maximum": 2}
_SCHEMAS: Mapping[Parameter[Any], tuple[Mapping[str, Any], str]] = {
    TENANT_ID: (_NAME, "whose it is"),
    USER_ID: (_NAME, "the user of a session"),
    CLIENT_ID: (_NAME, "the client identifier of a session"),
    TOPIC: (_NAME, "a topic name"),
    TOPIC_FILTER: (_NAME, "a topic filter, shared or not"),
    QOS: (_LEVELS, "of the publication"),
    SUB_QOS: (_LEVELS, "of the subscription"),
    EXPIRY_SECONDS: (
        {"type": "integer", "minimum": 1, "maximum": EXPIRY_SECONDS_MAXIMUM},
        "the message's life; without it, it does not end",
    ),
    AGE_SECONDS: ({"type": "integer", "minimum": 0, "maximum": EXPIRY_SECONDS_MAXIMUM}, "an age"),
    CLIENT_TYPE: (_NAME, "what kind of program calls; client_meta_* headers tell more of it"),
    SERVER_REDIRECT: ({"type": "string", "enum": list(map(str, Redirection))}, "whether the client is to go elsewhere"),
    SERVER_REFERENCE: ({"type": "string", "maxLength": TEXT_SIZE_MAXIMUM}, "where to"),
    VERBOSE: ({"type": "string", "enum": ["0", "1"]}, "1: the answer is the verdict as JSON"),
}


@dataclass(frozen=True)
class Call:
    """What a route does not say of itself."""

    required: tuple[Parameter[Any], ...] = ()
    optional: tuple[Parameter[Any], ...] = ()
    has_body: bool = False
    answers: Mapping[int, str] = field(default_factory=dict)  # status -> what it means
    media_types: tuple[str, ...] = (_TEXT,)  # of the answers with a 2xx
    tag: str = TAG


_SESSION = (TENANT_ID, USER_ID, CLIENT_ID)
_NOT_ONLINE = "the client is not online"

CALLS: Mapping[tuple[str, str], Call] = {
    ("post", "/pub"): Call(
        (TENANT_ID, TOPIC, QOS, CLIENT_TYPE),
        (EXPIRY_SECONDS, VERBOSE),
        True,
        {200: "OK or NO_MATCH", 403: "Unaccepted Topic", 413: "the payload is too large"},
        (_TEXT, _JSON),
    ),
    ("post", "/retain"): Call(
        (TENANT_ID, TOPIC, QOS, CLIENT_TYPE),
        (EXPIRY_SECONDS,),
        True,
        {
            200: "RETAINED, or CLEARED for an empty body",
            401: "the tenant has RetainEnabled off",
            413: "the payload is too large",
        },
    ),
    ("delete", "/retain"): Call((TENANT_ID, AGE_SECONDS), (), False, {200: "removed"}),
    ("get", "/session"): Call(_SESSION, (), False, {200: "who it is", 404: _NOT_ONLINE}, (_JSON,)),
    ("delete", "/session"): Call((TENANT_ID,), (AGE_SECONDS,), False, {200: "ended"}),
    ("get", "/session/inbox"): Call(_SESSION, (), False, {200: "how it is", 404: "NO_INBOX"}, (_JSON,)),
    ("delete", "/kill"): Call(
        (TENANT_ID, CLIENT_TYPE),
        (USER_ID, CLIENT_ID, SERVER_REDIRECT, SERVER_REFERENCE),
        False,
        {200: "disconnected", 404: "nobody was connected"},
    ),
    ("put", "/sub"): Call(
        (*_SESSION, TOPIC_FILTER, SUB_QOS),
        (),
        False,
        {200: "OK or EXISTS", 401: "its permissions do not allow it", 404: _NOT_ONLINE},
    ),
    ("delete", "/unsub"): Call(
        (*_SESSION, TOPIC_FILTER),
        (),
        False,
        {200: "OK or NO_SUB", 401: "its permissions do not allow it", 404: _NOT_ONLINE},
    ),
    ("get", "/healthz"): Call(answers={200: "it answers"}, media_types=(_JSON,), tag=PROBES),
    ("get", "/readyz"): Call(
        answers={200: "clients may come", 503: "they should not, and why"}, media_types=(_JSON,), tag=PROBES
    ),
    ("get", "/metrics"): Call(
        answers={200: "for Prometheus"}, media_types=(_TEXT, "application/openmetrics-text"), tag=PROBES
    ),
}


def describe_calls(app: Any) -> dict[str, dict[str, Any]]:
    """The paths of CALLS, as OpenAPI has them. Raises KeyError for one that app does not have."""
    routes = {
        (method.lower(), rule.rule): app.view_functions[rule.endpoint]
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), call in CALLS.items():
        paths.setdefault(path, {})[method] = _describe(call, method, path, routes[method, path].__doc__ or "")
    return paths


def _describe(call: Call, method: str, path: str, documentation: str) -> dict[str, Any]:
    summary, _, description = cleandoc(documentation).partition("\n\n")
    described: dict[str, Any] = {
        "operationId": f"{method}{path.replace('/', '_')}",
        "summary": " ".join(summary.split()),
        "description": " ".join(description.split()),
        "tags": [call.tag],
        "parameters": [
            {"name": parameter.name, "in": "header", "required": is_required, "schema": schema, "description": meaning}
            for parameters, is_required in ((call.required, True), (call.optional, False))
            for parameter in parameters
            for schema, meaning in (_SCHEMAS[parameter],)
        ],
        "responses": {
            str(status): {"description": meaning, "content": _content(call, status)}
            for status, meaning in call.answers.items()
        },
    }
    described["responses"]["default"] = {"description": "what was expected", "content": {_TEXT: {}}}
    if call.has_body:
        described["requestBody"] = {
            "description": "the payload",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    return described


def _content(call: Call, status: int) -> dict[str, Any]:
    if status >= 400 and call.tag == TAG:
        return {_TEXT: {}}
    return {
        media_type: {"schema": {"type": "object"}} if media_type == _JSON else {} for media_type in call.media_types
    }
