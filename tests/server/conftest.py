"""What the tests of the control plane share."""

from collections.abc import AsyncIterator

import pytest

from rookery.server.broker import Broker

# Found by their entry point where the package is installed; a checkout that was only built needs them here.
from rookery.server.pytest_plugin import mqtt_broker, mqtt_broker_config  # noqa: F401
from support.own_broker import broker_with


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker at its default settings."""
    async with broker_with() as opened:
        yield opened
