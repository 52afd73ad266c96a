"""The threads of the shards: started, watched, and stopped in order."""

from collections.abc import Awaitable, Callable

import trio

from rookery.core.engine import Engine

from .errors import ShardFailed
from .log import get_logger

STOP_SLACK_S = 0.5  # A shard that has not returned so long after its grace is given up.

_log = get_logger(__name__)


class ShardThreads:
    """One thread per shard, each without the GIL for its whole life, and a pump beside it that hands on its events."""

    def __init__(self, engine: Engine, stop_grace_s: float) -> None:
        self._engine = engine
        self._stop_grace_s = stop_grace_s
        self._scope = trio.CancelScope(shield=True)  # A cancelled caller still has its clients told.
        self._are_told = False
        self._failure: ShardFailed | None = None

    async def serve(
        self,
        pump: Callable[[int, trio.Nursery], Awaitable[None]],
        watch: Callable[[], Awaitable[None]],
        on_failure: Callable[[], None],
    ) -> None:
        """Run the shards until stop.

        pump hands on the events of the shard given, and puts what takes long into the nursery given, which ends with
        the shards; watch runs beside them. on_failure is called when a shard dies, and must call stop.

        Raises ShardFailed when a shard dies or does not end. Shards that miss the deadline of stop are abandoned with
        their threads: a thread cannot be ended from outside.
        """
        with self._scope:
            async with trio.open_nursery() as background:
                background.start_soon(watch)
                async with trio.open_nursery() as shards:
                    limiter = trio.CapacityLimiter(self._engine.shard_count)
                    for shard in range(self._engine.shard_count):
                        shards.start_soon(self._run, shard, limiter, pump, background, on_failure)
                background.cancel_scope.cancel()  # Their clients are gone, and nothing is written any more.
        if self._failure is not None:
            raise self._failure
        if self._are_abandoned:
            raise ShardFailed(f"a shard did not stop within {self._stop_grace_s + STOP_SLACK_S:g} s")

    def stop(self) -> None:
        """Tell the shards to say good-bye and return; serve ends within the grace and a little more. Once."""
        self._are_told = True
        self._engine.stop(round(self._stop_grace_s * 1000))
        self._scope.deadline = trio.current_time() + self._stop_grace_s + STOP_SLACK_S

    def close_engine(self) -> None:
        """Free what the shards had, unless threads may still run in there."""
        if not self._are_abandoned:
            self._engine.close()

    @property
    def _are_abandoned(self) -> bool:
        return self._scope.cancelled_caught

    async def _run(
        self,
        shard: int,
        limiter: trio.CapacityLimiter,
        pump: Callable[[int, trio.Nursery], Awaitable[None]],
        background: trio.Nursery,
        on_failure: Callable[[], None],
    ) -> None:
        def fail(reason: str, cause: Exception | None = None) -> None:
            _log.critical("shard_died", shard=shard, reason=reason)
            if self._failure is None:
                self._failure = ShardFailed(f"shard {shard} {reason}")
                self._failure.__cause__ = cause
            on_failure()

        async def hand_on() -> None:
            try:
                await pump(shard, background)
            except Exception as error:  # Our mistake; the threads must still be stopped in order.
                fail(f"lost its event pump: {error!r}", error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand_on)
            try:
                await trio.to_thread.run_sync(
                    self._engine.run_shard,
                    shard,
                    thread_name=f"rookery-shard-{shard}",
                    abandon_on_cancel=True,
                    limiter=limiter,
                )
            except Exception as error:
                fail(f"died: {error!r}", error)
            if not self._are_told:
                fail("ended without being told to")
            if self._failure is not None:
                nursery.cancel_scope.cancel()  # No ShardStopped may ever come.
