"""A service that is asked over HTTP who a client is, as authenticator.

    POST  {"client_id": "c", "username": "bob", "password": "secret", "address": "192.0.2.1", ...}
    200   {"result": "ok", "tenant_id": "acme", "user_id": "bob", "attributes": {}, "rules": [], "expires_in_s": 3600}
          {"result": "bad_credentials"}      also "not_authorized", "banned", "not_mine", "error"; "reason_string"

docs/authentication.md has all of it. Only "ok" is remembered: a right password that was just set must not be refused
for what was said before.
"""

import base64
import math
import time
from collections.abc import Mapping
from typing import Any

from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule_set import Permissions
from rookery.core.wire.spec import ReasonCode

from .authenticator import Admitted, Decision, Refused, UserProperties
from .call_out import CallOut, Document
from .chain import NOT_MINE, NotMine
from .claimed_rules import ClaimedRules, InvalidRules

_REFUSALS: Mapping[str, tuple[ReasonCode, str]] = {
    "bad_credentials": (ReasonCode.BAD_USER_NAME_OR_PASSWORD, "wrong user name or password"),
    "not_authorized": (ReasonCode.NOT_AUTHORIZED, "not authorized"),
    "banned": (ReasonCode.BANNED, "banned"),
    "error": (ReasonCode.UNSPECIFIED_ERROR, "authentication failed"),
}
_UNTIL = "expires_at_s"  # beside a remembered answer: when the time that it gave is over


class CallOutAuthenticator:
    """Admits whom the service admits."""

    def __init__(self, call_out: CallOut, rules: ClaimedRules) -> None:
        self._call_out = call_out
        self._rules = rules

    def decide(self, request: ConnectRequested) -> Decision | NotMine | None:
        """Whom the service admitted a short while ago is admitted at once."""
        answer = self._call_out.recall(_question_about(request))
        return None if answer is None else self._admitted(answer)

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        """See Link. Raises CallOutFailed, which refuses the client."""
        question = _question_about(request)
        answer, decision = await self._call_out.ask(question, self._understand)
        if isinstance(decision, Admitted):
            lasts_s = _duration_of(answer)
            answer = {**answer, _UNTIL: decision.expires_at_s}
            self._call_out.remember(question, answer, for_s=lasts_s)
        return decision

    def _understand(self, answer: Document) -> Decision | NotMine:
        result = answer.get("result")
        if result == "ok":
            lasts_s = _duration_of(answer)
            return self._admitted({**answer, _UNTIL: None if lasts_s is None else time.time() + lasts_s})
        if result == "not_mine":
            return NOT_MINE
        if not isinstance(result, str) or result not in _REFUSALS:
            raise ValueError(f"result is {result!r}, expected ok, not_mine, {', '.join(_REFUSALS)}")
        reason_code, reason_string = _REFUSALS[result]
        return Refused(reason_code, _text_of(answer, "reason_string") or reason_string, _user_properties_of(answer))

    def _admitted(self, answer: Document) -> Admitted:
        permissions: Permissions | None = None
        if answer.get("rules") is not None:
            try:
                permissions = self._rules.compile(answer["rules"])
            except InvalidRules as error:
                raise ValueError(f"rules: {error}") from None
        tenant_id, user_id = _text_of(answer, "tenant_id"), _text_of(answer, "user_id")
        if not tenant_id or not user_id:
            raise ValueError("tenant_id or user_id is missing")
        attributes = answer.get("attributes") or {}
        if not isinstance(attributes, dict) or not all(isinstance(each, str) for each in attributes.values()):
            raise ValueError("attributes is no object of text")
        return Admitted(
            tenant_id,
            user_id,
            attributes,
            permissions,
            expires_at_s=answer[_UNTIL],
            reason_string=_text_of(answer, "reason_string"),
            user_properties=_user_properties_of(answer),
        )

    async def reload(self) -> dict[str, object]:
        """Ask again about everybody."""
        self._call_out.forget_all()
        return {}


def _question_about(request: ConnectRequested) -> dict[str, Any]:
    """What the service is told; the same client asks the same from every port of its address."""
    question: dict[str, Any] = {
        "client_id": request.client_id,
        "username": request.username,
        "password": None,
        "address": request.peer.rpartition(":")[0],
        "protocol_version": request.protocol_version,
        "clean_start": request.clean_start,
        "listener_id": request.listener_id,
    }
    if request.tenant_id is not None:
        question["tenant_id"] = request.tenant_id
    if request.password is not None:
        try:
            question["password"] = request.password.decode()
        except UnicodeDecodeError:
            question["password_base64"] = base64.b64encode(request.password).decode()
    return question


def _text_of(answer: Document, name: str) -> str:
    value = answer.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _user_properties_of(answer: Document) -> UserProperties:
    value = answer.get("user_properties") or []
    if not isinstance(value, list):
        raise ValueError("user_properties is no array")
    pairs = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ValueError("user_properties is no array of pairs of text")
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


def _duration_of(answer: Document) -> float | None:
    value = answer.get("expires_in_s")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"expires_in_s is {value!r}, expected seconds above 0")
    return float(value)
