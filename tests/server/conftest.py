"""What the tests of the control plane share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rookery.server.broker import Broker

# Found by their entry point where the package is installed; a checkout that was only built needs them here.
from rookery.server.pytest_plugin import mqtt_broker, mqtt_broker_config  # noqa: F401
from support.own_broker import broker_with
from support.tls import Authority


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker at its default settings."""
    async with broker_with() as opened:
        yield opened


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the certificates of server and clients."""
    return Authority(tmp_path)


@pytest.fixture
def certificate(authority: Authority) -> str:
    """The file of a server's certificate for localhost, with its key."""
    return authority.issue("server.pem", "localhost")
