"""Who did what over HTTP: one event for whoever wants to know, with the name that the caller gave himself."""

from time import time_ns

from rookery.server.broker import Broker
from rookery.server.events import CallerActed

from .parameters import ActingClient


def witness(
    broker: Broker,
    caller: ActingClient,
    tenant_id: str,
    action: str,
    *,
    user_id: str | None = None,
    client_id: str | None = None,
    topic: str = "",
    count: int = 0,
) -> None:
    """Raise CallerActed, if anybody listens."""
    if broker.events.is_wanted(CallerActed):
        broker.events.publish(
            CallerActed(
                at_ms=time_ns() // 1_000_000,
                tenant_id=tenant_id,
                action=action,
                caller_type=caller.type,
                caller_metadata=tuple(caller.metadata.items()),
                user_id=user_id or "",
                client_id=client_id or "",
                topic=topic,
                count=count,
            )
        )
