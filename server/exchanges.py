"""Exchanges: the enhanced authentications that are under way, one task each [MQTT5 4.12].

    ConnectRequested          --> begin --> task: EnhancedAuthenticator.exchange ----> decision --> admission
    ReauthenticationRequested --> begin --> the same ---------------------------------> decision --> confirm, disconnect
    AuthReceived              --> go_on --> wakes the challenge that waits for it
    AuthenticationAbandoned   --> abandon --> cancels the task: nobody is told

An exchange that waits for its client has a deadline, and so has the authenticator between two challenges. Strangers
and connected clients are counted apart, so that strangers who never answer cannot end the connections of others.
"""

import time
from collections.abc import Awaitable, Callable, Iterable

import trio

from rookery.core.engine import Engine
from rookery.core.events import AuthReceived, ConnectRequested, ReauthenticationRequested
from rookery.core.wire.spec import ReasonCode

from .auth.authenticator import Admitted, Decision, EnhancedAuthenticator, Refused, UserProperties
from .log import get_logger

FAILED = Refused(ReasonCode.UNSPECIFIED_ERROR, "authentication failed")
BUSY = Refused(ReasonCode.SERVER_BUSY, "too many clients wait for authentication")
_SILENT = Refused(ReasonCode.NOT_AUTHORIZED, "the authentication took too long")
_CHANGED = Refused(ReasonCode.NOT_AUTHORIZED, "a re-authentication must come to the same user")

# What DISCONNECT has no reason code for [MQTT-3.14.2-1] comes to Not authorized.
_CONNACK_ONLY = frozenset(
    (
        ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
        ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        ReasonCode.BAD_USER_NAME_OR_PASSWORD,
        ReasonCode.SERVER_UNAVAILABLE,
        ReasonCode.BANNED,
        ReasonCode.BAD_AUTHENTICATION_METHOD,
    )
)

Request = ConnectRequested | ReauthenticationRequested
Tell = Callable[[ConnectRequested, Decision], Awaitable[None]]

_log = get_logger(__name__)


class Exchange:
    """One of them: a task that asks, and a client that answers or goes."""

    def __init__(self, engine: Engine, request: Request, timeout_s: float) -> None:
        self.request = request
        self._engine = engine
        self._connection = request.connection
        self._timeout_s = timeout_s
        self._answers, self._received = trio.open_memory_channel[bytes | None](1)  # The core lets one through a turn.
        self.scope = trio.CancelScope()
        self.is_client_due = False
        self.is_abandoned = False

    async def challenge(
        self, data: bytes | None, *, reason_string: str = "", user_properties: UserProperties = ()
    ) -> bytes | None:
        """See authenticator.Challenge."""
        self._engine.challenge(self._connection, data, reason_string=reason_string, user_properties=user_properties)
        self.begin_wait()
        self.is_client_due = True
        answer = await self._received.receive()
        self.is_client_due = False
        self.begin_wait()
        return answer

    def begin_wait(self) -> None:
        """Whoever is to act now has the whole time."""
        self.scope.deadline = trio.current_time() + self._timeout_s

    def answer(self, data: bytes | None) -> None:
        self._answers.send_nowait(data)

    def abandon(self) -> None:
        self.is_abandoned = True
        self.scope.cancel()


