"""The door of the API: who calls, how often, and whether he may.

    request -> key -> caller -> rate -> right of the route -> tenant of the route -> the route itself -> audit log

Where api.require_key is off everybody may do everything, which is for loopback addresses. A client certificate that
the TLS handshake has verified is as good as a key where api.client_roles says what its holder may do.
"""

from dataclasses import replace

from quart import current_app, g, request
from quart_trio import QuartTrio

from rookery.server.config_listeners import ApiSection

from .answers import RequestRefused
from .http_connection import CERTIFICATE_NAME
from .key_ring import KeyRing
from .parameters import TENANT_ID, Parameters
from .rate_limit import RateLimit
from .rights import ANYBODY, Access, Caller, Right, Role, Scope, access_of

SCHEME = "bearer"


def guard(app: QuartTrio, section: ApiSection, keys: KeyRing) -> None:
    """Have app let in only who may, from now on."""
    rate = RateLimit(section.requests_per_second)

    @app.before_request
    async def let_in() -> None:
        access = access_of(current_app.view_functions[request.endpoint]) if request.endpoint is not None else None
        g.access = access
        g.caller = ANYBODY
        if access is not None and access.right is Right.NONE:
            return
        g.caller = await _caller(section, keys)
        wait_s = rate.take(g.caller.key_id or _host())
        if wait_s > 0:
            raise RequestRefused(429, headers={"retry-after": str(int(wait_s) + 1)})
        if access is not None:  # else there is no such path or method, which the framework says
            _authorize(g.caller, access)


def check_routes(app: QuartTrio) -> None:
    """Raise TypeError unless every route says what it takes."""
    for endpoint, route in app.view_functions.items():
        if access_of(route) is None:
            raise TypeError(f"the route {endpoint} does not say who may call it")


def _host() -> str:
    client = request.scope.get("client")
    return str(client[0]) if client else ""


async def _caller(section: ApiSection, keys: KeyRing) -> Caller:
    """Who calls: the holder of the key that he shows, else of his certificate."""
    name: str | None = request.scope.get("state", {}).get(CERTIFICATE_NAME)
    values = request.headers.getlist("authorization")
    if values and section.require_key:
        return await _identify(keys, values)
    if name is not None and (section.client_roles or not section.require_key):
        return _holder(section, name)
    return await _identify(keys, values) if section.require_key else ANYBODY


def _holder(section: ApiSection, name: str) -> Caller:
    """Of a certificate with this common name."""
    if not section.client_roles:
        return replace(ANYBODY, name=name, key_id=f"certificate:{name}")
    role, _, tenant_id = section.client_roles.get(name, "").partition(":")
    if not role:
        raise RequestRefused(403, f"api.client_roles has no role for the certificate of {name!r}")
    return Caller(name, f"certificate:{name}", Role(role), tenant_id or None)


async def _identify(keys: KeyRing, values: list[str]) -> Caller:
    if not values:
        raise _unknown("expected the header Authorization: Bearer and an API key")
    scheme, _, key = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != SCHEME or not key.strip():
        raise _unknown("Authorization: expected Bearer and an API key")
    caller = await keys.find(key.strip())
    if caller is None:
        raise _unknown("the API key is unknown, revoked or expired")
    return caller


def _unknown(text: str) -> RequestRefused:
    return RequestRefused(401, text, headers={"www-authenticate": "Bearer"})


def _authorize(caller: Caller, access: Access) -> None:
    if not caller.may(access.right):
        raise RequestRefused(403, f"a key with the role {caller.role} may not {access.right.value}")
    if caller.tenant_id is None or access.scope is Scope.CALLER:
        return
    if access.scope is Scope.BROKER:
        raise RequestRefused(403, "the key is for one tenant, and this is about the whole broker")
    if access.scope is Scope.HEADER:
        tenant_id = Parameters(request.scope["headers"]).require(TENANT_ID)
    else:
        tenant_id = (request.view_args or {})["tenant_id"]
    if tenant_id != caller.tenant_id:
        raise RequestRefused(403, "the key is for another tenant")
