"""The settings of tenants while the broker runs: layers of values, and what is in force.

    [settings] of the configuration           everybody's
      + [tenants.NAME.settings]               Layer.CONFIGURATION
      + set over HTTP, kept in the database   Layer.DATABASE
      + said by plugins                       Layer.PLUGIN        the topmost that has a value wins

A change is in force for connections that are open as soon as their shard takes the command. A layer with an unknown
name or a value out of range is refused whole, and what was in force stays.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum

from rookery.core.settings import TenantSettings

SettingValues = Mapping[str, bool | int | str]  # by BifroMQ's names


class Layer(IntEnum):
    """Where values come from; higher ones win."""

    CONFIGURATION = 1
    DATABASE = 2
    PLUGIN = 3


class TenantSettingsBook:
    """What holds for each tenant. configure is told of every change; when it raises, nothing has changed."""

    def __init__(self, defaults: TenantSettings, configure: Callable[[str, TenantSettings], None]) -> None:
        self.defaults = defaults
        self._configure = configure
        self._layers: dict[str, dict[Layer, dict[str, bool | int | str]]] = {}
        self._in_force: dict[str, TenantSettings] = {}

    def __len__(self) -> int:
        return len(self._in_force)

    def of(self, tenant_id: str) -> TenantSettings:
        """What is in force for a tenant."""
        return self._in_force.get(tenant_id, self.defaults)

    def values(self, tenant_id: str, layer: Layer) -> dict[str, bool | int | str]:
        """What a layer says about a tenant; empty when it says nothing."""
        return dict(self._layers.get(tenant_id, {}).get(layer, {}))

    def check(self, tenant_id: str, layer: Layer, values: SettingValues) -> TenantSettings:
        """What would be in force after put. Raises SettingError."""
        _, settings = self._with(tenant_id, layer, values)
        return settings

    def put(self, tenant_id: str, layer: Layer, values: SettingValues) -> TenantSettings:
        """Replace what a layer says about a tenant; what is then in force. No values take the layer away.

        Raises SettingError when a name is unknown or a value out of range, and EngineBusy; the old values stay.
        """
        layers, settings = self._with(tenant_id, layer, values)
        if settings != self.of(tenant_id):
            self._configure(tenant_id, settings)
        if layers:
            self._layers[tenant_id] = layers
            self._in_force[tenant_id] = settings
        else:
            self._layers.pop(tenant_id, None)
            self._in_force.pop(tenant_id, None)
        return settings

    def _with(
        self, tenant_id: str, layer: Layer, values: SettingValues
    ) -> tuple[dict[Layer, dict[str, bool | int | str]], TenantSettings]:
        """The layers of a tenant when one is replaced, and what they come to."""
        layers = dict(self._layers.get(tenant_id, {}))
        layers[layer] = dict(values)
        if not values:
            del layers[layer]
        settings = self.defaults
        for _, said in sorted(layers.items()):
            settings = TenantSettings.from_names(said, base=settings)
        return layers, settings
