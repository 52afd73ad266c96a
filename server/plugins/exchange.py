"""A plugin's enhanced authenticator: its exchange lives in the plugin's loop, its challenges go by the control plane's.

    control plane's loop                       plugin's loop
    guard.call(begin) ----------------------> start the exchange .. it challenges, or decides
    challenge(data): the client has its time       (waits)
    guard.call(go_on) --- its answer -------> .. it challenges, or decides
    ...

The plugin's time-out and breaker count what the plugin takes, never what its clients take: they are strangers, and
could make a plugin look ill that is not.
"""

from dataclasses import dataclass
from functools import partial

import trio

from rookery.core.events import ConnectRequested, ReauthenticationRequested
from rookery.server.auth.authenticator import Challenge, Decision, EnhancedAuthenticator, UserProperties

from .guard import Guard

Request = ConnectRequested | ReauthenticationRequested


@dataclass(frozen=True, slots=True)
class _Asked:
    """The exchange goes on when the client has answered this."""

    data: bytes | None
    reason_string: str
    user_properties: UserProperties


@dataclass(frozen=True, slots=True)
class _Decided:
    decision: Decision


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class _Conversation:
    """The plugin's side of one exchange; all of it runs in the plugin's loop."""

    def __init__(self, guard: Guard, authenticator: EnhancedAuthenticator, request: Request) -> None:
        self._guard = guard
        self._authenticator = authenticator
        self._request = request
        self._scope = trio.CancelScope()

    async def begin(self) -> _Asked | _Decided:
        # Made here: channels belong to a loop.
        self._steps, self._made = trio.open_memory_channel[_Asked | _Decided | _Failed](1)
        self._answers, self._received = trio.open_memory_channel[bytes | None](1)
        self._guard.loop.start_soon(self._run)
        return await self._next()

    async def go_on(self, answer: bytes | None) -> _Asked | _Decided:
        self._answers.send_nowait(answer)
        return await self._next()

    def end(self) -> None:
        """Nobody waits for it any more."""
        self._scope.cancel()

    async def _next(self) -> _Asked | _Decided:
        step = await self._made.receive()
        if isinstance(step, _Failed):
            raise step.error
        return step

    async def _run(self) -> None:
        with self._scope:
            try:
                decision = await self._authenticator.exchange(self._request, self._challenge)
            except Exception as error:  # also what its own nurseries raised
                self._steps.send_nowait(_Failed(error))
            else:
                self._steps.send_nowait(_Decided(decision))

    async def _challenge(
        self, data: bytes | None, *, reason_string: str = "", user_properties: UserProperties = ()
    ) -> bytes | None:
        # One that challenges twice at a time fails by trio.WouldBlock.
        self._steps.send_nowait(_Asked(data, reason_string, user_properties))
        return await self._received.receive()


class GuardedEnhancedAuthenticator:
    """A plugin's enhanced authenticator behind its guard: what goes wrong with it refuses the client."""

    def __init__(self, guard: Guard, authenticator: EnhancedAuthenticator) -> None:
        self.methods = tuple(authenticator.methods)
        self._guard = guard
        self._authenticator = authenticator

    async def exchange(self, request: Request, challenge: Challenge) -> Decision:
        """See EnhancedAuthenticator. Raises PluginFailed, and what challenge raises."""
        conversation = _Conversation(self._guard, self._authenticator, request)
        try:
            step = await self._guard.call("EnhancedAuthenticator", conversation.begin)
            while isinstance(step, _Asked):
                answer = await challenge(
                    step.data, reason_string=step.reason_string, user_properties=step.user_properties
                )
                step = await self._guard.call("EnhancedAuthenticator", partial(conversation.go_on, answer))
        finally:
            self._guard.loop.do_soon(conversation.end)
        return step.decision
