"""Plugins: strangers' code at the broker's extension points. docs/plugins.md is the guide for those who write one."""

from rookery.server.auth.authenticator import Challenge, EnhancedAuthenticator

from .contracts import (
    AuthProvider,
    Client,
    ClientBalancer,
    Delivered,
    EventCollector,
    Interest,
    PermissionProvider,
    Redirect,
    ResourceThrottler,
    SettingProvider,
    SettingValues,
    SubBroker,
    UserPropertiesCustomizer,
)
from .host import PluginHost, PluginState, open_plugins
from .loading import PluginError

__all__ = [
    "AuthProvider",
    "Challenge",
    "Client",
    "ClientBalancer",
    "Delivered",
    "EnhancedAuthenticator",
    "EventCollector",
    "Interest",
    "PermissionProvider",
    "PluginError",
    "PluginHost",
    "PluginState",
    "Redirect",
    "ResourceThrottler",
    "SettingProvider",
    "SettingValues",
    "SubBroker",
    "UserPropertiesCustomizer",
    "open_plugins",
]
