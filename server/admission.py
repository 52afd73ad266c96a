"""Admission: a CONNECT goes to the authenticator, the decision goes back to the shard that holds the connection.

One that names an authentication method goes to whoever offers it, see exchanges.py, and to nobody else.

Other clients go on meanwhile; a shard never waits. Most decisions need no waiting and cost no task: a reconnect storm
is ten thousand of them a second. Those that wait run in a bounded number of tasks with a deadline each, which tenants
share fairly (waiting_room.py), as they do what these wait for (auth/fair_turns.py). Whatever goes
wrong refuses the client: an authenticator that raises, hangs, or answers with something else than a decision.
"""

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import trio

from rookery.core.engine import Engine
from rookery.core.errors import EngineBusy
from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule_set import Permissions
from rookery.core.wire.spec import ReasonCode

from .auth.authenticator import (
    Admitted,
    Authenticator,
    Decision,
    EnhancedAuthenticator,
    ImmediateAuthenticator,
    Refused,
)
from .auth.fair_turns import FLOW
from .auth.penalties import Penalties
from .bans import BANNED, PersistentBans
from .commands import RETRY_S
from .config import AuthenticationSection
from .exchanges import BUSY, FAILED, Exchanges
from .log import get_logger
from .permissions import PermissionSource, RulePermissions
from .tenancy import UNKNOWN
from .waiting_room import LoginFlows, Place, WaitingRoom

OWN_USERS = "$plugin/"  # What user ids of the broker's own connections begin with, and nobody else's.

_BAD_METHOD = Refused(ReasonCode.BAD_AUTHENTICATION_METHOD, "this authentication method is not offered")
_RESERVED = Refused(ReasonCode.NOT_AUTHORIZED, "this user is the broker's own")
_NO_TENANT = Refused(ReasonCode.NOT_AUTHORIZED, "the listener cannot tell of which tenant the client is")
_OTHER_TENANT = Refused(ReasonCode.NOT_AUTHORIZED, "the listener is for clients of another tenant")
_NO_ATTRIBUTES = b"{}"

_log = get_logger(__name__)


# Asked about a client that was admitted, before it is told: may let it pass, change what it gets, or refuse it.
Doorkeeper = Callable[[ConnectRequested, Admitted], Awaitable[Decision]]


