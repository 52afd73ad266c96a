"""Tenants: which there are, what they have, and their settings."""

from typing import Any

from pydantic import Field, RootModel
from quart import Blueprint, Response, g, jsonify
from quart_schema import document_querystring, document_request, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.rights import Right, Scope, needs
from rookery.core.pages import COUNTERS, TenantFigures, TenantUsage
from rookery.core.quotas import ResourceState
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.stored_settings import TenantLimitReached

from .reading import Model, PageQuery, encode_cursor, read_json, read_query

Value = bool | int | str


class Tenant(Model):
    """A tenant of the list."""

    tenant_id: str
    topic_filters: int = Field(description="that somebody subscribes to, each once")
    usage: dict[str, int] = Field(description="of each resource that can be counted, by BifroMQ's names")


class TenantPage(Model):
    """A page of tenants."""

    items: list[Tenant]
    next: str | None = Field(description="cursor of the next page; null behind the last")


class Resource(Model):
    """A resource of a tenant, its limits, and how often they were hit."""

    usage: int | None = Field(description="null of a rate")
    limit: int = Field(description="0 = none")
    throttled: int
    shadow_limit: int = Field(description="0 = none")
    shadow_throttled: int


class TenantDetail(Model):
    """A tenant."""

    tenant_id: str
    sessions: int
    retained_messages: int
    counters: dict[str, int] = Field(description="since the broker started")
    resources: dict[str, Resource]


class Settings(Model):
    """Settings of a tenant, by BifroMQ's names."""

    in_force: dict[str, Value]
    set_here: dict[str, Value] = Field(description="what was set by this call; configuration and plugins say the rest")


class Changes(RootModel[dict[str, bool | int | str | None]]):
    """Settings by BifroMQ's names; null takes one away."""


class NewSettings(RootModel[dict[str, bool | int | str]]):
    """Settings by BifroMQ's names."""


def create_tenants(broker: Broker, section: ApiSection) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_tenants", __name__, url_prefix="/v1/tenants")
    tag_blueprint(resource, ["tenants"])

    async def show(tenant_id: str) -> dict[str, Any]:
        _, (figures,) = await broker.inventory.figures([tenant_id])
        return _describe(tenant_id, figures, broker.resources_of(tenant_id))

    def is_known(tenant_id: str) -> bool:
        return tenant_id in broker.config.tenants or bool(broker.stored_settings.values(tenant_id))

    def describe_settings(tenant_id: str) -> Response:
        in_force = broker.settings_of(tenant_id).to_names()
        return jsonify({"in_force": in_force, "set_here": broker.stored_settings.values(tenant_id)})

    @resource.get("")
    @needs(Right.READ, Scope.CALLER)
    @document_querystring(PageQuery)
    @document_response(TenantPage)
    async def tenants() -> Response:
        """List tenants that have clients, sessions, retained messages or settings of their own.

        In no order; a key for one tenant gets that one.
        """
        query = read_query(PageQuery)
        own = g.caller.tenant_id
        if own is not None:
            usage = {each.name: each.usage for each in broker.resources_of(own) if each.usage is not None}
            return jsonify({"items": [{"tenant_id": own, "topic_filters": 0, "usage": usage}], "next": None})
        found = broker.inventory.tenants(place=query.place, limit=query.limit)
        return jsonify({"items": [_describe_row(row) for row in found.rows], "next": encode_cursor(found.place)})

    @resource.get("/<name:tenant_id>")
    @needs(Right.READ, Scope.PATH)
    @document_response(TenantDetail)
    async def tenant(tenant_id: str) -> Response:
        """Show what a tenant has, its quotas, and what was counted of it. 404 for one that nobody knows."""
        shown = await show(tenant_id)
        has_any = any(shown["counters"].values()) or any(each["usage"] for each in shown["resources"].values())
        if not has_any and not is_known(tenant_id) and not shown["sessions"]:
            raise RequestRefused(404, "there is no such tenant")
        return jsonify(shown)

    @resource.get("/<name:tenant_id>/settings")
    @needs(Right.READ, Scope.PATH)
    @document_response(Settings)
    async def settings(tenant_id: str) -> Response:
        """Show the settings of a tenant; one that nobody knows has those of everybody."""
        return describe_settings(tenant_id)

    @resource.put("/<name:tenant_id>/settings")
    @needs(Right.WRITE, Scope.PATH)
    @document_request(NewSettings)
    @document_response(Settings)
    async def put_settings(tenant_id: str) -> Response:
        """Set these settings of a tenant and no others. They hold at once, also for open connections."""
        given = await read_json(NewSettings, section)
        await _set(broker.stored_settings.put(tenant_id, given.root))
        return describe_settings(tenant_id)

    @resource.patch("/<name:tenant_id>/settings")
    @needs(Right.WRITE, Scope.PATH)
    @document_request(Changes)
    @document_response(Settings)
    async def change_settings(tenant_id: str) -> Response:
        """Change some settings of a tenant; null takes one away."""
        given = await read_json(Changes, section)
        await _set(broker.stored_settings.change(tenant_id, given.root))
        return describe_settings(tenant_id)

    return resource


async def _set(change: Any) -> None:
    try:
        await change
    except TenantLimitReached as error:
        raise RequestRefused(409, str(error)) from error
    except ValueError as error:
        raise RequestRefused(400, str(error)) from error


def _describe_row(row: TenantUsage) -> dict[str, Any]:
    return {"tenant_id": row.tenant_id, "topic_filters": row.topic_filters, "usage": dict(row.usage)}


def _describe(tenant_id: str, figures: TenantFigures, resources: tuple[ResourceState, ...]) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "sessions": figures.sessions,
        "retained_messages": figures.retained_messages,
        "counters": dict(zip(COUNTERS, figures.counters, strict=True)),
        "resources": {
            each.name: {name: value for name, value in each._asdict().items() if name != "name"} for each in resources
        },
    }
