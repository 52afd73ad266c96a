"""Calls of the HTTP API as a script written for BifroMQ makes them: every parameter in a header."""

from typing import Any

import httpx

from support.service import Service

TEXT = "text/plain; charset=UTF-8"


async def call(service: Service, method: str, path: str, body: bytes = b"", /, **headers: Any) -> httpx.Response:
    """A call with these headers, text, bytes or numbers; those that are None are left out."""
    fields = [
        (name.encode(), value if isinstance(value, bytes) else str(value).encode())
        for name, value in headers.items()
        if value is not None
    ]
    return await service.http.request(method, path, headers=fields, content=body)


def expect(response: httpx.Response, status: int, text: str) -> None:
    """Status and body, in plain text, with the number of the request."""
    assert (response.status_code, response.text) == (status, text)
    assert response.headers["content-type"] == TEXT
    int(response.headers["req_id"])
