"""Names in paths of `/v1`: any text, also with slashes, percent-encoded: `/v1/tenants/acme/sessions/bob/dev%2F1`.

Servers decode a path before it is routed, and then a slash of a name looks like one of the path. What belongs to a
name is therefore put back in a form that routing leaves alone, and taken out again where the name is read.
"""

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from werkzeug.routing import BaseConverter

from .parameters import TEXT_SIZE_MAXIMUM
from .problems import PREFIX, InvalidFields

NUMBER_MAXIMUM = 2**53  # what JSON numbers hold everywhere


class NameConverter(BaseConverter):
    """`<name:tenant_id>` in a route."""

    regex = "[^/]+"
    part_isolating = True

    def to_python(self, value: str) -> str:
        return value.replace("%2F", "/").replace("%25", "%")

    def to_url(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F")


class NumberConverter(BaseConverter):
    """`<number:rule_id>` in a route: 1 to NUMBER_MAXIMUM; None for what is none, which check_names refuses."""

    regex = "[^/]+"
    part_isolating = True

    def to_python(self, value: str) -> int | None:
        is_number = value.isascii() and value.isdigit() and len(value) <= len(str(NUMBER_MAXIMUM))
        number = int(value) if is_number else 0
        return number if 1 <= number <= NUMBER_MAXIMUM else None


def check_names(values: Mapping[str, str | int | None], raw_path: bytes) -> None:
    """Raise InvalidFields unless the names and numbers of a path are such that something may be called so."""
    faults = []
    for name, value in values.items():
        if value is None:
            faults.append((f"path.{name}", f"expected a number, 1 to {NUMBER_MAXIMUM}"))
        elif isinstance(value, str):
            expected = _expected(value, raw_path)
            if expected:
                faults.append((f"path.{name}", f"expected {expected}"))
    if faults:
        raise InvalidFields(faults)


def _expected(name: str, raw_path: bytes) -> str:
    """What a name should have been; nothing when it is."""
    if "\0" in name:
        return "text without U+0000"
    if len(name) > TEXT_SIZE_MAXIMUM or len(name.encode()) > TEXT_SIZE_MAXIMUM:
        return f"at most {TEXT_SIZE_MAXIMUM} bytes"
    if "\ufffd" in name:
        try:
            unquote_to_bytes(raw_path).decode()
        except UnicodeDecodeError:
            return "percent-encoded UTF-8"
    return ""


def decode_path(raw_path: bytes) -> str:
    """The path as NameConverter expects it; what is no UTF-8 is replaced, and refused by check_names."""
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
