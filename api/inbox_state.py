"""`GET /session/inbox`: a session and what waits for it, in the JSON that BifroMQ's protocol buffers become.

There fields with their default value are left out, 64-bit integers are strings, and enumerations are names.
"""

import time
from collections.abc import Iterable
from typing import Any

from quart import Blueprint, Response, jsonify, request

from rookery.core.pages import SessionState, SubscriptionState
from rookery.core.settings import TenantSettings
from rookery.server.broker import Broker
from rookery.server.inventory import PAGE_LIMIT, NoSuchSession

from .answers import answer_text
from .parameters import CLIENT_ID, TENANT_ID, USER_ID, Parameters
from .rights import Right, Scope, needs

_QOS = ("AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE")
_RETAIN_HANDLING = ("SEND_AT_SUBSCRIBE", "SEND_AT_SUBSCRIBE_IF_NOT_YET_EXISTS", "DONT_SEND_AT_SUBSCRIBE")


def create_inbox_state(broker: Broker) -> Blueprint:
    """The resource."""
    resource = Blueprint("inbox_state", __name__)

    @resource.get("/session/inbox")
    @needs(Right.READ, Scope.HEADER)
    async def inbox_state() -> Response:
        """A session, online or not; 404 `NO_INBOX` where there is none."""
        parameters = Parameters(request.scope["headers"])
        tenant_id = parameters.require(TENANT_ID)
        user_id, client_id = parameters.require(USER_ID), parameters.require(CLIENT_ID)
        session = await broker.inventory.session(tenant_id, user_id, client_id)
        if session is None:
            return answer_text(404, "NO_INBOX")
        try:
            subscriptions = await _subscriptions(broker, tenant_id, user_id, client_id)
        except NoSuchSession:  # It ended meanwhile.
            return answer_text(404, "NO_INBOX")
        now_ms = time.time_ns() // 1_000_000
        return jsonify(describe_inbox(session, subscriptions, broker.settings.of(tenant_id), now_ms))

    return resource


async def _subscriptions(broker: Broker, tenant_id: str, user_id: str, client_id: str) -> list[SubscriptionState]:
    rows: list[SubscriptionState] = []
    place = b""
    while True:
        page = await broker.inventory.session_subscriptions(
            tenant_id, user_id, client_id, place=place, limit=PAGE_LIMIT
        )
        rows += page.rows
        place = page.place
        if not place:
            return rows


def describe_inbox(
    session: SessionState, subscriptions: Iterable[SubscriptionState], settings: TenantSettings, now_ms: int
) -> dict[str, object]:
    """BifroMQ's InboxState. now_ms: milliseconds of the epoch."""
    active_at_ms = now_ms if session.detached_at_ms is None else session.detached_at_ms
    answer = _without_defaults(
        createdAt=str(session.created_at_ms or 0),
        limit=settings.session_inbox_size,
        expirySeconds=session.session_expiry_interval if session.is_persistent else 0,
        topicFilters={_name_of(row): _describe_filter(row) for row in subscriptions},
        undeliveredMsgCount=str(session.waiting_qos12 + session.inflight_count),
        lastActiveAt=str(active_at_ms),
    )
    if session.will is not None:
        answer["will"] = _without_defaults(
            topic=session.will.topic,
            qos=_QOS[session.will.qos],
            isRetain=session.will.retain,
            delaySeconds=session.will.delay_interval,
        )
    if session.is_persistent:
        answer["dropOldest"] = settings.qos0_drop_oldest
        answer["unfetchedQoS0MsgCount"] = str(session.waiting_qos0)
        if session.detached_at_ms is not None:
            answer["detachedAt"] = str(session.detached_at_ms)
    return answer


def _name_of(row: SubscriptionState) -> str:
    """The topic filter as it was subscribed to."""
    if row.share_name is None:
        return row.topic_filter
    return f"{'$oshare' if row.is_ordered else '$share'}/{row.share_name}/{row.topic_filter}"


def _describe_filter(row: SubscriptionState) -> dict[str, object]:
    option = _without_defaults(
        qos=_QOS[row.qos],
        retainAsPublished=row.retain_as_published,
        noLocal=row.no_local,
        retainHandling=_RETAIN_HANDLING[row.retain_handling],
    )
    if row.subscription_id is not None:
        option["subId"] = row.subscription_id
    return option


def _without_defaults(**values: Any) -> dict[str, object]:
    defaults = ("", "0", _QOS[0], _RETAIN_HANDLING[0])
    return {name: value for name, value in values.items() if value and value not in defaults}
