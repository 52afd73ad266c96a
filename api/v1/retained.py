"""Retained messages of a tenant: listing, reading and removing them. `POST .../publish` with retain keeps them."""

from pydantic import Field
from quart import Blueprint, Response, jsonify
from quart_schema import document_querystring, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.problems import InvalidFields
from rookery.api.rights import Right, Scope, needs
from rookery.core.events import RetainOutcome
from rookery.core.topics.names import TopicRules
from rookery.server.broker import Broker

from .reading import NAME_LENGTH_MAXIMUM, Model, PageQuery, of_field, read_query
from .sessions import PAYLOAD_LIMIT_MAXIMUM, Message, MessagePage, describe_messages

_ANY_TOPIC = TopicRules()


class RetainedQuery(PageQuery):
    """Which messages."""

    topic_filter: str = Field(
        default="#", max_length=NAME_LENGTH_MAXIMUM, description="`#` is all but topics that begin with $"
    )
    payload_bytes: int = Field(default=0, ge=0, le=PAYLOAD_LIMIT_MAXIMUM, description="of each payload, at most")


class TopicQuery(Model):
    """Which message."""

    topic: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="a topic name; required")


class Removed(Model):
    """What became of it."""

    removed: int


def create_retained(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_retained", __name__, url_prefix="/v1/tenants/<name:tenant_id>/retained")
    tag_blueprint(resource, ["retained messages"])

    @resource.get("")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(RetainedQuery)
    @document_response(MessagePage)
    async def retained(tenant_id: str) -> Response:
        """List the retained messages that a topic filter matches, in no order.

        One that is there all the time comes at least once. A page may be short or empty and have a next one.
        """
        query = read_query(RetainedQuery)
        with of_field("query.topic_filter"):
            parsed = _ANY_TOPIC.parse_topic_filter(query.topic_filter)
        if parsed.share_name is not None:
            raise InvalidFields([("query.topic_filter", "expected one without a share")])
        found = await broker.inventory.retained(
            tenant_id,
            query.topic_filter,
            place=query.place,
            limit=query.limit,
            payload_limit=query.payload_bytes,
        )
        return jsonify(describe_messages(found, query.payload_bytes))

    @resource.get("/message")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(TopicQuery)
    @document_response(Message)
    async def message(tenant_id: str) -> Response:
        """Show the retained message of a topic, with all of its payload."""
        topic = read_query(TopicQuery).topic
        with of_field("query.topic"):
            broker.messages.check_topic(tenant_id, topic)
        limit = 2**31 - 1
        found = await broker.inventory.retained(tenant_id, topic, limit=1, payload_limit=limit)
        if not found.rows:
            raise RequestRefused(404, "the topic has no retained message")
        return jsonify(describe_messages(found, limit)["items"][0])

    @resource.delete("/message")
    @needs(Right.WRITE, Scope.PATH)
    @document_querystring(TopicQuery)
    @document_response(Removed)
    async def remove(tenant_id: str) -> Response:
        """Remove the retained message of a topic."""
        topic = read_query(TopicQuery).topic
        with of_field("query.topic"):
            broker.messages.check_topic(tenant_id, topic)
        found = await broker.inventory.retained(tenant_id, topic, limit=1)
        if not found.rows:
            raise RequestRefused(404, "the topic has no retained message")
        outcome = await broker.retained.store(tenant_id, topic, b"", qos=0)
        return jsonify({"removed": int(outcome is RetainOutcome.CLEARED)})

    return resource
