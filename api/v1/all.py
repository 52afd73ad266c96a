"""The resources of `/v1`, all together."""

from quart import Blueprint

from rookery.api.key_ring import KeyRing
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection

from .api_keys import create_api_keys
from .bans import create_bans
from .publish import create_publish
from .retained import create_retained
from .rules import create_rules
from .server import create_server
from .sessions import create_sessions
from .subscriptions import create_subscriptions
from .tenants import create_tenants
from .trace import create_trace
from .users import create_users


def create_v1(broker: Broker, section: ApiSection, keys: KeyRing) -> tuple[Blueprint, ...]:
    """Every one of them."""
    return (
        create_tenants(broker, section),
        create_sessions(broker),
        create_subscriptions(broker),
        create_retained(broker),
        create_publish(broker, section),
        create_users(broker, section),
        create_rules(broker, section),
        create_bans(broker, section),
        create_trace(broker),
        create_api_keys(broker, section, keys),
        create_server(broker, section, keys),
    )
