"""API keys: who may call this API."""

from typing import Any

from pydantic import Field
from quart import Blueprint, Response, jsonify
from quart_schema import document_request, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.key_ring import KeyRing
from rookery.api.rights import Right, Role, needs
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.store import ApiKey

from .reading import NAME_LENGTH_MAXIMUM, Model, expect_no_body, read_json

TIME_MAXIMUM_S = 2**40  # far beyond all calendars


class NewKey(Model):
    """What the key is for."""

    name: str = Field(min_length=1, max_length=200, description="for people")
    role: Role
    tenant_id: str | None = Field(
        default=None, min_length=1, max_length=NAME_LENGTH_MAXIMUM, description="the only tenant; null = all"
    )
    expires_at_s: int | None = Field(default=None, ge=0, le=TIME_MAXIMUM_S, description="seconds of the epoch")


class StatedKey(Model):
    """What is known of a key."""

    key_id: str
    name: str
    role: str
    tenant_id: str | None
    created_at_s: int
    expires_at_s: int | None


class MadeKey(StatedKey):
    """A key that was made."""

    key: str = Field(description="shown only now: what is kept is a digest")


class KeyList(Model):
    """All keys, the oldest first."""

    items: list[StatedKey]
    next: None


class KeyRevoked(Model):
    """What became of it."""

    removed: int


def create_api_keys(broker: Broker, section: ApiSection, keys: KeyRing) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_api_keys", __name__, url_prefix="/v1/api-keys")
    tag_blueprint(resource, ["api keys"])

    @resource.get("")
    @needs(Right.READ)
    @document_response(KeyList)
    async def api_keys() -> Response:
        """List all keys; not the keys themselves, which nobody has but their owners."""
        found = await broker.store.api_keys.all()
        return jsonify({"items": [_describe(key) for key in found], "next": None})

    @resource.post("")
    @needs(Right.WRITE)
    @document_request(NewKey)
    @document_response(MadeKey)
    async def make_key() -> Response:
        """Make a key."""
        given = await read_json(NewKey, section)
        key, kept = await broker.store.api_keys.create(
            given.name, role=given.role, tenant_id=given.tenant_id, expires_at_s=given.expires_at_s
        )
        keys.forget()
        return jsonify({**_describe(kept), "key": key})

    @resource.delete("/<name:key_id>")
    @needs(Right.WRITE)
    @document_response(KeyRevoked)
    async def revoke_key(key_id: str) -> Response:
        """Revoke a key; it is refused from now on."""
        await expect_no_body(section)
        if not await broker.store.api_keys.remove(key_id):
            raise RequestRefused(404, "there is no such key")
        keys.forget()
        return jsonify({"removed": 1})

    return resource


def _describe(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "role": key.role,
        "tenant_id": key.tenant_id,
        "created_at_s": key.created_at_s,
        "expires_at_s": key.expires_at_s,
    }
