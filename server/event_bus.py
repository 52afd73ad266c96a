"""The event bus: from what happens to whoever asked for it.

    shards --notices--> take_notices --.
                                       |--> EventBus --> EventStream (bounded) --> plugin, HTTP stream, test
    parts of the server --- publish ---'

Nobody waits for a slow listener: a stream that is full loses its newest events and counts them, so that those that it
has keep their order. While nobody asks for a type, shards do not raise it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import trio

from rookery.core.notices import NoticeKind

from .events import Event, kinds_of

STREAM_LIMIT = 10_000  # Events that wait for one listener; some 3 MB.


class EventStream:
    """What one listener gets, in the order in which it happened on each shard. An asynchronous iterator."""

    def __init__(self, types: tuple[type[Event], ...], limit: int, accepts: Callable[[Event], bool] | None) -> None:
        self.types = types
        self.dropped = 0  # events that found the stream full
        self.failed = 0  # events at which accepts raised
        self._accepts = accepts
        self._send, self._receive = trio.open_memory_channel[Event](limit)

    def offer(self, event: Event) -> None:
        """Put an event in if the listener wants it and there is room. Never raises."""
        if not isinstance(event, self.types):
            return
        try:
            if self._accepts is not None and not self._accepts(event):
                return
        except Exception:  # The listener's own mistake costs it its event and nobody else anything.
            self.failed += 1
            return
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self.dropped += 1

    def take_waiting(self, limit: int) -> list[Event]:
        """Events that wait already, limit at most."""
        taken: list[Event] = []
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while len(taken) < limit:
                taken.append(self._receive.receive_nowait())
        return taken

    def close(self) -> None:
        """End the iteration behind what still waits."""
        self._send.close()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive(self) -> Event:
        """The next event. Raises trio.EndOfChannel when the broker has ended."""
        return await self._receive.receive()


class EventBus:
    """Hands events to the streams that are open. observe is told whenever the notices that shards must raise change."""

    def __init__(self, observe: Callable[[frozenset[NoticeKind]], None]) -> None:
        self._observe = observe
        self._streams: list[EventStream] = []
        self._observed: frozenset[NoticeKind] = frozenset()
        self._is_closed = False
        self.lost_count = 0  # notices that shards had no room for

    @contextmanager
    def subscribe(
        self,
        *types: type[Event],
        limit: int = STREAM_LIMIT,
        accepts: Callable[[Event], bool] | None = None,
    ) -> Iterator[EventStream]:
        """A stream of events of these types, base classes included, while the block runs.

        accepts sees each of them before it takes a place; it must be quick. limit: events that may wait, 1 or more.
        """
        if not types:
            raise ValueError("no event type was asked for")
        stream = EventStream(types, limit, accepts)
        self._streams.append(stream)
        self._tell()
        try:
            yield stream
        finally:
            self._streams.remove(stream)
            stream.close()
            self._tell()

    def publish(self, event: Event) -> None:
        """Hand an event to all who want it. Never waits, never raises."""
        for stream in tuple(self._streams):
            stream.offer(event)

    def is_wanted(self, kind: type[Event]) -> bool:
        """Whether making an event of this type is worth the while."""
        return any(issubclass(kind, stream.types) for stream in self._streams)

    def close(self) -> None:
        """End all streams: nothing will happen any more, and there are no shards to be told."""
        self._is_closed = True
        for stream in self._streams:
            stream.close()

    def _tell(self) -> None:
        wanted = kinds_of(_flat(stream.types for stream in self._streams))
        if wanted != self._observed and not self._is_closed:
            self._observed = wanted
            self._observe(wanted)


def _flat(groups: Iterable[tuple[type[Event], ...]]) -> tuple[type[Event], ...]:
    return tuple(dict.fromkeys(kind for group in groups for kind in group))
