"""How requests of `/v1` are read: the query and JSON bodies, each as a model, with errors that name the field."""

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from quart import Request, request

from rookery.api.answers import RequestRefused
from rookery.api.body import read_body
from rookery.api.problems import InvalidFields
from rookery.core.topics.names import InvalidTopic
from rookery.server.config_listeners import ApiSection
from rookery.server.inventory import PAGE_LIMIT

NAME_LENGTH_MAXIMUM = 65535  # no string of MQTT is longer
CURSOR_LENGTH_MAXIMUM = 100_000  # a topic of 65535 bytes in base64
FIELDS_MAXIMUM = 50  # of a query
FAULTS_MAXIMUM = 20  # told of one body

ModelT = TypeVar("ModelT", bound=BaseModel)


class Model(BaseModel):
    """What all have in common: a field that we do not know is a mistake of the caller."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(Model):
    """Of every list."""

    limit: int = Field(default=100, ge=1, le=PAGE_LIMIT, description="rows at most")
    cursor: str = Field(
        default="", max_length=CURSOR_LENGTH_MAXIMUM, description="`next` of the page before; empty = the first page"
    )

    @property
    def place(self) -> bytes:
        """The cursor as the broker gave it. Raises InvalidFields."""
        return decode_cursor(self.cursor)


@contextmanager
def of_field(where: str) -> Iterator[None]:
    """A topic or topic filter that is refused in the block is that of this field. Raises InvalidFields for it."""
    try:
        yield
    except InvalidTopic as error:
        raise InvalidFields([(where, str(error))]) from None


def encode_cursor(place: bytes) -> str | None:
    """What a caller gives back for the next page; None behind the last one."""
    return base64.urlsafe_b64encode(place).decode() if place else None


def decode_cursor(cursor: str) -> bytes:
    """What encode_cursor was given. Raises InvalidFields."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidFields([("query.cursor", "expected one that the list before gave")]) from None


def read_query(model: type[ModelT]) -> ModelT:
    """The query of the request. Raises InvalidFields for what is unknown, doubled or out of range."""
    try:
        pairs = parse_qsl(
            request.query_string.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=False,
            errors="surrogateescape",
            max_num_fields=FIELDS_MAXIMUM,
        )
    except ValueError:
        raise InvalidFields([("query", f"expected percent-encoded UTF-8, {FIELDS_MAXIMUM} fields at most")]) from None
    broken = sorted({name for name, value in pairs if not (_is_text(name) and _is_text(value))})
    if broken:
        raise InvalidFields(
            [(f"query.{name.encode('utf-8', 'replace').decode()}", "expected percent-encoded UTF-8") for name in broken]
        )
    names = [name for name, _ in pairs]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidFields([(f"query.{name}", "expected once") for name in doubled])
    try:
        return model.model_validate(dict(pairs))
    except ValidationError as error:
        raise InvalidFields.of(error, "query") from None


def _is_text(value: str) -> bool:
    """Is it of Unicode characters alone?"""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken_texts(value: object, where: str) -> Iterator[str]:
    """Where JSON has strings that no UTF-8 can hold; a name that is one is told as its object."""
    if isinstance(value, str):
        if not _is_text(value):
            yield where
    elif isinstance(value, dict):
        for name, member in value.items():
            if _is_text(name):
                yield from _broken_texts(member, f"{where}.{name}")
            else:
                yield where
    elif isinstance(value, list):
        for place, element in enumerate(value):
            yield from _broken_texts(element, f"{where}.{place}")


class DoubledMember(ValueError):
    """A JSON object that has one name twice, of which readers would take either."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def refuse_doubled(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object_pairs_hook of json.loads that raises DoubledMember."""
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        raise DoubledMember(next(name for name in names if names.count(name) > 1))
    return found


async def read_json(model: type[ModelT], section: ApiSection) -> ModelT:
    """The JSON body of the request. Raises InvalidFields, and RequestRefused with 408, 413 and 415."""
    data = await read_typed_body(request, section, "application/json", limit_bytes=section.body_limit_bytes)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=refuse_doubled)
    except DoubledMember as error:
        raise InvalidFields([(f"body.{error.name}", "expected once")]) from None
    except (ValueError, RecursionError):
        raise InvalidFields([("body", "expected JSON in UTF-8")]) from None
    if b"\\u" in data:
        broken = list(islice(_broken_texts(value, "body"), FAULTS_MAXIMUM))
        if broken:
            raise InvalidFields([(where, "expected text without lone surrogates") for where in broken])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidFields.of(error, "body") from None


async def read_typed_body(asked: Request, section: ApiSection, media_type: str, *, limit_bytes: int) -> bytes:
    """A body of one media type. Asking for it keeps pages of strangers from calling us out of a browser."""
    if (asked.mimetype or "").lower() != media_type:
        raise RequestRefused(415, f"expected the header Content-Type: {media_type}")
    return await read_body(asked, limit_bytes=limit_bytes, timeout_s=section.request_timeout_s)


async def expect_no_body(section: ApiSection) -> None:
    """Read what a caller sends although nothing is expected, so that the connection goes on."""
    if await read_body(request, limit_bytes=section.body_limit_bytes, timeout_s=section.request_timeout_s):
        raise InvalidFields([("body", "expected none")])
