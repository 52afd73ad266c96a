"""`PUT /sub` and `DELETE /unsub`: subscribe and unsubscribe for a client that is online."""

from collections.abc import Mapping

from quart import Blueprint, Response, request

from rookery.core.wire.spec import ReasonCode
from rookery.server.broker import Broker

from .answers import answer_text
from .parameters import CLIENT_ID, SUB_QOS, TENANT_ID, TOPIC_FILTER, USER_ID, Parameters
from .rights import Right, Scope, needs

# What is wrong with a topic filter, as BifroMQ says it; for all else it is a 500 without a body.
_REFUSALS: Mapping[int, tuple[int, str]] = {
    ReasonCode.QUOTA_EXCEEDED: (400, "EXCEED_LIMIT"),
    ReasonCode.TOPIC_FILTER_INVALID: (400, "TOPIC_FILTER_INVALID"),
    ReasonCode.NOT_AUTHORIZED: (401, ""),
}


def create_subscriptions(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("subscriptions", __name__)

    @resource.put("/sub")
    @needs(Right.WRITE, Scope.HEADER)
    async def subscribe() -> Response:
        """`OK`, or `EXISTS` when the client had subscribed before: then its options are those of this call.

        The client's permissions and its tenant's limits hold; retained messages come, a SUBACK does not. 404 when the
        client is not online.
        """
        parameters = Parameters(request.scope["headers"])
        outcome = await broker.sessions.subscribe(
            parameters.require(TENANT_ID),
            parameters.require(USER_ID),
            parameters.require(CLIENT_ID),
            parameters.require(TOPIC_FILTER),
            qos=parameters.require(SUB_QOS),
        )
        if outcome is None:
            return answer_text(404, "")
        if outcome.reason_code >= 0x80:
            return answer_text(*_REFUSALS.get(outcome.reason_code, (500, "")))
        return answer_text(200, "EXISTS" if outcome.existed else "OK")

    @resource.delete("/unsub")
    @needs(Right.WRITE, Scope.HEADER)
    async def unsubscribe() -> Response:
        """`OK`, or `NO_SUB` when there was no such subscription; 404 when the client is not online."""
        parameters = Parameters(request.scope["headers"])
        reason_code = await broker.sessions.unsubscribe(
            parameters.require(TENANT_ID),
            parameters.require(USER_ID),
            parameters.require(CLIENT_ID),
            parameters.require(TOPIC_FILTER),
        )
        if reason_code is None:
            return answer_text(404, "")
        if reason_code >= 0x80:
            return answer_text(*_REFUSALS.get(reason_code, (500, "")))
        return answer_text(200, "NO_SUB" if reason_code == ReasonCode.NO_SUBSCRIPTION_EXISTED else "OK")

    return resource
