"""Sessions and connections of a tenant: lists, one of them, what belongs to it, and disconnecting."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from quart import Blueprint, Response, jsonify
from quart_schema import document_querystring, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.rights import Right, Scope, needs
from rookery.core.pages import InflightMessage, SessionState, StoredMessage
from rookery.server.broker import Broker
from rookery.server.inventory import Listing, NoSuchSession

from .drops import DropReasonName, describe_last_drop
from .reading import NAME_LENGTH_MAXIMUM, Model, PageQuery, encode_cursor, read_query
from .subscriptions import SubscriptionPage, describe_subscriptions

NEVER = 0xFFFFFFFF
PAYLOAD_LIMIT_MAXIMUM = 65536  # bytes of each message that a list shows


class Will(Model):
    """The will of a session."""

    topic: str
    qos: int
    retain: bool
    delay_interval: int = Field(description="seconds")


class Session(Model):
    """A session, online or not."""

    user_id: str
    client_id: str
    protocol_version: Literal[3, 4, 5] = Field(description="3.1, 3.1.1 or 5.0")
    is_online: bool
    is_persistent: bool
    peer: str | None = Field(description="host:port; null when offline")
    attributes: dict[str, Any] = Field(description="what the authenticator gave")
    subscriptions: int
    waiting: int = Field(description="messages in the inbox")
    waiting_qos0: int = Field(description="those of QoS 0 among them")
    inflight: int = Field(description="messages sent and not yet acknowledged")
    dropped: int = Field(description="messages that it did not get")
    last_drop_reason: DropReasonName | None = Field(description="of the last of them; null when it got all")
    last_dropped_at_ms: int | None = Field(description="milliseconds of the epoch; null when it got all")
    kept_bytes: int = Field(description="of messages that it holds")
    session_expiry_interval: int | None = Field(description="seconds; null = never")
    keep_alive: int = Field(description="seconds; 0 = none")
    created_at_ms: int | None = Field(description="milliseconds of the epoch; null when not known")
    connected_at_ms: int = Field(description="milliseconds of the epoch, of the last connection")
    detached_at_ms: int | None = Field(description="milliseconds of the epoch; null when online")
    will: Will | None


class SessionPage(Model):
    """A page of sessions."""

    items: list[Session]
    next: str | None = Field(description="cursor of the next page; null behind the last")


class SessionQuery(PageQuery):
    """Which sessions."""

    user_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="of this user only")


class InboxQuery(PageQuery):
    """How much of the inbox."""

    payload_bytes: int = Field(default=0, ge=0, le=PAYLOAD_LIMIT_MAXIMUM, description="of each payload, at most")


class Message(Model):
    """A message that is kept."""

    topic: str
    qos: int
    retain: bool
    payload_size: int = Field(description="bytes")
    payload: str | None = Field(description="base64: all of it, or its beginning; null when none was asked for")
    expires_at_ms: int | None
    stored_at_ms: int | None = Field(description="of a retained message")


class MessagePage(Model):
    """A page of messages."""

    items: list[Message]
    next: str | None = Field(description="cursor of the next page; null behind the last")


class Inflight(Model):
    """A message on its way to the client."""

    packet_id: int
    due: Literal["PUBACK", "PUBREC", "PUBCOMP"] = Field(description="what the client owes")
    is_sent: bool = Field(description="on the present connection")
    resend_count: int
    topic: str | None


class InflightPage(Model):
    """The oldest messages in flight."""

    items: list[Inflight]
    next: None


class LimitQuery(Model):
    """How many."""

    limit: int = Field(default=100, ge=1, le=1000, description="rows at most")


def create_sessions(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_sessions", __name__, url_prefix="/v1/tenants/<name:tenant_id>")
    tag_blueprint(resource, ["sessions"])

    async def page(tenant_id: str, *, online_only: bool) -> Response:
        query = read_query(SessionQuery)
        found = await broker.inventory.sessions(
            tenant_id, user_id=query.user_id, online_only=online_only, place=query.place, limit=query.limit
        )
        return jsonify({"items": [describe_session(row) for row in found.rows], "next": encode_cursor(found.place)})

    @resource.get("/sessions")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(SessionQuery)
    @document_response(SessionPage)
    async def sessions(tenant_id: str) -> Response:
        """List the sessions of a tenant, in no order.

        One that is there all the time comes at least once. A page may be short or empty and have a next one.
        """
        return await page(tenant_id, online_only=False)

    @resource.get("/connections")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(SessionQuery)
    @document_response(SessionPage)
    async def connections(tenant_id: str) -> Response:
        """List the sessions of a tenant that are online, in no order."""
        return await page(tenant_id, online_only=True)

    @resource.get("/sessions/<name:user_id>/<name:client_id>")
    @needs(Right.READ, Scope.PATH)
    @document_response(Session)
    async def session(tenant_id: str, user_id: str, client_id: str) -> Response:
        """Show one session, online or not."""
        found = await broker.inventory.session(tenant_id, user_id, client_id)
        if found is None:
            raise NoSuchSession
        return jsonify(describe_session(found))

    @resource.delete("/connections/<name:user_id>/<name:client_id>")
    @needs(Right.WRITE, Scope.PATH)
    @document_response(Disconnected)
    async def disconnect(tenant_id: str, user_id: str, client_id: str) -> Response:
        """Disconnect a client (0x98). Its will is published, a persistent session stays."""
        if not await broker.sessions.kill(tenant_id, user_id, client_id):
            raise RequestRefused(404, "the client is not online")
        return jsonify({"disconnected": 1})

    @resource.get("/sessions/<name:user_id>/<name:client_id>/subscriptions")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(PageQuery)
    @document_response(SubscriptionPage)
    async def session_subscriptions(tenant_id: str, user_id: str, client_id: str) -> Response:
        """List the subscriptions of a session."""
        query = read_query(PageQuery)
        found = await broker.inventory.session_subscriptions(
            tenant_id, user_id, client_id, place=query.place, limit=query.limit
        )
        return jsonify(describe_subscriptions(found))

    @resource.get("/sessions/<name:user_id>/<name:client_id>/inbox")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(InboxQuery)
    @document_response(MessagePage)
    async def inbox(tenant_id: str, user_id: str, client_id: str) -> Response:
        """Look at the messages that wait for a session, the oldest first. They stay.

        What is delivered between two pages moves the others forward, so that some may be passed over.
        """
        query = read_query(InboxQuery)
        found = await broker.inventory.inbox(
            tenant_id,
            user_id,
            client_id,
            place=query.place,
            limit=query.limit,
            payload_limit=query.payload_bytes,
        )
        return jsonify(describe_messages(found, query.payload_bytes))

    @resource.get("/sessions/<name:user_id>/<name:client_id>/inflight")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(LimitQuery)
    @document_response(InflightPage)
    async def inflight(tenant_id: str, user_id: str, client_id: str) -> Response:
        """List the oldest messages that a client was sent and has not acknowledged."""
        found = await broker.inventory.inflight(tenant_id, user_id, client_id, limit=read_query(LimitQuery).limit)
        return jsonify({"items": [_describe_inflight(row) for row in found.rows], "next": None})

    return resource


class Disconnected(Model):
    """How many clients were disconnected."""

    disconnected: int


def describe_session(row: SessionState) -> Mapping[str, Any]:
    """A session as JSON."""
    return {
        "user_id": row.user_id,
        "client_id": row.client_id,
        "protocol_version": row.protocol_version,
        "is_online": row.is_online,
        "is_persistent": row.is_persistent,
        "peer": row.peer or None,
        "attributes": json.loads(row.attributes),
        "subscriptions": row.subscription_count,
        "waiting": row.waiting_qos0 + row.waiting_qos12,
        "waiting_qos0": row.waiting_qos0,
        "inflight": row.inflight_count,
        "dropped": row.dropped_messages,
        **describe_last_drop(row),
        "kept_bytes": row.kept_bytes,
        "session_expiry_interval": None if row.session_expiry_interval == NEVER else row.session_expiry_interval,
        "keep_alive": row.keep_alive,
        "created_at_ms": row.created_at_ms,
        "connected_at_ms": row.connected_at_ms,
        "detached_at_ms": row.detached_at_ms,
        "will": None if row.will is None else row.will._asdict(),
    }


def describe_messages(found: Listing[StoredMessage], payload_limit: int) -> Mapping[str, Any]:
    """A page of messages as JSON."""
    items = [
        {
            "topic": row.topic,
            "qos": row.qos,
            "retain": row.retain,
            "payload_size": row.payload_size,
            "payload": base64.b64encode(row.payload).decode() if payload_limit else None,
            "expires_at_ms": row.expires_at_ms,
            "stored_at_ms": row.stored_at_ms,
        }
        for row in found.rows
    ]
    return {"items": items, "next": encode_cursor(found.place)}


def _describe_inflight(row: InflightMessage) -> Mapping[str, Any]:
    return row._asdict()
