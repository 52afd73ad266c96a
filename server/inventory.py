"""What a broker has, page by page: tenants, sessions, subscriptions and messages.

A list is never copied whole: each page asks one shard, or a few one after the other, for a bounded piece. A place is
where the next page begins, as bytes that callers keep and give back; those of lists that go over all shards begin with
the number of the shard.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from rookery.core.engine import Engine
from rookery.core.pages import (
    NO_FIGURES,
    InflightMessage,
    MatchingFilter,
    Page,
    SessionState,
    StoredMessage,
    SubscriptionState,
    TenantFigures,
    TenantUsage,
    Verdicts,
)

from .commands import Ask, for_each_shard

PAGES_AT_ONCE = 64  # of the core, that one call of ours asks for at most: an empty one may have others behind it
PAGE_LIMIT = 1000  # rows

_NUMBER_SIZE = 8  # bytes of a place that is a number

Row = TypeVar("Row")


class InvalidPlace(ValueError):
    """What was given as the place of a page is none."""


class NoSuchSession(LookupError):
    """There is no session of this tenant, user and client identifier."""


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """A page: short or even empty where there was much to pass over, and nevertheless not the last."""

    rows: Sequence[Row]
    place: bytes  # of the next page; empty = this is the last


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who gets what is published to a topic, and what one session may do there."""

    filters: Sequence[MatchingFilter]  # over all shards
    verdicts: Verdicts | None  # None = there is no such session


