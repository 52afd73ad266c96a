"""Small documents from other servers: with a deadline, a limit of size, and certificates that are verified."""

import ssl

import httpx
import trio


class FetchError(Exception):
    """A document cannot be had; the text says from where and why, and nothing of its content."""


class TooLarge(Exception):
    """A body that has more bytes than anybody wants."""


NO_ENCODING = {"Accept-Encoding": "identity"}  # of every client: see read_body


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """Verifies servers by the authorities of the system, or by those of a PEM file alone. Raises FetchError."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise FetchError(f"{ca_file}: {getattr(error, 'strerror', None) or error}") from error


async def fetch(client: httpx.AsyncClient, url: str, *, timeout_s: float, size_maximum: int) -> bytes:
    """The body of the answer to a GET, which has to be 200. Raises FetchError. Redirections are not followed."""
    try:
        with trio.fail_after(timeout_s):
            async with client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise FetchError(f"{url}: answered {response.status_code}")
                return await read_body(response, size_maximum)
    except TooLarge as error:
        raise FetchError(f"{url}: {error}") from None
    except trio.TooSlowError:
        raise FetchError(f"{url}: no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
        raise FetchError(f"{url}: {reason_of(error)}") from error


async def read_body(response: httpx.Response, size_maximum: int) -> bytes:
    """The body as it was sent: never unpacked, because little can become much. Raises TooLarge."""
    body = bytearray()
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > size_maximum:
                # Unwinds the generators inside, which an exception from here would leave behind.
                scope.cancel()
    if len(body) > size_maximum:
        raise TooLarge(f"the answer has more than {size_maximum} bytes")
    return bytes(body)


def reason_of(error: BaseException) -> str:
    """What went wrong, in words: of a chain of errors the first that has some."""
    cause: BaseException | None = error
    while cause is not None:
        if str(cause):
            return f"{type(error).__name__}: {cause}"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
