"""Subscriptions of a tenant, and who gets what is published to a topic, and why."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from quart import Blueprint, Response, jsonify
from quart_schema import document_querystring, document_response, tag_blueprint

from rookery.api.rights import Right, Scope, needs
from rookery.core.pages import SubscriptionState, Verdicts
from rookery.core.permissions.rule import Action, Effect
from rookery.server.broker import Broker
from rookery.server.inventory import Listing

from .drops import DropReasonName, describe_last_drop
from .reading import NAME_LENGTH_MAXIMUM, Model, PageQuery, encode_cursor, of_field, read_query


class Subscription(Model):
    """A subscription of a session."""

    user_id: str
    client_id: str
    topic_filter: str = Field(description="without the share")
    share_name: str | None = Field(description="null = not shared")
    is_ordered: bool = Field(description="$oshare")
    qos: int = Field(description="granted")
    no_local: bool
    retain_as_published: bool
    retain_handling: int
    subscription_id: int | None


class SubscriptionPage(Model):
    """A page of subscriptions."""

    items: list[Subscription]
    next: str | None = Field(description="cursor of the next page; null behind the last")


class SubscriptionQuery(PageQuery):
    """Which subscriptions."""

    user_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="of this user only")


class ExplainQuery(Model):
    """About what."""

    topic: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="a topic name; required")
    user_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="with client_id: about this session")
    client_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="with user_id")
    limit: int = Field(default=100, ge=1, le=1000, description="topic filters of each shard at most")


class Match(Model):
    """A topic filter that matches."""

    topic_filter: str
    sessions: int = Field(description="that subscribe to it by themselves")
    shared_groups: int
    granted_qos: int | None = Field(description="of the session that was asked about; null = it does not subscribe")


class DecidingRule(Model):
    """The rule that decided. What it says is not known of rules that came with the client, as those of a token."""

    source: Literal["file", "database", "client"]
    place: int = Field(description="in the list of all rules that the session has, from 0")
    effect: Effect | None
    actions: list[Action] | None
    topic_filter: str | None
    tenant_id: str | None = Field(description="that it is for alone; null = for all")
    user_id: str | None
    client_id: str | None


class Rights(Model):
    """What the permission rules of the session say about the topic."""

    has_rules: bool = Field(description="false: everything is allowed")
    publish_qos: int | None = Field(description="the highest that it may publish with; null = denied")
    publish_retain: bool
    subscribe_qos: int | None = Field(description="the highest that is granted; null = denied")
    publish_rule: DecidingRule | None = Field(description="null = none decided, and the default holds")
    subscribe_rule: DecidingRule | None


class ExplainedSession(Model):
    """How the session is doing."""

    is_online: bool
    waiting: int
    inflight: int
    dropped: int = Field(description="messages that it did not get, for whatever reason")
    last_drop_reason: DropReasonName | None = Field(description="of the last of them; null when it got all")
    last_dropped_at_ms: int | None = Field(description="milliseconds of the epoch; null when it got all")


class Explanation(Model):
    """Who gets what is published to the topic."""

    topic: str
    is_retained: bool = Field(description="the topic has a retained message")
    matches: list[Match]
    session: ExplainedSession | None
    rights: Rights | None


def create_subscriptions(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_subscriptions", __name__, url_prefix="/v1/tenants/<name:tenant_id>")
    tag_blueprint(resource, ["subscriptions"])

    @resource.get("/subscriptions")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(SubscriptionQuery)
    @document_response(SubscriptionPage)
    async def subscriptions(tenant_id: str) -> Response:
        """List the subscriptions of a tenant, in no order.

        One that is there all the time comes at least once. A page may be short or empty and have a next one.
        """
        query = read_query(SubscriptionQuery)
        found = await broker.inventory.subscriptions(
            tenant_id, user_id=query.user_id, place=query.place, limit=query.limit
        )
        return jsonify(describe_subscriptions(found))

    @resource.get("/explain")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(ExplainQuery)
    @document_response(Explanation)
    async def explain(tenant_id: str) -> Response:
        """Say who gets what is published to a topic, and what one session may do there.

        Live `MessageDropped` events of a client with their reasons are in the trace.
        """
        query = read_query(ExplainQuery)
        with of_field("query.topic"):
            broker.messages.check_topic(tenant_id, query.topic)
        found = await broker.inventory.explain(
            tenant_id, query.topic, query.user_id, query.client_id, limit=query.limit
        )
        session = await broker.inventory.session(tenant_id, query.user_id, query.client_id)
        kept = await broker.inventory.retained(tenant_id, query.topic, limit=1)
        described = None
        if session is not None:
            described = {
                "is_online": session.is_online,
                "waiting": session.waiting_qos0 + session.waiting_qos12,
                "inflight": session.inflight_count,
                "dropped": session.dropped_messages,
                **describe_last_drop(session),
            }
        matches = [
            {
                "topic_filter": row.topic_filter,
                "sessions": row.sessions,
                "shared_groups": row.groups,
                "granted_qos": row.granted_qos,
            }
            for row in found.filters
        ]
        return jsonify(
            {
                "topic": query.topic,
                "is_retained": bool(kept.rows),
                "matches": matches,
                "session": described,
                "rights": None if found.verdicts is None else describe_rights(broker, found.verdicts),
            }
        )

    return resource


def describe_rights(broker: Broker, verdicts: Verdicts) -> Mapping[str, Any]:
    """What rules say, as JSON."""
    described = verdicts._asdict()
    identity = described.pop("rules_identity")
    for name in ("publish_rule", "subscribe_rule"):
        place = described[name]
        described[name] = None if place is None else _describe_rule(broker, identity, place)
    return described


def _describe_rule(broker: Broker, identity: int, place: int) -> Mapping[str, Any]:
    found = broker.permissions.find(identity, place) if broker.permissions is not None else None
    source, rule = found or ("client", None)
    return {
        "source": source,
        "place": place,
        "effect": rule and rule.effect,
        "actions": rule and sorted(rule.actions),
        "topic_filter": rule and rule.topic_filter,
        "tenant_id": rule and rule.tenant_id,
        "user_id": rule and rule.user_id,
        "client_id": rule and rule.client_id,
    }


def describe_subscriptions(found: Listing[SubscriptionState]) -> Mapping[str, Any]:
    """A page of subscriptions as JSON."""
    return {"items": [row._asdict() for row in found.rows], "next": encode_cursor(found.place)}
