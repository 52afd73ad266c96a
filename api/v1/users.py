"""Users of a tenant in the admin database."""

from typing import Any

from pydantic import Field, SecretStr
from quart import Blueprint, Response, jsonify
from quart_schema import document_querystring, document_request, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.problems import InvalidFields
from rookery.api.rights import Right, Scope, needs
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.store import User as StoredUser
from rookery.server.store.users import check_name

from .reading import Model, PageQuery, encode_cursor, expect_no_body, read_json, read_query

PASSWORD_LENGTH_MAXIMUM = 1024  # characters: what takes long to hash is no better


class User(Model):
    """A user. What is kept of his password is told to nobody."""

    user_id: str
    has_password: bool
    attributes: dict[str, str] = Field(description="shown beside his sessions")
    is_enabled: bool = Field(description="false: nothing lets him in")
    changed_at_s: int = Field(description="seconds of the epoch")


class UserPage(Model):
    """A page of users, by name."""

    items: list[User]
    next: str | None = Field(description="cursor of the next page; null behind the last")


class NewUser(Model):
    """What is to be changed; what is left out stays."""

    password: SecretStr | None = Field(default=None, min_length=1, max_length=PASSWORD_LENGTH_MAXIMUM)
    attributes: dict[str, str] | None = None
    is_enabled: bool | None = None


class UserRemoved(Model):
    """What became of him."""

    removed: int


def create_users(broker: Broker, section: ApiSection) -> Blueprint:
    """The resource. Whoever is connected stays connected when his user changes or goes."""
    resource = Blueprint("v1_users", __name__, url_prefix="/v1/tenants/<name:tenant_id>/users")
    tag_blueprint(resource, ["users"])

    @resource.get("")
    @needs(Right.READ, Scope.PATH)
    @document_querystring(PageQuery)
    @document_response(UserPage)
    async def users(tenant_id: str) -> Response:
        """List the users of a tenant by name."""
        query = read_query(PageQuery)
        try:
            after = query.place.decode()
        except UnicodeDecodeError:
            raise InvalidFields([("query.cursor", "expected one that the list before gave")]) from None
        found = await broker.users.page(tenant_id, after=after, limit=query.limit)
        following = found[-1].user_id.encode() if len(found) == query.limit else b""
        return jsonify({"items": [_describe(user) for user in found], "next": encode_cursor(following)})

    @resource.get("/<name:user_id>")
    @needs(Right.READ, Scope.PATH)
    @document_response(User)
    async def user(tenant_id: str, user_id: str) -> Response:
        """Show a user."""
        found = await broker.users.find(tenant_id, user_id)
        if found is None:
            raise RequestRefused(404, "there is no such user")
        return jsonify(_describe(found))

    @resource.put("/<name:user_id>")
    @needs(Right.WRITE, Scope.PATH)
    @document_request(NewUser)
    @document_response(User)
    async def put_user(tenant_id: str, user_id: str) -> Response:
        """Make a user, or change what is given of one."""
        given = await read_json(NewUser, section)
        try:
            for name, value in (("tenant_id", tenant_id), ("user_id", user_id)):
                check_name(name, value)
            kept = await broker.users.put(
                tenant_id,
                user_id,
                password=None if given.password is None else given.password.get_secret_value(),
                attributes=given.attributes,
                is_enabled=given.is_enabled,
            )
        except ValueError as error:
            raise RequestRefused(400, str(error)) from error
        return jsonify(_describe(kept))

    @resource.delete("/<name:user_id>")
    @needs(Right.WRITE, Scope.PATH)
    @document_response(UserRemoved)
    async def remove_user(tenant_id: str, user_id: str) -> Response:
        """Take a user out."""
        await expect_no_body(section)
        if not await broker.users.remove(tenant_id, user_id):
            raise RequestRefused(404, "there is no such user")
        return jsonify({"removed": 1})

    return resource


def _describe(user: StoredUser) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "has_password": user.password_hash is not None or user.scram_credential is not None,
        "attributes": dict(user.attributes),
        "is_enabled": user.is_enabled,
        "changed_at_s": user.changed_at_s,
    }
