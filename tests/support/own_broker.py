"""A broker inside the test's own trio program, and its clients."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from rookery.server.auth.authenticator import Authenticator, EnhancedAuthenticator
from rookery.server.broker import Broker
from rookery.server.config import Config
from rookery.server.opening import open_broker
from support import mqtt_client
from support.mqtt_client import Client

OpenBroker = Callable[..., AbstractAsyncContextManager[Broker]]


def make_config(**sections: Any) -> Config:
    """A configuration on free ports of the loopback address, with these sections on top."""
    values: dict[str, Any] = {"mqtt": {"bind": "127.0.0.1:0"}, "api": {"bind": "127.0.0.1:0"}}
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return Config.model_validate(values)


@asynccontextmanager
async def broker_with(
    authenticator: Authenticator | None = None,
    *,
    enhanced_authenticators: Iterable[EnhancedAuthenticator] = (),
    **sections: Any,
) -> AsyncIterator[Broker]:
    """A broker of the test's own, in the test's own trio program."""
    config = make_config(**sections)
    async with open_broker(
        config, authenticator=authenticator, enhanced_authenticators=enhanced_authenticators
    ) as broker:
        yield broker


def connect(broker: Broker, **fields: Any) -> AbstractAsyncContextManager[Client]:
    """A client that is connected to broker; fields are those of CONNECT."""
    return mqtt_client.connect((broker.mqtt_address.host, broker.mqtt_address.port), **fields)


def open_client(broker: Broker, **fields: Any) -> AbstractAsyncContextManager[Client]:
    """A connection to broker that has sent nothing yet."""
    return mqtt_client.open_connection((broker.mqtt_address.host, broker.mqtt_address.port), **fields)
