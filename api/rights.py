"""Who may call what: rights of routes, roles of keys, and the caller of a request.

    role        read   publish   write
    viewer      yes    -         -
    publisher   -      yes       -
    admin       yes    yes       yes

A key for one tenant calls what is about that tenant and nothing else. Every route says by `needs` what it takes; one
that says nothing is a mistake of ours, which create_app refuses to start with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, TypeVar

Route = TypeVar("Route", bound=Callable[..., Any])


class Right(Enum):
    """What a route does."""

    NONE = "none"  # for everybody, without a key
    READ = "read"
    PUBLISH = "publish"
    WRITE = "write"


class Role(StrEnum):
    """What a key is for."""

    VIEWER = "viewer"
    PUBLISHER = "publisher"
    ADMIN = "admin"


RIGHTS = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.PUBLISHER: frozenset({Right.PUBLISH}),
    Role.ADMIN: frozenset({Right.READ, Right.PUBLISH, Right.WRITE}),
}


class Scope(Enum):
    """What a route is about, and where it says so."""

    BROKER = "broker"  # the whole: not for keys of one tenant
    HEADER = "header"  # the tenant of the header tenant_id
    PATH = "path"  # the tenant of the path
    CALLER = "caller"  # answers each caller what is his


@dataclass(frozen=True, slots=True)
class Access:
    """What a route takes of its caller."""

    right: Right
    scope: Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str  # for the audit log; no secret
    key_id: str  # names him among callers
    role: Role
    tenant_id: str | None  # the only one that he may act on; None = all

    def may(self, right: Right) -> bool:
        """Has his role this right?"""
        return right is Right.NONE or right in RIGHTS[self.role]


# Where no key is asked for: whoever reaches the address.
ANYBODY = Caller("anybody", "", Role.ADMIN, None)

_ACCESS = "rookery_access"  # attribute of a route


def needs(right: Right, scope: Scope = Scope.BROKER) -> Callable[[Route], Route]:
    """Say what a route takes."""

    def mark(route: Route) -> Route:
        setattr(route, _ACCESS, Access(right, scope))
        return route

    return mark


def access_of(route: Callable[..., Any]) -> Access | None:
    """What a route takes; None when it does not say."""
    access: Access | None = getattr(route, _ACCESS, None)
    return access