class Inventory:
    """The lists of a broker. Errors of all that await: BrokerBusy, BrokerLate, BrokerStopping.

    Whatever takes a place raises InvalidPlace for one that it did not give. limit is rows, 1 to PAGE_LIMIT.
    """

    def __init__(self, engine: Engine, ask: Ask) -> None:
        self._engine = engine
        self._ask = ask

    def tenants(self, *, place: bytes = b"", limit: int = 100) -> Listing[TenantUsage]:
        """Tenants that some shard knows: with clients, sessions, retained messages, or settings of their own."""
        rows, following = self._engine.list_tenants(_number(place, 4), limit)
        return Listing(rows, following.to_bytes(4, "big") if following else b"")

    async def figures(self, tenant_ids: Sequence[str]) -> tuple[TenantFigures, list[TenantFigures]]:
        """What was counted of all tenants together, and of each of these, over all shards."""
        tell = partial(self._engine.tell_tenants, tenant_ids=tenant_ids)
        sums = [NO_FIGURES] * (1 + len(tenant_ids))
        for page in await self._ask(for_each_shard(tell, self._engine.shard_count)):
            if isinstance(page, Page):
                sums = [total + row for total, row in zip(sums, page.rows, strict=True)]
        return sums[0], sums[1:]

    async def sessions(
        self, tenant_id: str, *, user_id: str = "", online_only: bool = False, place: bytes = b"", limit: int = 100
    ) -> Listing[SessionState]:
        """Sessions of a tenant, or of one user of it, in no order. One that is there throughout comes at least once."""
        command = partial(self._engine.list_sessions, tenant_id=tenant_id, user_id=user_id, online_only=online_only)
        return await self._over_shards(command, place, limit)

    async def session(self, tenant_id: str, user_id: str, client_id: str) -> SessionState | None:
        """The session of this key, online or not."""
        look = partial(self._engine.look_at_session, tenant_id=tenant_id, user_id=user_id, client_id=client_id)
        page = await self._page(look)
        return page.rows[0] if page.rows else None

    async def subscriptions(
        self, tenant_id: str, *, user_id: str = "", place: bytes = b"", limit: int = 100
    ) -> Listing[SubscriptionState]:
        """Subscriptions of a tenant, or of one user of it, in no order."""
        command = partial(self._engine.list_subscriptions, tenant_id=tenant_id, user_id=user_id)
        return await self._over_shards(command, place, limit)

    async def session_subscriptions(
        self, tenant_id: str, user_id: str, client_id: str, *, place: bytes = b"", limit: int = 100
    ) -> Listing[SubscriptionState]:
        """Subscriptions of one session. Raises NoSuchSession."""
        return await self._of_session(
            self._engine.list_session_subscriptions, tenant_id, user_id, client_id, place, limit
        )

    async def inbox(
        self,
        tenant_id: str,
        user_id: str,
        client_id: str,
        *,
        place: bytes = b"",
        limit: int = 100,
        payload_limit: int = 0,
    ) -> Listing[StoredMessage]:
        """Messages that wait for a session, the oldest first; they stay. Raises NoSuchSession.

        payload_limit: bytes of each payload at most. Places count from the oldest message, which delivery takes away.
        """
        command = partial(self._engine.list_inbox, payload_limit=payload_limit)
        return await self._of_session(command, tenant_id, user_id, client_id, place, limit)

    async def inflight(
        self, tenant_id: str, user_id: str, client_id: str, *, limit: int = 100
    ) -> Listing[InflightMessage]:
        """The oldest messages that a session was sent and has not acknowledged. Raises NoSuchSession."""
        command = partial(
            self._engine.list_inflight, tenant_id=tenant_id, user_id=user_id, client_id=client_id, limit=limit
        )
        page = await self._page(command)
        if not page.is_found:
            raise NoSuchSession
        return Listing(page.rows, b"")

    async def retained(
        self, tenant_id: str, topic_filter: str, *, place: bytes = b"", limit: int = 100, payload_limit: int = 0
    ) -> Listing[StoredMessage]:
        """Retained messages that a checked topic filter matches, in no order."""
        try:
            place.decode()
        except UnicodeDecodeError:
            raise InvalidPlace("a place of this list is a topic") from None
        rows: list[StoredMessage] = []
        for _ in range(PAGES_AT_ONCE):
            page = await self._page(
                partial(
                    self._engine.list_retained,
                    tenant_id=tenant_id,
                    topic_filter=topic_filter,
                    place=place,
                    limit=limit - len(rows),
                    payload_limit=payload_limit,
                )
            )
            rows += page.rows
            place = page.place
            if not place or len(rows) >= limit:
                break
        return Listing(rows, place)

    async def explain(
        self, tenant_id: str, topic: str, user_id: str, client_id: str, *, limit: int = 100
    ) -> Explanation:
        """Topic filters that match a checked topic, limit of each shard at most, and the rights of one session."""
        command = partial(
            self._engine.list_matches,
            tenant_id=tenant_id,
            topic=topic,
            user_id=user_id,
            client_id=client_id,
            limit=limit,
        )
        filters: dict[str, MatchingFilter] = {}
        verdicts = None
        for page in await self._ask(for_each_shard(command, self._engine.shard_count)):
            assert isinstance(page, Page)
            verdicts = verdicts or page.verdicts
            for row in page.rows:
                known = filters.get(row.topic_filter)
                filters[row.topic_filter] = row if known is None else _add(known, row)
        return Explanation(tuple(filters.values()), verdicts)

    async def _page(self, command: Callable[[int], None]) -> Page:
        (page,) = await self._ask([command])
        assert isinstance(page, Page)
        return page

    async def _over_shards(self, command: Callable[..., None], place: bytes, limit: int) -> Listing[Any]:
        """Go on with the shard that place names, until there are limit rows."""
        shard = place[0] if place else 0
        if shard >= self._engine.shard_count:
            raise InvalidPlace(f"there is no shard {shard}")
        place = place[1:]
        rows: list[Any] = []
        for _ in range(PAGES_AT_ONCE):
            page = await self._page(partial(_at_shard, command, shard, place, limit - len(rows)))
            rows += page.rows
            place = page.place
            shard += not place
            if shard >= self._engine.shard_count:
                return Listing(rows, b"")
            if len(rows) >= limit:
                break
        return Listing(rows, bytes((shard,)) + place)

    async def _of_session(
        self, command: Callable[..., None], tenant_id: str, user_id: str, client_id: str, place: bytes, limit: int
    ) -> Listing[Any]:
        asked = partial(
            command,
            tenant_id=tenant_id,
            user_id=user_id,
            client_id=client_id,
            place=_number(place, _NUMBER_SIZE),
            limit=limit,
        )
        page = await self._page(asked)
        if not page.is_found:
            raise NoSuchSession
        return Listing(page.rows, page.following.to_bytes(_NUMBER_SIZE, "big") if page.following else b"")


def _at_shard(command: Callable[..., None], shard: int, place: bytes, limit: int, request: int) -> None:
    command(request, shard, place=place, limit=limit)


def _number(place: bytes, size: int) -> int:
    if place and len(place) != size:
        raise InvalidPlace(f"a place of this list has {size} bytes, got {len(place)}")
    return int.from_bytes(place, "big")


def _add(one: MatchingFilter, other: MatchingFilter) -> MatchingFilter:
    granted = one.granted_qos if one.granted_qos is not None else other.granted_qos
    return MatchingFilter(one.topic_filter, one.sessions + other.sessions, one.groups + other.groups, granted)
