"""Small documents from other servers: with a deadline, a limit of size, and certificates that are verified."""

import ssl

import httpx
import trio


class FetchError(Exception):
    """A document cannot be had; the text says from where and why, and nothing of its content."""


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
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > size_maximum:
                        raise FetchError(f"{url}: the answer has more than {size_maximum} bytes")
                return bytes(body)
    except trio.TooSlowError:
        raise FetchError(f"{url}: no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise FetchError(f"{url}: {type(error).__name__}: {error}") from error
