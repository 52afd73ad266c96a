"""Publishing to the subscribers of a tenant: one message, or thousands in one call."""

import base64
import binascii
import json
from typing import Annotated, Any

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from quart import Blueprint, Response, jsonify, request
from quart_schema import document_request, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.problems import InvalidFields
from rookery.api.rights import Right, Scope, needs
from rookery.core.events import PublishOutcome
from rookery.core.topics.names import InvalidTopic
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.messages import BatchMessage

from .reading import NAME_LENGTH_MAXIMUM, DoubledMember, Model, read_json, read_typed_body, refuse_doubled

BATCH_LIMIT = 10_000  # messages in one call
BATCH_MEDIA_TYPE = "application/x-ndjson"
EXPIRY_MAXIMUM = 2**31 - 1

# A base64 text of the largest payload that a body may have.
Payload = Annotated[str, StringConstraints(max_length=384 * 1024 * 1024)]


class NewMessage(Model):
    """A message."""

    topic: str = Field(max_length=NAME_LENGTH_MAXIMUM, description="a topic name, no wildcards")
    payload: Payload = Field(default="", description="text; or payload_base64")
    payload_base64: Payload | None = Field(default=None, description="bytes")
    qos: int = Field(default=0, ge=0, le=2)
    retain: bool = Field(default=False, description="keep it for later subscribers, too; an empty payload clears")
    expiry_seconds: int | None = Field(default=None, ge=1, le=EXPIRY_MAXIMUM, description="null = never")


class Published(Model):
    """What became of it, in sessions."""

    matched: int = Field(description="whose subscriptions matched; a shared group counts once")
    queued: int = Field(description="whose connection or inbox took it")
    dropped: int = Field(description="that did not get it")
    dropped_by: dict[str, int] = Field(description="those of dropped, by reason: `overflow`, `too_large` and others")
    retained: bool


class BatchPublished(Model):
    """What became of all, in sessions."""

    messages: int
    matched: int
    queued: int
    dropped: int
    dropped_by: dict[str, int] = Field(description="those of dropped, by reason: `overflow`, `too_large` and others")


_MESSAGE = TypeAdapter(NewMessage)
# What looks like one of its names twice may also be text: only then a line is read a second time.
_MEMBERS = [f'"{name}"'.encode() for name in NewMessage.model_fields]


def create_publish(broker: Broker, section: ApiSection) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_publish", __name__, url_prefix="/v1/tenants/<name:tenant_id>/publish")
    tag_blueprint(resource, ["publish"])

    def check(tenant_id: str, message: BatchMessage, where: str) -> None:
        settings = broker.settings_of(tenant_id)
        try:
            broker.messages.check_topic(tenant_id, message.topic)
        except InvalidTopic as error:
            raise InvalidFields([(f"{where}.topic", str(error))]) from None
        if len(message.payload) > settings.max_user_payload_bytes:
            limit = settings.max_user_payload_bytes
            raise InvalidFields([(f"{where}.payload", f"has {len(message.payload)} bytes, the tenant allows {limit}")])
        if message.retain and not settings.retain_enabled:
            raise InvalidFields([(f"{where}.retain", "the tenant has RetainEnabled off")])
        if message.qos > settings.maximum_qos:
            raise InvalidFields([(f"{where}.qos", f"the tenant allows {settings.maximum_qos}, its MaximumQoS")])

    @resource.post("")
    @needs(Right.PUBLISH, Scope.PATH)
    @document_request(NewMessage)
    @document_response(Published)
    async def publish(tenant_id: str) -> Response:
        """Publish one message."""
        message = _message_of(await read_json(NewMessage, section), "body")
        check(tenant_id, message, "body")
        outcome = await broker.publish(
            tenant_id,
            message.topic,
            message.payload,
            qos=message.qos,
            retain=message.retain,
            message_expiry_interval=message.message_expiry_interval,
        )
        return jsonify({**_describe(outcome), "retained": outcome.retained})

    @resource.post("/batch")
    @needs(Right.PUBLISH, Scope.PATH)
    @document_response(BatchPublished)
    async def publish_batch(tenant_id: str) -> Response:
        """Publish up to 10 000 messages: one JSON object a line (application/x-ndjson), as for one message.

        All lines are read and checked first: when one is wrong, nothing is published, and the answer names the line.
        Messages are published in their order.
        """
        data = await read_typed_body(request, section, BATCH_MEDIA_TYPE, limit_bytes=section.batch_limit_bytes)
        lines = data.split(b"\n")
        if lines and not lines[-1].strip():
            lines.pop()
        if len(lines) > BATCH_LIMIT:
            raise RequestRefused(413, f"the batch has {len(lines)} lines, the limit is {BATCH_LIMIT}")
        messages = []
        for number, line in enumerate(lines, start=1):
            message = _parse_line(line, number)
            check(tenant_id, message, f"line {number}")
            messages.append(message)
        outcome = await broker.messages.publish_batch(tenant_id, messages)
        return jsonify({"messages": len(messages), **_describe(outcome)})

    return resource


def _parse_line(line: bytes, number: int) -> BatchMessage:
    where = f"line {number}"
    try:
        message = _MESSAGE.validate_json(line)
        if any(line.count(name) > 1 for name in _MEMBERS) or b"\\u" in line:
            json.loads(line, object_pairs_hook=refuse_doubled)
        return _message_of(message, where)
    except DoubledMember as error:
        raise InvalidFields([(f"{where}.{error.name}", "expected once")]) from None
    except ValidationError as error:
        raise InvalidFields.of(error, where) from None


def _message_of(given: NewMessage, where: str) -> BatchMessage:
    if given.payload_base64 is None:
        payload = given.payload.encode("utf-8", "surrogatepass")
    elif given.payload:
        raise InvalidFields([(where, "expected either payload or payload_base64, got both")])
    else:
        try:
            payload = base64.b64decode(given.payload_base64, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidFields([(f"{where}.payload_base64", "expected base64")]) from None
    return BatchMessage(given.topic, payload, given.qos, given.retain, given.expiry_seconds)


def _describe(outcome: PublishOutcome) -> dict[str, Any]:
    return {
        "matched": outcome.matched,
        "queued": outcome.queued,
        "dropped": outcome.dropped,
        "dropped_by": outcome.dropped_by,
    }
