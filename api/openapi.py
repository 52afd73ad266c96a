"""`GET /openapi.json` made from the routes, and `GET /docs`, a page that shows it, with nothing loaded from outside."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from quart import Blueprint, Response, jsonify
from quart_schema import HttpSecurityScheme, Info, OpenAPIProvider, QuartSchema, hide
from quart_trio import QuartTrio
from werkzeug.routing import Rule

from .header_calls import describe_calls
from .parameters import TEXT_SIZE_MAXIMUM
from .paths import NUMBER_MAXIMUM, NumberConverter
from .problems import MEDIA_TYPE, Problem, is_v1
from .rights import Right, needs

STATIC = Path(__file__).parent / "static"
FILES = {"/docs": ("docs.html", "text/html; charset=utf-8"), "/docs.js": ("docs.js", "text/javascript; charset=utf-8")}
# Nothing from elsewhere runs on the page, nor does it talk to anybody else.
POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'"

_BATCH = "/v1/tenants/{tenant_id}/publish/batch"
_NAME = {"type": "string", "minLength": 1, "maxLength": TEXT_SIZE_MAXIMUM}
_NUMBER = {"type": "integer", "minimum": 1, "maximum": NUMBER_MAXIMUM}
_TRACE = "/v1/tenants/{tenant_id}/trace"


class Provider(OpenAPIProvider):
    """What QuartSchema makes of the routes of `/v1`, what all of them have in common, and the calls with headers."""

    def generate_rules(self) -> Iterable[Rule]:
        return sorted((rule for rule in super().generate_rules() if is_v1(f"{rule.rule}/")), key=lambda rule: rule.rule)

    def operation_id(self, method: str, path: str, func: Any) -> str:
        return f"{method.lower()}_{func.__name__}"

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"].update(problem.pop("$defs", {}))
        schema["components"]["schemas"]["Problem"] = problem
        failure = {
            "description": "what went wrong",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        numbers = {
            name
            for rule in self._app.url_map.iter_rules()
            for name, converter in rule._converters.items()
            if isinstance(converter, NumberConverter)
        }
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"]["default"] = failure
                for parameter in operation["parameters"]:
                    if parameter["in"] == "path":
                        is_number = parameter["name"] in numbers
                        parameter["schema"] = dict(_NUMBER if is_number else _NAME)
        schema["paths"].update(describe_calls(self._app))
        # Bodies that are no JSON.
        lines = {"schema": {"type": "string", "description": "one JSON object a line, as for one message"}}
        schema["paths"][_BATCH]["post"]["requestBody"] = {"content": {"application/x-ndjson": lines}, "required": True}
        if _TRACE in schema["paths"]:
            events = {"text/event-stream": {"schema": {"type": "string"}}}
            schema["paths"][_TRACE]["get"]["responses"][200] = {"description": "events", "content": events}
        return schema


def describe(app: QuartTrio, version: str) -> None:
    """Have app serve its description."""
    extension = QuartSchema(
        openapi_path=None,
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=Info(title="Rookery", version=version, description="Administration of a multi-tenant MQTT broker"),
        security_schemes={"key": HttpSecurityScheme(scheme="bearer")},
        security=[{"key": []}],
        openapi_provider_class=Provider,
    )
    extension.init_app(app)
    resource = Blueprint("openapi", __name__)

    @resource.get("/openapi.json")
    @needs(Right.NONE)
    @hide
    async def openapi() -> Response:
        """The description of all calls as OpenAPI 3.1."""
        return jsonify(Provider(app, extension).schema())

    for path, (name, media_type) in FILES.items():
        resource.add_url_rule(path, path.strip("/").replace(".", "_"), view_func=_serve_file(STATIC / name, media_type))
    app.register_blueprint(resource)


def _serve_file(file: Path, media_type: str) -> Any:
    content = file.read_bytes()

    @needs(Right.NONE)
    @hide
    async def serve() -> Response:
        headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
        return Response(content, headers=headers, content_type=media_type)

    return serve
