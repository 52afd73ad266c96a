"""Connections to the shards that never became clients: counted, and told in the log one by one."""

import trio

from rookery.core.wire.spec import ReasonCode

from .event_bus import EventBus
from .events import ConnectionFailed, ConnectRefused, ConnectTimedOut
from .log import get_logger

WAITING_LIMIT = 1000  # lines that wait to be written; in a flood further ones are only counted

# What the shards refuse themselves; refusals of authenticators have a line of their own.
_BAD_CONNECT = frozenset(
    (
        ReasonCode.MALFORMED_PACKET,
        ReasonCode.PROTOCOL_ERROR,
        ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
        ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        ReasonCode.PACKET_TOO_LARGE,
    )
)

_log = get_logger(__name__)


class Strangers:
    """Those that were accepted by the shards themselves, or came through handshake and upgrade."""

    def __init__(self) -> None:
        self.failed_count = 0  # what came was no CONNECT that could be answered, or no WebSocket
        self.timed_out_count = 0  # none came in time
        self.untold_count = 0  # of both, without a line in the log, nor in the counts above

    async def watch(self, events: EventBus, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until events is closed; whatever fails after it has started is told."""
        with events.subscribe(ConnectionFailed, ConnectRefused, ConnectTimedOut, limit=WAITING_LIMIT) as stream:
            task_status.started()
            async for event in stream:
                self.untold_count = stream.dropped
                if isinstance(event, ConnectionFailed) or (
                    isinstance(event, ConnectRefused) and event.reason_code in _BAD_CONNECT
                ):
                    self.failed_count += 1
                    _log.info("connection_failed", peer=event.peer, reason=event.reason)
                elif isinstance(event, ConnectTimedOut):
                    self.timed_out_count += 1
                    _log.info("connection_failed", peer=event.peer, reason="no CONNECT came in time")
