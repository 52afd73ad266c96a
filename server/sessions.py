"""What can be done to the sessions of a tenant from outside: finding, disconnecting, ending, subscribing."""

from dataclasses import dataclass
from functools import partial

from rookery.core.engine import Engine
from rookery.core.events import SessionInfo
from rookery.core.wire.spec import ReasonCode

from .commands import Ask, for_each_shard, total

_EXISTED = 0x100


@dataclass(frozen=True, slots=True)
class SubscribeOutcome:
    """What became of a topic filter."""

    reason_code: int  # as in SUBACK: the granted QoS, or what is wrong
    existed: bool  # the client was subscribed to it before


class Sessions:
    """The sessions of a broker. Errors of all calls: BrokerBusy, BrokerLate, BrokerStopping."""

    def __init__(self, engine: Engine, ask: Ask) -> None:
        self._engine = engine
        self._ask = ask

    async def find(self, tenant_id: str, user_id: str, client_id: str) -> SessionInfo | None:
        """The session of this key as its shard sees it, online or not; None when there is none."""
        find = partial(self._engine.find_session, tenant_id=tenant_id, user_id=user_id, client_id=client_id)
        (answer,) = await self._ask([find])
        return answer if isinstance(answer, SessionInfo) else None

    async def kill(
        self,
        tenant_id: str,
        user_id: str,
        client_id: str,
        *,
        reason_code: ReasonCode = ReasonCode.ADMINISTRATIVE_ACTION,
        reason_string: str = "",
        server_reference: str = "",
    ) -> bool:
        """Disconnect a client; its will is published and a persistent session stays. False when it is not online."""
        kill = partial(
            self._engine.kill,
            tenant_id=tenant_id,
            user_id=user_id,
            client_id=client_id,
            reason_code=reason_code,
            reason_string=reason_string,
            server_reference=server_reference,
        )
        (answer,) = await self._ask([kill])
        return answer is not None

    async def kill_all(
        self,
        tenant_id: str,
        user_id: str = "",
        *,
        reason_code: ReasonCode = ReasonCode.ADMINISTRATIVE_ACTION,
        reason_string: str = "",
        server_reference: str = "",
    ) -> int:
        """Disconnect all clients of a tenant, or of one user of it, as kill does; their number."""
        kill = partial(
            self._engine.kill_all,
            tenant_id=tenant_id,
            user_id=user_id,
            reason_code=reason_code,
            reason_string=reason_string,
            server_reference=server_reference,
        )
        return total(await self._ask(for_each_shard(kill, self._engine.shard_count)))

    async def end(self, tenant_id: str, *, offline_s: int) -> int:
        """End the persistent sessions of a tenant that are offline for offline_s or longer; their number.

        0 ends all of them, also those that are online, whose clients are disconnected.
        """
        end = partial(self._engine.end_sessions, tenant_id=tenant_id, offline_s=offline_s)
        return total(await self._ask(for_each_shard(end, self._engine.shard_count)))

    async def subscribe(
        self, tenant_id: str, user_id: str, client_id: str, topic_filter: str, *, qos: int
    ) -> SubscribeOutcome | None:
        """Subscribe for a client that is online, with its permissions and limits; None when it is not online.

        Retained messages come as if it had subscribed itself; it gets no SUBACK.
        """
        subscribe = partial(
            self._engine.subscribe,
            tenant_id=tenant_id,
            user_id=user_id,
            client_id=client_id,
            topic_filter=topic_filter,
            qos=qos,
        )
        (answer,) = await self._ask([subscribe])
        if not isinstance(answer, int):
            return None
        return SubscribeOutcome(answer & 0xFF, bool(answer & _EXISTED))

    async def unsubscribe(self, tenant_id: str, user_id: str, client_id: str, topic_filter: str) -> int | None:
        """Unsubscribe for a client that is online: the reason code as in UNSUBACK; None when it is not online."""
        unsubscribe = partial(
            self._engine.unsubscribe,
            tenant_id=tenant_id,
            user_id=user_id,
            client_id=client_id,
            topic_filter=topic_filter,
        )
        (answer,) = await self._ask([unsubscribe])
        return answer if isinstance(answer, int) else None
