"""Permission rules of a tenant in the admin database. They hold where permissions.database is on."""

from typing import Annotated, Any

from pydantic import Field
from quart import Blueprint, Response, jsonify
from quart_schema import document_querystring, document_request, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.problems import InvalidFields
from rookery.api.rights import Right, Scope, needs
from rookery.core.permissions.rule import EVERY_ACTION, Action, Effect, Rule
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.store import StoredRule

from .reading import NAME_LENGTH_MAXIMUM, Model, PageQuery, encode_cursor, expect_no_body, read_json, read_query

POSITION_MAXIMUM = 2**53  # what JSON numbers hold everywhere
_NUMBER_SIZE = 8

Name = Annotated[str, Field(max_length=NAME_LENGTH_MAXIMUM)]


class NewRule(Model):
    """A rule."""

    effect: Effect
    actions: list[Action] = Field(default=sorted(EVERY_ACTION), min_length=1, max_length=3)
    topic_filter: Name = Field(description="with wildcards, and %u, %c, %t for user, client identifier and tenant")
    user_id: Name | None = Field(default=None, description="for this user alone; null = for all")
    client_id: Name | None = Field(default=None, description="for this client identifier alone; null = for all")
    max_qos: int = Field(default=2, ge=0, le=2, description="of a rule that allows")
    retain: bool = Field(default=True, description="of a rule that allows publishing: also with RETAIN")
    position: int | None = Field(
        default=None,
        ge=-POSITION_MAXIMUM,
        le=POSITION_MAXIMUM,
        description="the lower, the sooner it is tried; null = behind all others, or where it is",
    )


class StatedRule(Model):
    """A rule and its place."""

    rule_id: int
    position: int
    effect: Effect
    actions: list[Action]
    topic_filter: str
    user_id: str | None
    client_id: str | None
    max_qos: int
    retain: bool


class RulePage(Model):
    """A page of rules, in the order in which they are tried."""

    items: list[StatedRule]
    next: str | None = Field(description="cursor of the next page; null behind the last")
    are_in_force: bool = Field(description="permissions.database")


class RuleRemoved(Model):
    """What became of it."""

    removed: int


def create_rules(broker: Broker, section: ApiSection) -> Blueprint:
    """The resource. What is changed holds when the answer comes."""
    resource = Blueprint("v1_rules", __name__, url_prefix="/v1/tenants/<name:tenant_id>/rules")
    tag_blueprint(resource, ["rules"])

    async def own(tenant_id: str, rule_id: int) -> StoredRule:
        found = await broker.rules.find(rule_id)
        if found is None or found.rule.tenant_id != tenant_id:
            raise RequestRefused(404, "the tenant has no such rule")
        return found

    @resource.get("")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(PageQuery)
    @document_response(RulePage)
    async def rules(tenant_id: str) -> Response:
        """List the rules of a tenant in their order."""
        query = read_query(PageQuery)
        after = _decode_place(query.place) if query.place else (-(2**63), 0)
        found = await broker.rules.page(tenant_id, after=after, limit=query.limit)
        place = _encode_place(found[-1]) if len(found) == query.limit else b""
        items = [_describe(stored) for stored in found]
        return jsonify({"items": items, "next": encode_cursor(place), "are_in_force": broker.rules.are_in_force})

    @resource.post("")
    @needs(Right.WRITE, Scope.PATH)
    @document_request(NewRule)
    @document_response(StatedRule)
    async def add_rule(tenant_id: str) -> Response:
        """Add a rule."""
        given = await read_json(NewRule, section)
        return jsonify(_describe(await broker.rules.add(_rule_of(tenant_id, given), position=given.position)))

    @resource.get("/<number:rule_id>")
    @needs(Right.READ, Scope.PATH)
    @document_response(StatedRule)
    async def rule(tenant_id: str, rule_id: int) -> Response:
        """Show a rule."""
        return jsonify(_describe(await own(tenant_id, rule_id)))

    @resource.put("/<number:rule_id>")
    @needs(Right.WRITE, Scope.PATH)
    @document_request(NewRule)
    @document_response(StatedRule)
    async def change_rule(tenant_id: str, rule_id: int) -> Response:
        """Put a rule in the place of another."""
        given = await read_json(NewRule, section)
        await own(tenant_id, rule_id)
        stored = await broker.rules.change(rule_id, _rule_of(tenant_id, given), position=given.position)
        if stored is None:
            raise RequestRefused(404, "the tenant has no such rule")
        return jsonify(_describe(stored))

    @resource.delete("/<number:rule_id>")
    @needs(Right.WRITE, Scope.PATH)
    @document_response(RuleRemoved)
    async def remove_rule(tenant_id: str, rule_id: int) -> Response:
        """Take a rule out."""
        await expect_no_body(section)
        await own(tenant_id, rule_id)
        await broker.rules.remove(rule_id)
        return jsonify({"removed": 1})

    return resource


def _rule_of(tenant_id: str, given: NewRule) -> Rule:
    return Rule(
        effect=given.effect,
        actions=frozenset(given.actions),
        topic_filter=given.topic_filter,
        tenant_id=tenant_id,
        user_id=given.user_id,
        client_id=given.client_id,
        max_qos=given.max_qos,
        retain=given.retain,
    )


def _describe(stored: StoredRule) -> dict[str, Any]:
    rule = stored.rule
    return {
        "rule_id": stored.rule_id,
        "position": stored.position,
        "effect": rule.effect,
        "actions": sorted(rule.actions),
        "topic_filter": rule.topic_filter,
        "user_id": rule.user_id,
        "client_id": rule.client_id,
        "max_qos": rule.max_qos,
        "retain": rule.retain,
    }


def _encode_place(stored: StoredRule) -> bytes:
    numbers = (stored.position, stored.rule_id)
    return b"".join(number.to_bytes(_NUMBER_SIZE, "big", signed=True) for number in numbers)


def _decode_place(place: bytes) -> tuple[int, int]:
    if len(place) != 2 * _NUMBER_SIZE:
        raise InvalidFields([("query.cursor", "expected one that the list before gave")])
    return (
        int.from_bytes(place[:_NUMBER_SIZE], "big", signed=True),
        int.from_bytes(place[_NUMBER_SIZE:], "big", signed=True),
    )
