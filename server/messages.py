"""Messages that come from beside MQTT: one, or a batch of them."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from rookery.core.engine import Engine
from rookery.core.events import PublishOutcome
from rookery.core.settings import TenantSettings
from rookery.core.topics.names import TopicRules

from .commands import Ask, for_each_shard
from .durable_data import DurableData
from .errors import BatchInterrupted, BrokerError
from .replies import Answer

BATCH_AT_ONCE = 500  # messages of a batch that a shard hands out in one turn: a millisecond where few subscribe


class BatchMessage(NamedTuple):
    """A message of a batch."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    message_expiry_interval: int | None = None  # seconds


class Messages:
    """Publishes for the tenants of a broker."""

    def __init__(
        self, engine: Engine, ask: Ask, data: DurableData, settings_of: Callable[[str], TenantSettings]
    ) -> None:
        self._engine = engine
        self._ask = ask
        self._data = data
        self._settings_of = settings_of

    def check_topic(self, tenant_id: str, topic: str) -> None:
        """Raise InvalidTopic unless this is a topic name that the settings of the tenant allow."""
        _topic_rules(self._settings_of(tenant_id)).check_topic(topic)

    async def publish(
        self,
        tenant_id: str,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        message_expiry_interval: int | None = None,
    ) -> PublishOutcome:
        """Publish a message to the subscribers of a tenant, on all shards; what became of it, added up.

        What of it must be durable is so when this returns. Raises InvalidTopic before anything is done; BrokerBusy when
        the first shard has no room or too much waits for the disk, nothing done; BrokerNotDurable; BrokerLate when a
        shard did not answer in time; BrokerStopping.
        """
        self.check_topic(tenant_id, topic)
        if qos > 0 or retain:
            self._data.check_takes_more()
        publish = partial(
            self._engine.publish,
            tenant_id=tenant_id,
            topic=topic,
            payload=payload,
            qos=qos,
            retain=retain,
            message_expiry_interval=message_expiry_interval,
        )
        return _sum(await self._ask(for_each_shard(publish, self._engine.shard_count)))

    async def publish_batch(self, tenant_id: str, messages: Sequence[BatchMessage]) -> PublishOutcome:
        """Publish many messages of checked topics, in order; what became of them, added up.

        They go BATCH_AT_ONCE at a time, so that others are served in between. Raises as publish; when that is for
        other messages than the first BATCH_AT_ONCE, BatchInterrupted says how many were published before.
        """
        if any(message.qos > 0 or message.retain for message in messages):
            self._data.check_takes_more()
        outcome = PublishOutcome()
        for first in range(0, len(messages), BATCH_AT_ONCE):
            part = messages[first : first + BATCH_AT_ONCE]
            publish = partial(self._engine.publish_batch, tenant_id=tenant_id, messages=part)
            try:
                outcome += _sum(await self._ask(for_each_shard(publish, self._engine.shard_count)))
            except BrokerError as error:
                if first == 0:
                    raise
                raise BatchInterrupted(first) from error
        return outcome


def _sum(answers: list[Answer]) -> PublishOutcome:
    return sum((answer for answer in answers if isinstance(answer, PublishOutcome)), start=PublishOutcome())


@lru_cache(maxsize=256)
def _topic_rules(settings: TenantSettings) -> TopicRules:
    return TopicRules(
        topic_size_maximum=settings.max_topic_length,
        level_count_maximum=min(settings.max_topic_levels, 65535),
        level_size_maximum=min(settings.max_topic_level_length, 65535),
    )
