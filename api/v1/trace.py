"""A live trace: the events of a tenant, a user, a client or a topic as they happen, as server-sent events."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from enum import Enum
from typing import Any

import trio
from pydantic import Field
from quart import Blueprint, Response
from quart_schema import document_querystring, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.problems import InvalidFields
from rookery.api.rights import Right, Scope, needs
from rookery.core.topics.names import TopicRules
from rookery.server.broker import Broker
from rookery.server.event_bus import EventStream
from rookery.server.events import Event, TenantEvent

from .reading import NAME_LENGTH_MAXIMUM, Model, of_field, read_query

TRACES_LIMIT = 16  # at once: each has every event of all tenants looked at
WAITING_LIMIT = 1000  # events for one trace; the newest are lost, and how many is told
SIGN_OF_LIFE_S = 15.0  # between two comments, for proxies that close what is silent

_ANY_TOPIC = TopicRules()


class TraceQuery(Model):
    """What of the tenant; all that is given has to be met."""

    user_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM)
    client_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM)
    topic_filter: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="events about topics it matches")


def create_trace(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_trace", __name__, url_prefix="/v1/tenants/<name:tenant_id>")
    tag_blueprint(resource, ["trace"])
    open_count = 0

    @resource.get("/trace")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(TraceQuery)
    async def trace(tenant_id: str) -> Response:
        """Follow what happens, until the caller closes the connection.

        The names of events are those of docs/events.md. Events of each message come only with DebugModeEnabled.
        """
        query = read_query(TraceQuery)
        levels = query.topic_filter.split("/") if query.topic_filter else None
        if levels is not None:
            with of_field("query.topic_filter"):
                parsed = _ANY_TOPIC.parse_topic_filter(query.topic_filter)
            if parsed.share_name is not None:
                raise InvalidFields([("query.topic_filter", "expected one without a share")])

        def accepts(event: Event) -> bool:
            return (
                getattr(event, "tenant_id", None) == tenant_id
                and query.user_id in ("", getattr(event, "user_id", None))
                and query.client_id in ("", getattr(event, "client_id", None))
                and (levels is None or matches(levels, getattr(event, "topic", None)))
            )

        nonlocal open_count
        if open_count >= TRACES_LIMIT:
            raise RequestRefused(503, f"there are {TRACES_LIMIT} traces already", headers={"retry-after": "10"})

        async def follow() -> AsyncIterator[bytes]:
            nonlocal open_count
            open_count += 1
            try:
                with broker.events.subscribe(TenantEvent, limit=WAITING_LIMIT, accepts=accepts) as stream:
                    yield b": following\n\n"
                    dropped = 0
                    while True:
                        event = await _next(stream)
                        if stream.dropped > dropped:
                            yield _encode("lost", {"count": stream.dropped - dropped})
                            dropped = stream.dropped
                        if event is _ENDED:
                            return
                        yield b": alive\n\n" if event is None else encode_event(event)
            finally:
                open_count -= 1

        response = Response(follow(), content_type="text/event-stream", headers={"cache-control": "no-store"})
        response.timeout = None
        return response

    return resource


_ENDED = Event(at_ms=0)


async def _next(stream: EventStream) -> Event | None:
    """The next event; None when none came for SIGN_OF_LIFE_S, _ENDED when none will."""
    with trio.move_on_after(SIGN_OF_LIFE_S):
        try:
            return await stream.receive()
        except trio.EndOfChannel:
            return _ENDED
    return None


def matches(levels: list[str], topic: str | None) -> bool:
    """Does the topic filter of these levels match the topic?"""
    if topic is None:
        return False
    names = topic.split("/")
    if topic.startswith("$") and levels[0] in ("+", "#"):
        return False
    for place, level in enumerate(levels):
        if level == "#":
            return True
        if place >= len(names) or level not in ("+", names[place]):
            return False
    return len(levels) == len(names)


def encode_event(event: Event) -> bytes:
    """One event as the stream has it."""
    return _encode(type(event).__name__, asdict(event))


def _encode(name: str, fields: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(fields, default=_plain)}\n\n".encode()


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    return str(value)
