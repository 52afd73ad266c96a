"""Answers that are no success: which error becomes which status and text. Never HTML, never a traceback."""

from collections.abc import Mapping

from quart import Response
from werkzeug.exceptions import HTTPException

from rookery.core.topics.names import InvalidTopic
from rookery.server.errors import BrokerBusy, BrokerDiskFull, BrokerLate, BrokerNotDurable, BrokerStopping

from .parameters import BadParameter

TEXT = "text/plain; charset=UTF-8"

# Ours, by type of error: the status, and the text where that of the error is not meant for the caller.
_ERRORS: Mapping[type[Exception], tuple[int, str | None]] = {
    BadParameter: (400, None),
    InvalidTopic: (403, "Unaccepted Topic"),
    BrokerBusy: (400, "BACK_PRESSURE_REJECTED"),
    BrokerLate: (500, "TRY_LATER"),
    BrokerNotDurable: (503, None),
    BrokerDiskFull: (507, None),
    BrokerStopping: (503, "TRY_LATER"),
}

# The framework's and the parser's, by status.
_TEXTS: Mapping[int, str] = {
    400: "malformed HTTP request",
    404: "no such path",
    405: "method not allowed",
    408: "the request did not arrive in time",
    409: "it cannot be done as things are",
    413: "the body is too large",
    415: "media type not supported",
    429: "too many requests",
    431: "the request line and headers are too large",
    500: "internal error",
    501: "transfer coding not supported",
    401: "an API key is needed",
    403: "not allowed",
    504: "no answer in time",
    503: "too many requests in work",
    505: "expected HTTP/1.0 or HTTP/1.1",
}

ERROR_TYPES = tuple(_ERRORS)


class RequestRefused(Exception):
    """A request that is answered with this status; text where that of the status does not say enough."""

    def __init__(self, status: int, text: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text or describe_status(status))
        self.status = status
        self.headers = headers or {}


def describe_status(status: int) -> str:
    """What a caller is told of a status that says it all."""
    return _TEXTS.get(status, "the request was refused")


def answer_text(status: int, text: str) -> Response:
    """An answer in plain text."""
    return Response(text, status, content_type=TEXT)


def answer_error(error: Exception) -> Response:
    """The answer to one of ERROR_TYPES."""
    status, text = _ERRORS[type(error)]
    return answer_text(status, text if text is not None else str(error))


def answer_refusal(error: RequestRefused) -> Response:
    """The answer to a request that we refused ourselves."""
    response = answer_text(error.status, str(error))
    response.headers.update(error.headers)
    return response


def answer_http_exception(error: HTTPException) -> Response:
    """The answer to what the framework refused; with Allow after a wrong method."""
    status = error.code or 500
    response = answer_text(status, describe_status(status))
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response
