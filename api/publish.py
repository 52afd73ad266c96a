"""`POST /pub`: publish a message to the subscribers of a tenant."""

from quart import Blueprint, Response, jsonify, request

from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection

from .answers import answer_text
from .body import read_body
from .parameters import EXPIRY_SECONDS, QOS, TENANT_ID, TOPIC, VERBOSE, Parameters
from .rights import Right, Scope, needs
from .witness import witness


def create_publish(broker: Broker, section: ApiSection) -> Blueprint:
    """The resource."""
    resource = Blueprint("publish", __name__)

    @resource.post("/pub")
    @needs(Right.PUBLISH, Scope.HEADER)
    async def publish() -> Response:
        """`OK` when somebody subscribes to the topic, online or not, else `NO_MATCH`. Nothing is retained.

        The QoS is that of the publication: a subscriber gets the lower of it and its own. With `verbose: 1` the answer
        is the verdict as JSON.
        """
        parameters = Parameters(request.scope["headers"])
        tenant_id = parameters.require(TENANT_ID)
        topic = parameters.require(TOPIC)
        qos = parameters.require(QOS)
        expiry_seconds = parameters.find(EXPIRY_SECONDS)
        caller = parameters.acting_client()
        is_verbose = parameters.find(VERBOSE)
        limit_bytes = min(section.body_limit_bytes, broker.settings_of(tenant_id).max_user_payload_bytes)
        payload = await read_body(request, limit_bytes=limit_bytes, timeout_s=section.request_timeout_s)
        outcome = await broker.publish(tenant_id, topic, payload, qos=qos, message_expiry_interval=expiry_seconds)
        witness(broker, caller, tenant_id, "publish", topic=topic, count=outcome.matched)
        result = "OK" if outcome.matched else "NO_MATCH"
        if is_verbose:
            counts = {"matched": outcome.matched, "queued": outcome.queued, "dropped": outcome.dropped}
            return jsonify({"result": result, **counts, "dropped_by": outcome.dropped_by})
        return answer_text(200, result)

    return resource
