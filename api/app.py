"""The HTTP API as an ASGI application: resources, and what all of them have in common.

Every answer carries `req_id`, and so does every line that the log gets while a request is worked on.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

import structlog
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.log import get_logger

from .access import check_routes, guard
from .answers import (
    ERROR_TYPES,
    RequestRefused,
    answer_error,
    answer_http_exception,
    answer_refusal,
    answer_text,
    describe_status,
)
from .audit import keep_audit_log
from .health import PATHS as HEALTH_PATHS
from .health import create_health
from .inbox_state import create_inbox_state
from .key_ring import KeyRing
from .kill import create_kill
from .metrics import create_metrics
from .openapi import describe
from .parameters import Parameters
from .paths import NameConverter, NumberConverter, RawPaths, check_names
from .problems import answer_problem, is_v1, problem_of
from .publish import create_publish
from .request_figures import count_requests
from .retain import create_retain
from .session import create_session
from .subscriptions import create_subscriptions
from .v1.all import create_v1

RETRY_AFTER_S = 1

_log = get_logger(__name__)


def create_app(broker: Broker, section: ApiSection, keys: KeyRing | None = None) -> QuartTrio:
    """The application that translates HTTP into calls of broker. keys: those of the broker's store by default."""
    keys = keys or KeyRing(broker.store.api_keys, section.admin_key.get_secret_value())
    # Its folder is named because Quart would look for it by the place of the namespace `rookery`, which has none.
    app = QuartTrio("rookery.api", static_folder=None, instance_path=str(Path(__file__).parent))
    # The framework's own bound on what it buffers of a body whose reader is slow; read_body has the tenant's.
    app.config.update(
        MAX_CONTENT_LENGTH=max(section.body_limit_bytes, section.batch_limit_bytes), PROVIDE_AUTOMATIC_OPTIONS=False
    )
    # A path is what it is: one with an empty name is not that of another call, and nobody is sent there.
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters.update(name=NameConverter, number=NumberConverter)
    describe(app, _version())
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Answers read in the order they are written here.
    for resource in (
        *create_v1(broker, section, keys),
        create_publish(broker, section),
        create_retain(broker, section),
        create_session(broker),
        create_inbox_state(broker),
        create_kill(broker),
        create_subscriptions(broker),
        create_health(broker),
        create_metrics(broker, section.metrics_tenants_limit),
    ):
        app.register_blueprint(resource)

    count_requests(app)

    @app.before_request
    async def identify() -> None:
        g.request_id = Parameters(request.scope["headers"]).request_id()
        structlog.contextvars.bind_contextvars(req_id=g.request_id)

    guard(app, section, keys)

    @app.before_request
    async def check_path() -> None:
        if request.view_args and is_v1(request.path):
            check_names(request.view_args, request.scope["raw_path"])

    keep_audit_log(app, broker.store.audit)

    @app.after_request
    async def stamp(response: Response) -> Response:
        response.headers["req_id"] = str(g.request_id)
        return response

    @app.errorhandler(HTTPException)
    async def explain_http_exception(error: HTTPException) -> Response:
        problem = problem_of(error) if is_v1(request.path) else None
        return problem or answer_http_exception(error)

    @app.errorhandler(RequestRefused)
    async def explain_refusal(error: RequestRefused) -> Response:
        problem = problem_of(error) if is_v1(request.path) else None
        return problem or answer_refusal(error)

    @app.errorhandler(Exception)
    async def explain(error: Exception) -> Response:
        problem = problem_of(error) if is_v1(request.path) else None
        if problem is not None:
            return problem
        if isinstance(error, ERROR_TYPES) and not is_v1(request.path):
            return answer_error(error)
        _log.exception("request_failed", method=request.method, path=request.path, exc_info=error)
        if is_v1(request.path):
            return answer_problem(500, describe_status(500))
        return answer_text(500, describe_status(500))

    check_routes(app)
    app.asgi_app = RequestsInWork(RawPaths(app.asgi_app), section.requests_in_work_limit)  # type: ignore[method-assign]
    return app


def _version() -> str:
    try:
        return importlib.metadata.version("rookery")
    except importlib.metadata.PackageNotFoundError:
        return "0"


class RequestsInWork:
    """Answers 503 to requests beyond a number in work, before they cost anything. Health is always answered."""

    def __init__(self, app: Any, limit: int) -> None:
        self._app = app
        self._limit = limit
        self.count = 0

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
        elif self.count >= self._limit:
            await self._refuse(Parameters(scope["headers"]).request_id(), send)
        else:
            self.count += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self.count -= 1

    async def _refuse(self, request_id: int, send: ASGISendCallable) -> None:
        body = describe_status(503).encode()
        headers = [
            (b"content-type", b"text/plain; charset=UTF-8"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(RETRY_AFTER_S).encode()),
            (b"req_id", str(request_id).encode()),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})
