"""What can be done to the retained messages of a tenant from outside."""

from collections.abc import Callable
from functools import partial

from rookery.core.engine import Engine
from rookery.core.events import RetainOutcome

from .commands import Ask, for_each_shard, total


class RetainedMessages:
    """The retained messages of a broker. Errors of all calls: BrokerBusy, BrokerNotDurable, BrokerLate, BrokerStopping.

    What they say has been done is durable. check_room raises when the log takes nothing more.
    """

    def __init__(self, engine: Engine, ask: Ask, check_room: Callable[[], None]) -> None:
        self._engine = engine
        self._ask = ask
        self._check_room = check_room

    async def store(
        self, tenant_id: str, topic: str, payload: bytes, *, qos: int, message_expiry_interval: int | None = None
    ) -> RetainOutcome:
        """Keep a message for later subscribers; it is delivered to none of those that there are. No payload: clear.

        topic is a checked topic name.
        """
        self._check_room()
        retain = partial(
            self._engine.retain,
            tenant_id=tenant_id,
            topic=topic,
            payload=payload,
            qos=qos,
            message_expiry_interval=message_expiry_interval,
        )
        (answer,) = await self._ask([retain])
        return RetainOutcome(answer if isinstance(answer, int) else RetainOutcome.FAILED)

    async def remove(self, tenant_id: str, *, age_s: int) -> int:
        """Remove the messages that were stored age_s ago or longer, 0: all; their number."""
        remove = partial(self._engine.remove_retained, tenant_id=tenant_id, age_s=age_s)
        return total(await self._ask(for_each_shard(remove, self._engine.shard_count)))
