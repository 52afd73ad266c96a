"""Rules that are asked for when a client has been authenticated: of plugins, of a service over HTTP.

A doorkeeper of admission: the client waits for its rules, and nobody else does. The first who has some wins; when
nobody has, file and database decide. When one fails, the tenant's ByPassPermCheckError decides.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from time import time_ns
from typing import TYPE_CHECKING, Any

from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule_set import Permissions
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted, Decision, Refused
from rookery.server.events import AccessControlFailed, Event
from rookery.server.log import get_logger

if TYPE_CHECKING:
    from rookery.server.auth.call_out import CallOut, Document
    from rookery.server.auth.claimed_rules import ClaimedRules

NO_RULES = Refused(ReasonCode.UNSPECIFIED_ERROR, "the permissions cannot be had")

# The rules of a client, or None: somebody else may know. Raises when it cannot say.
Provider = Callable[[ConnectRequested, Admitted], Awaitable[Permissions | None]]

_log = get_logger(__name__)


class ProvidedPermissions:
    """Asks providers, in order."""

    def __init__(
        self, providers: Iterable[Provider], grants_on_error: Callable[[str], bool], tell: Callable[[Event], None]
    ) -> None:
        self._providers = tuple(providers)
        self._grants_on_error = grants_on_error  # of a tenant
        self._tell = tell

    async def admit(self, request: ConnectRequested, admitted: Admitted) -> Decision:
        """The client with its rules, or as it was: file and database decide then. Refused when nobody can say."""
        if admitted.permissions is not None:
            return admitted
        try:
            for provider in self._providers:
                permissions = await provider(request, admitted)
                if permissions is not None:
                    return replace(admitted, permissions=permissions)
        except Exception as error:
            is_bypassed = self._grants_on_error(admitted.tenant_id)
            _log.warning(
                "permissions_bypassed" if is_bypassed else "permissions_not_provided",
                peer=request.peer,
                client_id=request.client_id,
                exc_info=True,
            )
            self._tell(
                AccessControlFailed(
                    at_ms=time_ns() // 1_000_000,
                    tenant_id=admitted.tenant_id,
                    user_id=admitted.user_id,
                    client_id=request.client_id,
                    reason=f"{type(error).__name__}: {error}",
                    is_bypassed=is_bypassed,
                )
            )
            return admitted if is_bypassed else NO_RULES
        return admitted


class CalledOutPermissions:
    """A service that is asked over HTTP for the rules of a client.

    POST  {"tenant_id": "acme", "user_id": "bob", "client_id": "c", "address": "192.0.2.1", "attributes": {}}
    200   {"rules": [{"effect": "allow", "action": "all", "filter": "dev/%c/#"}]}      null: it does not know
    """

    def __init__(self, call_out: "CallOut", rules: "ClaimedRules") -> None:
        self._call_out = call_out
        self._rules = rules

    async def provide(self, request: ConnectRequested, admitted: Admitted) -> Permissions | None:
        """See Provider. Raises CallOutFailed."""
        question: dict[str, Any] = {
            "tenant_id": admitted.tenant_id,
            "user_id": admitted.user_id,
            "client_id": request.client_id,
            "address": request.peer.rpartition(":")[0],
            "attributes": dict(admitted.attributes),
        }
        answer = self._call_out.recall(question)
        if answer is not None:
            return self._understand(answer)
        answer, permissions = await self._call_out.ask(question, self._understand)
        self._call_out.remember(question, answer)
        return permissions

    def _understand(self, answer: "Document") -> Permissions | None:
        if "rules" not in answer:
            raise ValueError("rules is missing")
        return None if answer["rules"] is None else self._rules.compile(answer["rules"])

    async def reload(self) -> dict[str, object]:
        """Ask again about everybody."""
        self._call_out.forget_all()
        return {}
