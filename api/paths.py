"""Names in paths of `/v1`: any text, also with slashes, percent-encoded: `/v1/tenants/acme/sessions/bob/dev%2F1`.

Servers decode a path before it is routed, and then a slash of a name looks like one of the path. What belongs to a
name is therefore put back in a form that routing leaves alone, and taken out again where the name is read.
"""

from urllib.parse import unquote_to_bytes

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from werkzeug.routing import BaseConverter

from .problems import PREFIX


class NameConverter(BaseConverter):
    """`<name:tenant_id>` in a route."""

    regex = "[^/]+"
    part_isolating = True

    def to_python(self, value: str) -> str:
        return value.replace("%2F", "/").replace("%25", "%")

    def to_url(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F")


def decode_path(raw_path: bytes) -> str:
    """The path as NameConverter expects it; what is no UTF-8 is replaced, and meets no name."""
    segments = (unquote_to_bytes(segment).decode("utf-8", "replace") for segment in raw_path.split(b"/"))
    return "/".join(segment.replace("%", "%25").replace("/", "%2F") for segment in segments)


class RawPaths:
    """Gives the application paths whose names are whole."""

    def __init__(self, app: object) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http" and scope["raw_path"].startswith(PREFIX.encode()):
            scope["path"] = decode_path(scope["raw_path"])
        await self._app(scope, receive, send)  # type: ignore[operator]
