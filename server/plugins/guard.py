"""A guard around each plugin: time-outs, a circuit breaker, counters. What a plugin does wrong ends here.

    closed --FAILURES_IN_A_ROW--> open --breaker_s--> one call is tried --it fails--> open
       ^                                                      |
       '-------------------------- it succeeds ---------------'

While the breaker is open calls fail at once, so that a service that is down does not cost every client the time-out.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from rookery.server.log import get_logger

from .loop import PluginLoop, PluginTimeout

FAILURES_IN_A_ROW = 5

_Result = TypeVar("_Result")
_log = get_logger(__name__)


class PluginFailed(Exception):
    """A call of a plugin raised, was late, or was not made because the breaker is open."""


@dataclass(slots=True)
class PluginCounters:
    """What calls of one plugin came to."""

    calls: int = 0
    failures: int = 0  # raised
    timeouts: int = 0
    rejected: int = 0  # not made: the breaker was open
    busy_s: float = 0.0  # time that callers waited, together


class Guard:
    """Calls one plugin."""

    def __init__(self, loop: PluginLoop, timeout_s: float, breaker_s: float) -> None:
        self.loop = loop
        self.counters = PluginCounters()
        self._timeout_s = timeout_s
        self._breaker_s = breaker_s
        self._failures_in_a_row = 0
        self._open_until = -1.0
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls fail without being made."""
        return self._failures_in_a_row >= FAILURES_IN_A_ROW and (
            self._is_trying or trio.current_time() < self._open_until
        )

    async def call(self, point: str, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """What work gives in the plugin's loop. Raises PluginFailed, and nothing else; cancellation passes through."""
        if self.is_open:
            self.counters.rejected += 1
            raise PluginFailed(f"plugin {self.loop.name!r} failed {FAILURES_IN_A_ROW} times in a row")
        is_trial = self._failures_in_a_row >= FAILURES_IN_A_ROW
        self._is_trying = is_trial
        self.counters.calls += 1
        began = trio.current_time()
        try:
            result = await self.loop.call(work, self._timeout_s)
        except PluginTimeout as error:
            self.counters.timeouts += 1
            self._fail(point, str(error), None)
            raise PluginFailed(str(error)) from error
        except Exception as error:
            self.counters.failures += 1
            self._fail(point, f"{type(error).__name__}: {error}", error)
            raise PluginFailed(f"plugin {self.loop.name!r} raised {type(error).__name__}") from error
        finally:
            self.counters.busy_s += trio.current_time() - began
            if is_trial:
                self._is_trying = False
        if is_trial:
            _log.info("plugin_recovered", plugin=self.loop.name)
        self._failures_in_a_row = 0
        return result

    def _fail(self, point: str, reason: str, error: Exception | None) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_IN_A_ROW:
            self._open_until = trio.current_time() + self._breaker_s
        if self._failures_in_a_row <= FAILURES_IN_A_ROW:  # After that the log would say the same over and over.
            _log.warning(
                "plugin_failed",
                plugin=self.loop.name,
                point=point,
                reason=reason,
                in_a_row=self._failures_in_a_row,
                exc_info=error,
            )
