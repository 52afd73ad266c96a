"""`DELETE /kill`: disconnect a client, all clients of a user, or all of a tenant."""

from quart import Blueprint, Response, request

from rookery.core.wire.spec import ReasonCode
from rookery.server.broker import Broker

from .answers import answer_text
from .parameters import (
    CLIENT_ID,
    SERVER_REDIRECT,
    SERVER_REFERENCE,
    TENANT_ID,
    USER_ID,
    BadParameter,
    Parameters,
    Redirection,
)
from .rights import Right, Scope, needs
from .witness import witness

_REASON_CODES = {
    Redirection.NO: ReasonCode.ADMINISTRATIVE_ACTION,
    Redirection.MOVE: ReasonCode.SERVER_MOVED,
    Redirection.TEMP_USE: ReasonCode.USE_ANOTHER_SERVER,
}


def create_kill(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("kill", __name__)

    @resource.delete("/kill")
    @needs(Right.WRITE, Scope.HEADER)
    async def kill() -> Response:
        """200 without a body; 404 when nobody was connected. Wills are published, persistent sessions stay.

        With user_id and client_id it is one client, with user_id alone all of that user, with neither all of the
        tenant. A client_id alone is refused: it would name a client of every user.
        """
        parameters = Parameters(request.scope["headers"])
        tenant_id = parameters.require(TENANT_ID)
        user_id = parameters.find(USER_ID)
        client_id = parameters.find(CLIENT_ID)
        caller = parameters.acting_client()
        redirection = parameters.find(SERVER_REDIRECT) or Redirection.NO
        reference = parameters.find(SERVER_REFERENCE) or ""
        if client_id is not None and user_id is None:
            raise BadParameter("header not found: user_id (client_id alone names nobody)")
        reason_code = _REASON_CODES[redirection]
        told = reference if redirection is not Redirection.NO else ""
        if user_id is not None and client_id is not None:
            count = int(
                await broker.sessions.kill(
                    tenant_id, user_id, client_id, reason_code=reason_code, server_reference=told
                )
            )
        else:
            count = await broker.sessions.kill_all(
                tenant_id, user_id or "", reason_code=reason_code, server_reference=told
            )
        witness(broker, caller, tenant_id, "kill", user_id=user_id, client_id=client_id, count=count)
        return answer_text(200 if count else 404, "")

    return resource
