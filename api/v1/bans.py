"""Bans: who is not let in. Those of a tenant are about its users and clients, others about tenants and addresses."""

from typing import Any

from pydantic import Field
from quart import Blueprint, Response, g, jsonify
from quart_schema import document_querystring, document_request, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.problems import InvalidFields
from rookery.api.rights import Right, Scope, needs
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.store import Ban, BanKind

from .reading import NAME_LENGTH_MAXIMUM, Model, PageQuery, encode_cursor, expect_no_body, read_json, read_query

TIME_MAXIMUM_S = 2**40  # far beyond all calendars
_NUMBER_SIZE = 8


class NewBan(Model):
    """Whom, and how long."""

    kind: BanKind
    value: str = Field(max_length=NAME_LENGTH_MAXIMUM, description="the user, client identifier, address or tenant")
    tenant_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="of a user or client")
    reason: str = Field(default="", max_length=1000, description="for operators; the client is not told")
    expires_at_s: int | None = Field(default=None, ge=0, le=TIME_MAXIMUM_S, description="seconds of the epoch")


class StatedBan(Model):
    """A ban."""

    ban_id: int
    kind: BanKind
    value: str
    tenant_id: str
    reason: str
    created_at_s: int
    expires_at_s: int | None


class BanPage(Model):
    """A page of bans, the oldest first."""

    items: list[StatedBan]
    next: str | None = Field(description="cursor of the next page; null behind the last")


class BanLifted(Model):
    """What became of it."""

    removed: int


def create_bans(broker: Broker, section: ApiSection) -> Blueprint:
    """The resource. Whoever is connected stays: disconnect him, too."""
    resource = Blueprint("v1_bans", __name__, url_prefix="/v1/bans")
    tag_blueprint(resource, ["bans"])

    @resource.get("")
    @needs(Right.READ, Scope.CALLER)
    @document_querystring(PageQuery)
    @document_response(BanPage)
    async def bans() -> Response:
        """List bans, expired ones included; a key for one tenant gets those of that tenant."""
        query = read_query(PageQuery)
        if query.place and len(query.place) != _NUMBER_SIZE:
            raise InvalidFields([("query.cursor", "expected one that the list before gave")])
        after = int.from_bytes(query.place, "big")
        own = g.caller.tenant_id
        found = broker.bans.page(after=after, limit=query.limit, tenant_id=own)
        place = found[-1].ban_id.to_bytes(_NUMBER_SIZE, "big") if len(found) == query.limit else b""
        return jsonify({"items": [_describe(ban) for ban in found], "next": encode_cursor(place)})

    @resource.post("")
    @needs(Right.WRITE, Scope.CALLER)
    @document_request(NewBan)
    @document_response(StatedBan)
    async def add_ban() -> Response:
        """Ban, in place of an earlier ban about the same."""
        given = await read_json(NewBan, section)
        try:
            ban = Ban(given.kind, given.value, given.tenant_id, given.reason, given.expires_at_s)
        except ValueError as error:
            raise RequestRefused(400, str(error)) from error
        if g.caller.tenant_id is not None and ban.tenant_id != g.caller.tenant_id:
            raise RequestRefused(403, "the key is for another tenant")
        try:
            return jsonify(_describe(await broker.bans.put(ban)))
        except ValueError as error:
            raise RequestRefused(409, str(error)) from error

    @resource.delete("/<number:ban_id>")
    @needs(Right.WRITE, Scope.CALLER)
    @document_response(BanLifted)
    async def lift_ban(ban_id: int) -> Response:
        """Lift a ban."""
        await expect_no_body(section)
        own = g.caller.tenant_id
        (found,) = broker.bans.page(after=ban_id - 1, limit=1, tenant_id=own) or (None,)
        if found is None or found.ban_id != ban_id or not await broker.bans.remove(ban_id):
            raise RequestRefused(404, "there is no such ban")
        return jsonify({"removed": 1})

    return resource


def _describe(ban: Ban) -> dict[str, Any]:
    return {
        "ban_id": ban.ban_id,
        "kind": ban.kind,
        "value": ban.value,
        "tenant_id": ban.tenant_id,
        "reason": ban.reason,
        "created_at_s": ban.created_at_s,
        "expires_at_s": ban.expires_at_s,
    }
