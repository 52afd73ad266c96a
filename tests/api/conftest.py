"""What the tests of the HTTP API share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.service import Service, service_with
from support.tls import Authority


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A broker and its API at default settings."""
    async with service_with() as opened:
        yield opened


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the certificates of server and clients."""
    return Authority(tmp_path)


@pytest.fixture
def certificate(authority: Authority) -> str:
    """The file of a server's certificate for localhost, with its key."""
    return authority.issue("server.pem", "localhost", "127.0.0.1")
