"""The control plane on trio: configuration, listeners, authentication, supervision of the shards."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rookery.server.broker import Broker
    from rookery.server.opening import open_broker

__all__ = ["Broker", "open_broker"]


def __getattr__(name: str) -> object:
    """Broker and open_broker; imported when they are asked for, as the tools need neither TLS nor HTTP for a start."""
    if name == "Broker":
        from rookery.server.broker import Broker

        return Broker
    if name == "open_broker":
        from rookery.server.opening import open_broker

        return open_broker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
