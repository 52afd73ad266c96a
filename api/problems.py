"""Errors of `/v1` as application/problem+json (RFC 9457): status, what is wrong, and where."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError
from quart import Response, g
from werkzeug.exceptions import HTTPException

from rookery.core.log.errors import LogError
from rookery.core.permissions.rule import InvalidRule
from rookery.core.settings import SettingError
from rookery.core.topics.names import InvalidTopic
from rookery.server.errors import (
    BatchInterrupted,
    BrokerBusy,
    BrokerDiskFull,
    BrokerLate,
    BrokerNotDurable,
    BrokerStopping,
)
from rookery.server.inventory import InvalidPlace, NoSuchSession
from rookery.server.store import StoreError

from .answers import RequestRefused, describe_status
from .parameters import BadParameter

MEDIA_TYPE = "application/problem+json"
PREFIX = "/v1/"
RETRY_AFTER_S = "1"
FIELDS_LIMIT = 20  # told of one request; more would only be longer


class Fault(BaseModel):
    """What is wrong with one field."""

    where: str
    message: str


class Problem(BaseModel):
    """What went wrong with a request."""

    title: str
    status: int
    detail: str
    req_id: str
    errors: list[Fault] | None = None


class InvalidFields(ValueError):
    """Fields of a request that are not as they should be: where, and what was expected."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{where}: {message}" for where, message in faults[:FIELDS_LIMIT]))
        self.faults = faults[:FIELDS_LIMIT]

    @classmethod
    def of(cls, error: ValidationError, source: str) -> "InvalidFields":
        """Those that pydantic found in the source: query, body."""
        return cls([(".".join([source, *map(str, each["loc"])]), each["msg"]) for each in error.errors()])


_STATUSES: Mapping[type[Exception], int] = {
    BadParameter: 400,
    InvalidFields: 400,
    InvalidTopic: 400,
    InvalidRule: 400,
    InvalidPlace: 400,
    SettingError: 400,
    NoSuchSession: 404,
    BatchInterrupted: 500,
    BrokerBusy: 503,
    BrokerDiskFull: 507,
    BrokerNotDurable: 503,
    BrokerStopping: 503,
    StoreError: 503,
    LogError: 503,
    BrokerLate: 504,
}
_DETAILS: Mapping[type[Exception], str] = {
    NoSuchSession: "there is no session of this tenant, user and client identifier",
    InvalidPlace: "cursor: expected one that the list before gave",
}


def is_v1(path: str) -> bool:
    """Is the path one of those whose errors are problems?"""
    return path.startswith(PREFIX)


def answer_problem(
    status: int, detail: str, *, faults: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """A problem as an answer."""
    problem: dict[str, Any] = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "req_id": str(g.get("request_id", "")),
    }
    if faults:
        problem["errors"] = [{"where": where, "message": message} for where, message in faults]
    return Response(json.dumps(problem), status, headers=dict(headers or {}), content_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Response | None:
    """The answer to an error that callers may meet; None to one that is our mistake."""
    if isinstance(error, RequestRefused):
        return answer_problem(error.status, str(error), headers=error.headers)
    if isinstance(error, HTTPException):
        status = error.code or 500
        allow = {name: value for name, value in error.get_headers() if name.lower() == "allow"}
        return answer_problem(status, describe_status(status), headers=allow)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            faults = error.faults if isinstance(error, InvalidFields) else ()
            headers = {"retry-after": RETRY_AFTER_S} if status == 503 else None
            return answer_problem(status, _DETAILS.get(kind, str(error)), faults=faults, headers=headers)
    return None
