"""`GET /session`: who is behind an MQTT connection. `DELETE /session`: end persistent sessions of a tenant."""

import json

from quart import Blueprint, Response, jsonify, request

from rookery.core.events import SessionInfo
from rookery.server.broker import Broker

from .answers import answer_text
from .parameters import AGE_SECONDS, CLIENT_ID, TENANT_ID, USER_ID, Parameters
from .rights import Right, Scope, needs


def create_session(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("session", __name__)

    @resource.get("/session")
    @needs(Right.READ, Scope.HEADER)
    async def session() -> Response:
        """The client of a session that is online; 404 without a body for any other."""
        parameters = Parameters(request.scope["headers"])
        info = await broker.sessions.find(
            parameters.require(TENANT_ID), parameters.require(USER_ID), parameters.require(CLIENT_ID)
        )
        if info is None or not info.is_online:
            return answer_text(404, "")
        return jsonify(describe_client(info, broker.server_id))

    @resource.delete("/session")
    @needs(Right.WRITE, Scope.HEADER)
    async def end_sessions() -> Response:
        """End persistent sessions of a tenant; 200 without a body, also when there was none to end.

        expiry_seconds replaces the expiry of each session that is offline, counted from when it went. 0 ends all,
        also those that are online, whose clients are disconnected. Without it each session has its own expiry, which
        is in force anyway.
        """
        parameters = Parameters(request.scope["headers"])
        tenant_id = parameters.require(TENANT_ID)
        offline_s = parameters.find(AGE_SECONDS)
        if offline_s is not None:
            await broker.sessions.end(tenant_id, offline_s=offline_s)
        return answer_text(200, "")

    return resource


def describe_client(info: SessionInfo, server_id: str) -> dict[str, object]:
    """BifroMQ's ClientInfo. What the authenticator gave stands beside our entries and never replaces one."""
    return {
        "tenantId": info.tenant_id,
        "type": "MQTT",
        "metadata": {
            **json.loads(info.attributes or b"{}"),
            "ver": str(info.protocol_version),
            "userId": info.user_id,
            "clientId": info.client_id,
            "channelId": info.channel_id,
            "address": f"/{info.peer}",
            "broker": server_id,
            "sessionType": "p" if info.is_persistent else "t",
        },
    }
