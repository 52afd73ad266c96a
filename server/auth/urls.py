"""URLs of servers that are asked about clients."""

from urllib.parse import urlsplit

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


def check_url(url: str) -> str | None:
    """What is wrong with a URL; None when nothing is. Without TLS only this machine may be asked."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return f"{url!r} is no URL that begins with https://"
    if parts.username or parts.password:
        return "a URL may not hold a password, for it stands in the log"
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        return f"{url!r} has no TLS, so everybody on the way could answer; use https://"
    return None