class Admission:
    """Decides about CONNECTs by asking one authenticator, or one enhanced authenticator per method."""

    def __init__(
        self,
        engine: Engine,
        authenticator: Authenticator,
        section: AuthenticationSection,
        enhanced_authenticators: Iterable[EnhancedAuthenticator] = (),
        *,
        permission_source: PermissionSource | None = None,
        grants_on_error: Callable[[str], bool] = lambda tenant_id: False,
        bans: PersistentBans | None = None,
        by_listener: Mapping[int, Authenticator] | None = None,
    ) -> None:
        self._engine = engine
        self._authenticator = authenticator
        self._by_listener = dict(by_listener or {})  # of listeners that ask neither authenticator nor enhanced ones
        offering = [authenticator] if isinstance(authenticator, EnhancedAuthenticator) else []
        self.exchanges = Exchanges(
            engine, [*offering, *enhanced_authenticators], timeout_s=section.timeout_s, limit=section.exchange_limit
        )
        self._permission_source = permission_source
        self._grants_on_error = grants_on_error  # of a tenant: when the source of permissions fails
        self._bans = bans
        self._timeout_s = section.timeout_s
        self._in_work_limit = section.in_work_limit
        self._room = WaitingRoom(section.in_work_limit)
        self._flows = LoginFlows()
        self._is_busy = False
        self._penalties = Penalties()
        self.doorkeepers: tuple[Doorkeeper, ...] = ()
        self.admitted_count = 0
        self.refused_count = 0
        self.busy_count = 0  # of the refused: because too many decisions waited
        self.failed_count = 0  # of the refused: by an error or a missed deadline of the authenticator

    @property
    def in_work_count(self) -> int:
        """Decisions that are waited for."""
        return self._room.count

    async def handle(self, request: ConnectRequested, nursery: trio.Nursery) -> None:
        """Decide, or start the task that will in nursery. Waits only while the command queue of the shard is full.

        Raises nothing. Cancelling the nursery leaves its clients without an answer, as at the end of the process.
        """
        if self._bans is not None and self._bans.holds_for_address(request.peer):
            await self._tell(request, BANNED)
            return
        if request.tenant_id == UNKNOWN:
            await self._tell(request, _NO_TENANT)
            return
        if request.authentication_method is not None:
            await self._handle_enhanced(request, request.authentication_method, nursery)
            return
        decision: Decision | None = None
        authenticator = self._authenticator_for(request)
        if isinstance(authenticator, ImmediateAuthenticator):
            try:
                decision = authenticator.decide(request)
            except Exception:
                decision = self._fail(request, "authenticator_failed")
            if decision is not None and not (self.doorkeepers and isinstance(decision, Admitted)):
                delay_s = self._penalties.delay_of(request, decision)
                if delay_s:
                    nursery.start_soon(self._tell_later, request, decision, delay_s)
                else:
                    await self._tell(request, decision)
                return
        place = self._room.enter(self._flows.flow_of(request))
        if place is None:
            await self._turn_away(request, "in_work_limit", self._in_work_limit)
            return
        nursery.start_soon(self._decide_later, request, decision, place)

    def _authenticator_for(self, request: ConnectRequested) -> Authenticator:
        return self._by_listener.get(request.listener_id, self._authenticator)

    async def welcome(self, request: ConnectRequested, admitted: Admitted) -> None:
        """Let in a connection of the broker's own."""
        await self._tell(request, admitted, is_own=True)

    async def _handle_enhanced(self, request: ConnectRequested, method: str, nursery: trio.Nursery) -> None:
        if request.listener_id in self._by_listener or not self.exchanges.offers(method):
            await self._tell(request, _BAD_METHOD)  # [MQTT-4.12.0-1]
        elif not self.exchanges.has_room():
            await self._turn_away(request, "exchange_limit", self.exchanges.limit)
        else:
            self.exchanges.begin(request, nursery, self._conclude)

    async def _conclude(self, request: ConnectRequested, decision: Decision) -> None:
        """An exchange has come to a decision; doorkeepers are asked about whom it lets in."""
        self._is_busy = False
        if self.doorkeepers and isinstance(decision, Admitted):
            place = self._room.add(self._flows.flow_of(request))  # The limit of exchanges has been kept.
            await self._decide_later(request, decision, place)
        else:
            await self._tell_in_time(request, decision)

    async def _turn_away(self, request: ConnectRequested, name: str, limit: int) -> None:
        self.busy_count += 1
        if not self._is_busy:  # Once, not for each client of a storm.
            self._is_busy = True
            _log.warning("authentication_busy", **{name: limit})
        await self._tell(request, BUSY)

    async def _decide_later(self, request: ConnectRequested, decided: Decision | None, place: Place) -> None:
        decision: Decision | None = None
        FLOW.set(place.flow)
        try:
            with place.scope, trio.move_on_after(self._timeout_s):
                decision = await self._decide(request, decided)
        except Exception:  # also what its own nurseries raised
            decision = self._fail(request, "authenticator_failed")
        finally:
            self._room.leave(place)
            if not place.is_given_up:
                self._is_busy = False
        if decision is None and place.is_given_up:
            await self._turn_away(request, "in_work_limit", self._in_work_limit)
            return
        decision = decision or self._fail(request, "authenticator_late")
        await self._tell_in_time(request, decision)

    async def _tell_in_time(self, request: ConnectRequested, decision: Decision) -> None:
        delay_s = self._penalties.delay_of(request, decision)
        if delay_s:
            await self._tell_later(request, decision, delay_s)
        else:
            await self._tell(request, decision)

    async def _tell_later(self, request: ConnectRequested, decision: Decision, delay_s: float) -> None:
        # It is no longer counted as in work: guessers who wait take no room from clients that are to be decided about.
        with self._penalties.waiting():
            await trio.sleep(delay_s)
        await self._tell(request, decision)

    async def _decide(self, request: ConnectRequested, decided: Decision | None) -> Decision:
        decision = decided or await self._authenticator_for(request).authenticate(request)
        for keeper in self.doorkeepers:
            if not isinstance(decision, Admitted):
                break
            decision = await keeper(request, decision)
        return decision

    async def _tell(self, request: ConnectRequested, decision: Decision, *, is_own: bool = False) -> None:
        while True:
            try:
                self._send(request, decision if is_own else self._hold_back(request, decision), is_own)
                return
            except EngineBusy:
                await trio.sleep(RETRY_S)
            except Exception:
                if decision is FAILED:
                    # Our own mistake; the connection ends when its time for CONNECT is over.
                    _log.exception("refusal_unusable", peer=request.peer)
                    return
                # Names that the core does not take (too long, not text), or something that is no decision.
                decision = self._fail(request, "decision_unusable")

    def _hold_back(self, request: ConnectRequested, decision: Decision) -> Decision:
        if isinstance(decision, Admitted):
            if decision.user_id.startswith(OWN_USERS):
                return _RESERVED
            if request.tenant_id not in (None, decision.tenant_id):
                return _OTHER_TENANT
            if self._bans is not None and self._bans.holds_for(decision, request.client_id):
                return BANNED
        return decision

    def _send(self, request: ConnectRequested, decision: Decision, is_own: bool) -> None:
        if isinstance(decision, Admitted):
            attributes = json.dumps(dict(decision.attributes)).encode() if decision.attributes else _NO_ATTRIBUTES
            self._engine.admit(
                request.connection,
                tenant_id=decision.tenant_id,
                user_id=decision.user_id,
                attributes=attributes,
                response_information=decision.response_information,
                reason_string=decision.reason_string,
                user_properties=decision.user_properties,
                authentication_data=decision.authentication_data,
                permissions=None if is_own else self._permissions_of(request, decision),
                lifetime_ms=decision.lifetime_ms(time.time()),
                message_user_properties=decision.message_user_properties,
                remember_ms=round(decision.remember_s * 1000) if self._holds_for_others(decision) else 0,
                epoch=request.epoch,
            )
            self.admitted_count += 1
            self._flows.know(decision.tenant_id)
        elif isinstance(decision, Refused):
            self._engine.refuse(
                request.connection,
                decision.reason_code,
                decision.reason_string,
                server_reference=decision.server_reference,
                user_properties=decision.user_properties,
            )
            self.refused_count += 1
            if decision is not BUSY:
                _log.info(
                    "connect_refused", peer=request.peer, client_id=request.client_id, reason=decision.reason_string
                )
        else:
            raise TypeError(f"an authenticator decided {decision!r}")

    def _holds_for_others(self, decision: Admitted) -> bool:
        """May a shard let in the next such client by itself? Not where somebody is to be asked about each client."""
        return (
            decision.holds_for_others
            and not self.doorkeepers
            and (self._bans is None or not self._bans.are_any())
            and (self._permission_source is None or isinstance(self._permission_source, RulePermissions))
        )

    def _permissions_of(self, request: ConnectRequested, decision: Admitted) -> Permissions | None:
        if decision.permissions is not None or self._permission_source is None:
            return decision.permissions
        try:
            return self._permission_source.permissions_of(decision.tenant_id, decision.user_id, request.client_id)
        except Exception:
            if not self._grants_on_error(decision.tenant_id):
                raise
            _log.warning("permissions_bypassed", peer=request.peer, client_id=request.client_id, exc_info=True)
            return None

    def _fail(self, request: ConnectRequested, event: str) -> Refused:
        self.failed_count += 1
        # No traceback of the call's arguments and no password: only the error and who suffered from it.
        _log.warning(event, peer=request.peer, client_id=request.client_id, exc_info=event != "authenticator_late")
        return FAILED
