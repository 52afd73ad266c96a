"""`GET /healthz` and `GET /readyz`: for those who start, watch and route to the process."""

from quart import Blueprint, Response, jsonify

from rookery.server.broker import Broker

from .rights import Right, needs

PATHS = ("/healthz", "/readyz")


def create_health(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("health", __name__)

    @resource.get("/healthz")
    @needs(Right.NONE)
    async def healthz() -> Response:
        """200 as long as the control plane answers at all; a process that does not should be replaced."""
        return jsonify({"status": "ok"})

    @resource.get("/readyz")
    @needs(Right.NONE)
    async def readyz() -> Response:
        """200 when every shard answers and clients are accepted, else 503 with the reasons why not."""
        reasons = await broker.unready_reasons()
        response = jsonify({"ready": not reasons, "reasons": reasons})
        response.status_code = 503 if reasons else 200
        return response

    return resource
