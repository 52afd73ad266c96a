"""JSON Web Tokens (RFC 7519) as authenticator: the password of CONNECT is a token that somebody else has signed.

    eyJhbGciOi...  header   algorithm, one of those that are allowed; name of the key
    .eyJ0ZW5hb...  claims   tenant, user; iss, aud, exp, nbf as the configuration wants them; rules, attributes
    .kPhm3vWQd...  signature

A password that is no token is left to the next authenticator. One that is a token is decided about here: whatever is
wrong with it refuses. Verifying takes 20 to 100 us of the control plane, so it needs no thread.
"""

import base64
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from jwt import exceptions

from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule_set import Permissions
from rookery.core.wire.spec import ReasonCode

from .authenticator import Admitted, Decision, Refused
from .chain import BAD_CREDENTIALS, NOT_MINE, NotMine
from .claimed_rules import ClaimedRules, InvalidRules
from .key_set import Key, KeySet
from .token_terms import TokenTerms

TOKEN_SIZE_MAXIMUM = 16_384  # bytes; larger ones are refused unread
NAME_SIZE_MAXIMUM = 65535  # bytes of tenant and user: what MQTT carries
ATTRIBUTES_SIZE_MAXIMUM = 16_384  # bytes as JSON

_TOKEN = re.compile(rb"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")

# What the client is told: nothing here helps to make a token.
_REASONS: tuple[tuple[type[exceptions.PyJWTError], str], ...] = (
    (exceptions.ExpiredSignatureError, "the token has expired"),
    (exceptions.ImmatureSignatureError, "the token is not valid yet"),
    (exceptions.InvalidAudienceError, "the token is for somebody else"),
    (exceptions.InvalidIssuerError, "the token is of another issuer"),
    (exceptions.MissingRequiredClaimError, "the token lacks a claim"),
)


class JwtAuthenticator:
    """Admits whoever brings a token that holds."""

    leaves_lastingly = True

    def __init__(self, terms: TokenTerms, keys: KeySet | None, secrets: Sequence[Key], rules: ClaimedRules) -> None:
        self._terms = terms
        self._keys = keys
        self._secrets = tuple(secrets)  # of HS256 and the like, beside those of keys
        self._rules = rules
        self._required = ["exp"] if terms.require_expiry else []

    def decide(self, request: ConnectRequested) -> Decision | NotMine | None:
        """At once, unless keys have to be read."""
        header = _header_of(request.password)
        if header is None:
            return NOT_MINE
        if not self._is_allowed(header):
            return BAD_CREDENTIALS
        if self._keys is None:
            return self._verify(request, self._candidates(header, ()))
        found = self._keys.find(_key_id_of(header), header["alg"])
        return None if found is None else self._verify(request, self._candidates(header, found))

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        """See Link. Raises KeySetError when there are no keys, which refuses the client."""
        decision = self.decide(request)
        if decision is not None:
            return decision
        header = _header_of(request.password)
        assert header is not None
        assert self._keys is not None
        found = await self._keys.find_later(_key_id_of(header), header["alg"])
        return self._verify(request, self._candidates(header, found))

    async def reload(self) -> dict[str, object]:
        """Read the keys again."""
        return {} if self._keys is None else await self._keys.reload()

    def _is_allowed(self, header: Mapping[str, Any]) -> bool:
        # Critical extensions that are not understood refuse a token (RFC 7515, section 4.1.11); none is understood.
        return header.get("alg") in self._terms.algorithms and "crit" not in header and "b64" not in header

    def _candidates(self, header: Mapping[str, Any], found: Sequence[Key]) -> list[Key]:
        key_id = _key_id_of(header)
        return [
            *found,
            *(
                secret
                for secret in self._secrets
                if secret.algorithm == header["alg"] and secret.key_id in (None, key_id)
            ),
        ]

    def _verify(self, request: ConnectRequested, candidates: Sequence[Key]) -> Decision:
        assert request.password is not None
        terms = self._terms
        for key in candidates:
            try:
                claims = jwt.decode(
                    request.password,
                    key.verifier,
                    algorithms=[key.algorithm],
                    issuer=terms.issuer or None,
                    audience=list(terms.audience) or None,
                    leeway=terms.leeway_s,
                    options={"require": self._required, "enforce_minimum_key_length": True},
                )
            except exceptions.InvalidSignatureError:
                continue  # Another one may have made it.
            except (exceptions.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                return _refused(next((reason for kind, reason in _REASONS if isinstance(error, kind)), ""))
            return self._decide(request, claims)
        return BAD_CREDENTIALS

    def _decide(self, request: ConnectRequested, claims: Mapping[str, Any]) -> Decision:
        """The signature holds: what the claims say."""
        terms = self._terms
        tenant_id = terms.tenant or _name_of(claims.get(terms.tenant_claim))
        user_id = _name_of(claims.get(terms.user_claim))
        if tenant_id is None or user_id is None:
            return _refused("the token names no tenant or no user")
        expected = {"user": user_id, "tenant/user": f"{tenant_id}/{user_id}"}.get(terms.username)
        if expected is not None and request.username != expected:
            return _refused("the user name is not that of the token")
        attributes = _attributes_of(claims.get(terms.attributes_claim))
        if attributes is None:
            return Refused(ReasonCode.NOT_AUTHORIZED, "the attributes of the token cannot be used")
        permissions: Permissions | None = None
        if terms.rules_claim in claims:
            try:
                permissions = self._rules.compile(claims[terms.rules_claim])
            except InvalidRules as error:
                return Refused(ReasonCode.NOT_AUTHORIZED, f"the rules of the token cannot be used: {error}")
        return Admitted(
            tenant_id, user_id, attributes, permissions, expires_at_s=_end_of(claims.get("exp"), terms.leeway_s)
        )


def _refused(reason: str) -> Refused:
    return Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, reason) if reason else BAD_CREDENTIALS


def _header_of(password: bytes | None) -> Mapping[str, Any] | None:
    """The header of a token, which nobody has verified; None for what is no token."""
    if not password or len(password) > TOKEN_SIZE_MAXIMUM:
        return None
    found = _TOKEN.fullmatch(password)
    if found is None:
        return None
    encoded = found[1]
    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and isinstance(header.get("alg"), str) else None


def _key_id_of(header: Mapping[str, Any]) -> str | None:
    key_id = header.get("kid")
    return key_id if isinstance(key_id, str) else None


def _name_of(value: object) -> str | None:
    """A tenant or a user; None for what is none."""
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    try:
        return value if len(value.encode()) <= NAME_SIZE_MAXIMUM else None
    except UnicodeEncodeError:  # JSON can escape half a character.
        return None


def _attributes_of(value: object) -> dict[str, str] | None:
    """Attributes as text; none without the claim; None for what are none."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(json.dumps(value)) > ATTRIBUTES_SIZE_MAXIMUM:
        return None
    if not all(isinstance(each, str | int | float) for each in value.values()):
        return None
    return {key: each if isinstance(each, str) else json.dumps(each) for key, each in value.items()}


def _end_of(expiry: object, leeway_s: float) -> float | None:
    """When the connection has to end: as the claim says, or at the end of the leeway for one that is over already."""
    if expiry is None:
        return None
    assert isinstance(expiry, int | float | str)  # Verified: what can be made an integer.
    end = float(int(expiry))
    return end if end > time.time() else end + leeway_s
