"""What the tests of `/v1` share."""

from collections.abc import AsyncIterator

import pytest

from support.service import Service, service_with


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A broker and its API; rules of the database hold, and all is allowed where none says otherwise."""
    async with service_with(permissions={"database": True, "default": "allow"}) as opened:
        yield opened
