"""Request bodies, read up to a limit and not a byte further."""

import trio
from quart import Request

from .answers import RequestRefused


async def read_body(request: Request, *, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises RequestRefused: 413 for one above limit_bytes, 408 for one that comes too slowly.

    A Content-Length above the limit is refused before anything is read; a chunked body as soon as it is longer. The
    connection is closed then, because what is left of the body cannot be told from a next request.
    """
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    with trio.move_on_after(timeout_s):
        async for chunk in request.body:
            body += chunk
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
        return bytes(body)
    raise RequestRefused(408)


def _too_large(limit_bytes: int) -> RequestRefused:
    return RequestRefused(413, f"the body is larger than {limit_bytes} bytes")
