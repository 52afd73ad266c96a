"""What the tests of the HTTP API share."""

from collections.abc import AsyncIterator

import pytest

from support.service import Service, service_with


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A broker and its API at default settings."""
    async with service_with() as opened:
        yield opened
