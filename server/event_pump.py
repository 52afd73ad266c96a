"""What shards tell the control plane, brought to whom it concerns."""

from time import time_ns

import trio

from rookery.core.engine import Engine
from rookery.core.events import (
    AuthenticationAbandoned,
    AuthReceived,
    ConnectionClosed,
    ConnectRequested,
    ReauthenticationRequested,
    Reply,
    ShardStopped,
)

from .admission import Admission
from .arrivals import Arrivals
from .event_bus import EventBus
from .events import AuthenticationAborted, event_of
from .log import get_logger
from .replies import Replies

EVENTS_PER_CHECKPOINT = 256  # Other tasks get the thread after this many events, about a millisecond of work.

_log = get_logger(__name__)


class EventPump:
    """Takes CONNECTs and AUTHs to admission, answers to those who asked, and notices to the event bus."""

    def __init__(
        self, engine: Engine, replies: Replies, arrivals: Arrivals, admission: Admission, bus: EventBus
    ) -> None:
        self._engine = engine
        self._replies = replies
        self._arrivals = arrivals
        self._admission = admission
        self._bus = bus

    async def run(self, shard: int, decisions: trio.Nursery) -> None:
        """Hand on what the shard tells, until it tells that it stops. Decisions that wait go into the nursery."""
        descriptor = self._engine.event_descriptor(shard)
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for index, event in enumerate(self._engine.take_events(shard), start=1):
                if isinstance(event, Reply):
                    self._replies.resolve(event)
                elif isinstance(event, ConnectRequested):
                    admitted = self._arrivals.insider(event)
                    if admitted is not None:
                        await self._admission.welcome(event, admitted)
                    else:
                        await self._admission.handle(self._arrivals.complete(event), decisions)
                elif isinstance(event, ConnectionClosed):
                    self._arrivals.close(event.ticket)
                elif isinstance(event, AuthReceived):
                    self._admission.exchanges.go_on(event)
                elif isinstance(event, ReauthenticationRequested):
                    self._admission.exchanges.begin_again(event, decisions)
                elif isinstance(event, AuthenticationAbandoned):
                    self._tell_of_abort(self._admission.exchanges.abandon(event.connection))
                elif isinstance(event, ShardStopped):
                    self._hand_on_notices(shard)
                    _log.info("shard_stopped", shard=shard, aborted_connections=event.aborted)
                    return
                if index % EVENTS_PER_CHECKPOINT == 0:
                    await trio.lowlevel.checkpoint()
            self._hand_on_notices(shard)

    def _tell_of_abort(self, request: ConnectRequested | None) -> None:
        if request is not None and request.authentication_method is not None:
            self._bus.publish(
                AuthenticationAborted(
                    at_ms=time_ns() // 1_000_000,
                    peer=request.peer,
                    client_id=request.client_id,
                    authentication_method=request.authentication_method,
                )
            )

    def _hand_on_notices(self, shard: int) -> None:
        notices, lost = self._engine.take_notices(shard, EVENTS_PER_CHECKPOINT)
        self._bus.lost_count += lost
        for notice in notices:
            self._bus.publish(event_of(notice))
