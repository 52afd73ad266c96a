"""`POST /retain` and `DELETE /retain`: store, clear and age out the retained messages of a tenant."""

from quart import Blueprint, Response, request

from rookery.core.events import RetainOutcome
from rookery.core.topics.names import InvalidTopic
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection

from .answers import answer_text
from .body import read_body
from .parameters import AGE_SECONDS, EXPIRY_SECONDS, QOS, TENANT_ID, TOPIC, BadParameter, Parameters
from .rights import Right, Scope, needs
from .witness import witness

_RESULTS = {
    RetainOutcome.STORED: (200, "RETAINED"),
    RetainOutcome.OVER_QUOTA: (400, "EXCEED_LIMIT"),
    RetainOutcome.CLEARED: (200, "CLEARED"),
    RetainOutcome.FAILED: (400, "EXCEED_LIMIT"),
}


def create_retain(broker: Broker, section: ApiSection) -> Blueprint:
    """The resource."""
    resource = Blueprint("retain", __name__)

    @resource.post("/retain")
    @needs(Right.PUBLISH, Scope.HEADER)
    async def retain() -> Response:
        """`RETAINED`, or `CLEARED` when the body is empty. Nobody who is subscribed now gets the message.

        401 without a body when the tenant has RetainEnabled off. The message keeps the QoS that was asked for.
        """
        parameters = Parameters(request.scope["headers"])
        tenant_id = parameters.require(TENANT_ID)
        topic = parameters.require(TOPIC)
        qos = parameters.require(QOS)
        expiry_seconds = parameters.find(EXPIRY_SECONDS)
        caller = parameters.acting_client()
        settings = broker.settings_of(tenant_id)
        limit_bytes = min(section.body_limit_bytes, settings.max_user_payload_bytes)
        payload = await read_body(request, limit_bytes=limit_bytes, timeout_s=section.request_timeout_s)
        if not settings.retain_enabled:
            return answer_text(401, "")
        if qos > settings.maximum_qos:
            raise BadParameter(f"qos: expected at most {settings.maximum_qos}, the tenant's MaximumQoS, got {qos}")
        try:
            broker.messages.check_topic(tenant_id, topic)
        except InvalidTopic as error:
            raise BadParameter(f"topic: {error}") from error
        outcome = await broker.retained.store(
            tenant_id, topic, payload, qos=qos, message_expiry_interval=expiry_seconds
        )
        witness(broker, caller, tenant_id, "retain", topic=topic, count=int(outcome is RetainOutcome.STORED))
        return answer_text(*_RESULTS[outcome])

    @resource.delete("/retain")
    @needs(Right.WRITE, Scope.HEADER)
    async def remove() -> Response:
        """Remove the messages that were stored expiry_seconds ago or longer; 0 removes all. 200 without a body."""
        parameters = Parameters(request.scope["headers"])
        tenant_id = parameters.require(TENANT_ID)
        await broker.retained.remove(tenant_id, age_s=parameters.require(AGE_SECONDS))
        return answer_text(200, "")

    return resource