class Exchanges:
    """Runs exchanges with the authenticators that offer their methods."""

    def __init__(
        self, engine: Engine, authenticators: Iterable[EnhancedAuthenticator], *, timeout_s: float, limit: int
    ) -> None:
        self._engine = engine
        self._authenticators = {
            method: authenticator
            for authenticator in reversed(tuple(authenticators))  # The first that offers a method has it.
            for method in authenticator.methods
        }
        self._timeout_s = timeout_s
        self.limit = limit
        self._under_way: dict[int, Exchange] = {}  # by the handle of the connection
        self.stranger_count = 0
        self.reauthentication_count = 0
        self.failed_count = 0  # by an error of an authenticator

    def offers(self, method: str) -> bool:
        """Does an authenticator know this method?"""
        return method in self._authenticators

    def has_room(self) -> bool:
        """May one more stranger begin?"""
        return self.stranger_count < self.limit

    def begin(self, request: ConnectRequested, nursery: trio.Nursery, tell: Tell) -> None:
        """Start the task that decides about a CONNECT whose method is offered and gives the decision to tell."""
        self.stranger_count += 1
        nursery.start_soon(self._decide, request, tell)

    async def _decide(self, request: ConnectRequested, tell: Tell) -> None:
        try:
            decision = await self._run(request)
        finally:
            # Not counted while it is told: guessers whose refusal waits take no room from others.
            self.stranger_count -= 1
        if decision is not None:
            await tell(request, decision)

    def begin_again(self, request: ReauthenticationRequested, nursery: trio.Nursery) -> None:
        """Start the task that decides about a re-authentication and says so to the client."""
        if self.reauthentication_count >= self.limit:
            self._end(request, BUSY)
            return
        self.reauthentication_count += 1
        nursery.start_soon(self._decide_again, request)

    async def _decide_again(self, request: ReauthenticationRequested) -> None:
        try:
            decision = await self._run(request)
        finally:
            self.reauthentication_count -= 1
        if decision is not None:
            self._end(request, decision)

    def go_on(self, event: AuthReceived) -> None:
        """Hand the client's answer to whoever waits for it, if its time is not over."""
        exchange = self._under_way.get(event.connection)
        if exchange is not None and exchange.is_client_due:
            exchange.answer(event.authentication_data)

    def abandon(self, connection: int) -> ConnectRequested | None:
        """Its connection has closed. The CONNECT with which it began, unless it is that of a client who was let in."""
        exchange = self._under_way.get(connection)
        if exchange is None:
            return None
        exchange.abandon()
        return exchange.request if isinstance(exchange.request, ConnectRequested) else None

    async def _run(self, request: Request) -> Decision | None:
        """The decision; None when nobody waits for it any more."""
        assert request.authentication_method is not None
        exchange = self._under_way[request.connection] = Exchange(self._engine, request, self._timeout_s)
        decision: Decision | None = None
        try:
            with exchange.scope:
                exchange.begin_wait()
                decision = await self._authenticators[request.authentication_method].exchange(
                    request, exchange.challenge
                )
        except Exception:  # also what its own nurseries raised
            return self._fail(request, "authenticator_failed")
        finally:
            del self._under_way[request.connection]
        if exchange.is_abandoned:
            return None
        if decision is not None:
            return decision
        return _SILENT if exchange.is_client_due else self._fail(request, "authenticator_late")

    def _end(self, request: ReauthenticationRequested, decision: Decision) -> None:
        """Say what came of a re-authentication."""
        try:
            self._end_as(request, decision)
        except Exception:  # a decision that is none, or one that has no form on the wire
            self._engine.disconnect(
                request.connection, FAILED.reason_code, self._fail(request, "decision_unusable").reason_string
            )

    def _end_as(self, request: ReauthenticationRequested, decision: Decision) -> None:
        if isinstance(decision, Admitted):
            if (decision.tenant_id, decision.user_id) == (request.tenant_id, request.user_id):
                if decision.permissions is not None:
                    # First, so that they are in force when the client reads that it was confirmed.
                    self._engine.set_permissions(
                        decision.permissions,
                        tenant_id=request.tenant_id,
                        user_id=request.user_id,
                        client_id=request.client_id,
                    )
                self._engine.confirm(
                    request.connection,
                    decision.authentication_data,
                    reason_string=decision.reason_string,
                    user_properties=decision.user_properties,
                    lifetime_ms=decision.lifetime_ms(time.time()),
                )
                return
            decision = _CHANGED
        if not isinstance(decision, Refused):
            raise TypeError(f"an authenticator decided {decision!r}")
        _log.info(
            "reauthentication_refused",
            peer=request.peer,
            tenant=request.tenant_id,
            user=request.user_id,
            client_id=request.client_id,
            reason=decision.reason_string,
        )
        is_sayable = decision.reason_code not in _CONNACK_ONLY
        self._engine.disconnect(
            request.connection,
            decision.reason_code if is_sayable else ReasonCode.NOT_AUTHORIZED,
            decision.reason_string,
            server_reference=decision.server_reference,
        )  # [MQTT-4.12.1-2]

    def _fail(self, request: Request, event: str) -> Refused:
        self.failed_count += 1
        _log.warning(event, peer=request.peer, client_id=request.client_id, exc_info=event != "authenticator_late")
        return FAILED
