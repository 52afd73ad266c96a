"""Where a plugin runs: in a thread and a trio loop of its own, so that whatever it does it holds up nobody else.

    control plane's loop                         plugin's loop
    call() -- run_sync_soon --> queue of calls --> a task per call, at most CALLS_IN_WORK
       ^                                               |
       '------- run_sync_soon(resolve) ----------------'

A plugin that blocks its loop, or never comes back, runs into the time-out of each call; its thread is given up at the
end. A call costs two wake-ups, some 100 us. What a plugin awaits must be trio's; a library for asyncio or for threads
is reached by trio.to_thread as in any trio program.
"""

import math
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext, suppress
from typing import Any, Generic, TypeVar

import trio

from rookery.server.auth.fair_turns import FLOW, FairTurns

from .loading import PluginError

CALLS_IN_WORK = 256  # calls that one plugin works on at once; more wait for their turn

_Result = TypeVar("_Result")


class PluginTimeout(Exception):
    """A call of a plugin did not come back in time."""


class _Call(Generic[_Result]):
    """One call on its way to the plugin's loop and back."""

    def __init__(self, work: Callable[[], Awaitable[_Result]], *, takes_place: bool = True) -> None:
        self.work = work
        self.takes_place = takes_place  # among CALLS_IN_WORK
        self.flow = FLOW.get()  # of the caller
        self.scope = trio.CancelScope()
        self.done = trio.Event()  # of the caller's loop
        self.error: BaseException | None = None
        self.result: _Result | None = None
        self.is_abandoned = False


class PluginLoop:
    """A plugin and the loop that it lives in. start, then call as often as you like, then stop."""

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.name = name
        self.plugin: Any = None
        self._make = make
        self._host = trio.lowlevel.current_trio_token()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._places: FairTurns | None = None
        self._started = trio.Event()
        self._ended = trio.Event()
        self._failure: BaseException | None = None
        # A daemon: one that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"rookery-plugin-{name}", daemon=True)

    async def start(self, timeout_s: float) -> None:
        """Make the plugin and enter it. Raises PluginError when that fails or takes longer than timeout_s."""
        self._thread.start()
        with trio.move_on_after(timeout_s) as scope:
            await self._started.wait()
        if scope.cancelled_caught:
            raise PluginError(f"plugin {self.name!r} was not ready within {timeout_s:g} s")
        if self._failure is not None:
            if isinstance(self._failure, PluginError):
                raise self._failure
            raise PluginError(f"plugin {self.name!r} could not be started: {self._failure!r}") from self._failure

    async def call(self, work: Callable[[], Awaitable[_Result]], timeout_s: float) -> _Result:
        """The result of work, awaited in the plugin's loop. Raises PluginTimeout, and what work raises.

        Cancelled together with the caller, also when the time is up.
        """
        return await self._await(_Call(work), timeout_s)

    async def host(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """The same for work that has no end, and takes no place of those that calls wait for."""
        return await self._await(_Call(work, takes_place=False), math.inf)

    async def _await(self, call: _Call[_Result], timeout_s: float) -> _Result:
        if not self._soon(self._begin, call):
            raise PluginError(f"plugin {self.name!r} has ended")
        try:
            with trio.move_on_after(timeout_s) as scope:
                await call.done.wait()
        finally:
            if not call.done.is_set():
                call.is_abandoned = True
                self._soon(call.scope.cancel)
        if scope.cancelled_caught and not call.done.is_set():
            raise PluginTimeout(f"plugin {self.name!r} did not answer within {timeout_s:g} s")
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # work returned it

    def start_soon(self, function: Callable[[], Awaitable[object]]) -> None:
        """Start a task that outlives the call that starts it; in the plugin's loop only. It must not raise."""
        assert self._nursery is not None
        self._nursery.start_soon(function)

    def do_soon(self, function: Callable[[], object]) -> None:
        """Have function called in the plugin's loop, unless that has ended. It must not raise."""
        self._soon(function)

    async def stop(self, timeout_s: float) -> bool:
        """Cancel what it works on and leave it. False when it did not end in time: its thread is given up."""
        self._soon(self._cancel)
        with trio.move_on_after(timeout_s):
            await self._ended.wait()
        return self._ended.is_set()

    # In the plugin's thread.

    def _run(self) -> None:
        try:
            trio.run(self._live)
        except BaseException as error:  # whatever a stranger's code raises
            self._failure = error
        self._tell(self._started.set)
        self._tell(self._ended.set)

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            self.plugin = self._make()
            if hasattr(self.plugin, "__aenter__"):
                await stack.enter_async_context(self.plugin)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._places = FairTurns(CALLS_IN_WORK)
                self._token = trio.lowlevel.current_trio_token()
                self._tell(self._started.set)
                await trio.sleep_forever()

    def _begin(self, call: "_Call[Any]") -> None:
        assert self._nursery is not None
        if not call.is_abandoned:
            self._nursery.start_soon(self._work, call)

    async def _work(self, call: "_Call[Any]") -> None:
        assert self._places is not None
        FLOW.set(call.flow)
        try:
            with call.scope:
                async with self._places.turn() if call.takes_place else nullcontext():
                    call.result = await call.work()
        except Exception as error:  # also what its own nurseries raised
            call.error = error
        if call.scope.cancelled_caught:
            call.error = PluginTimeout(f"plugin {self.name!r} was cancelled")
        self._tell(call.done.set)

    def _cancel(self) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def _soon(self, function: Callable[..., object], *arguments: object) -> bool:
        """Have it called in the plugin's loop. False when that has ended, or never began."""
        if self._token is None:
            return False
        try:
            self._token.run_sync_soon(function, *arguments)
        except trio.RunFinishedError:
            return False
        return True

    def _tell(self, function: Callable[[], object]) -> None:
        with suppress(trio.RunFinishedError):  # The broker is gone; nobody waits.
            self._host.run_sync_soon(function)
