"""From a name in the configuration to a plugin: entry points, and modules by their path."""

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, cast

from .contracts import POINTS

ENTRY_POINT_GROUP = "rookery.plugins"

Factory = Callable[..., Any]


class PluginError(Exception):
    """A plugin cannot be had; the message names it and says why."""


def find_factory(name: str) -> Factory:
    """What makes the plugin: `module:attribute`, or the name of an entry point of rookery.plugins. Imports it.

    Raises PluginError, whatever the import raised.
    """
    try:
        factory: Any = _import(name) if ":" in name else _entry_point(name)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"plugin {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(factory):
        raise PluginError(f"plugin {name!r} is {factory!r}, which cannot be called")
    return cast(Factory, factory)


def _import(name: str) -> Any:
    module_name, _, path = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise PluginError(f"plugin {name!r}: {getattr(found, '__name__', found)} has no {attribute!r}")
        found = getattr(found, attribute)
    return found


def _entry_point(name: str) -> Any:
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        known = ", ".join(sorted(entry_points(group=ENTRY_POINT_GROUP).names)) or "none"
        raise PluginError(f"no installed package has a plugin {name!r}; there are: {known}")
    return next(iter(found)).load()


def make_plugin(name: str, factory: Factory, options: Mapping[str, Any]) -> Any:
    """The plugin. Raises PluginError when it cannot be made, or is none: without any method of an extension point."""
    try:
        plugin = factory(**options)
    except Exception as error:
        raise PluginError(f"plugin {name!r} cannot be made: {type(error).__name__}: {error}") from error
    if not any(isinstance(plugin, point) for point in POINTS):
        points = ", ".join(point.__name__ for point in POINTS)
        raise PluginError(f"plugin {name!r} is a {type(plugin).__name__}, which is none of {points}")
    return plugin
