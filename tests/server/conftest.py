"""What the tests of the control plane share."""

from collections.abc import AsyncIterator

import pytest

from rookery.server.broker import Broker
from support.own_broker import broker_with


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker at its default settings."""
    async with broker_with() as opened:
        yield opened
