"""TokenTerms: what a token must be like, and what its claims mean."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """What a token must be like, and what its claims mean."""

    algorithms: frozenset[str]
    issuer: str  # empty = any
    audience: Sequence[str]  # one of them; none = a token with an audience is refused
    leeway_s: float
    require_expiry: bool
    tenant: str  # of all tokens; empty = as the claim says
    tenant_claim: str
    user_claim: str
    rules_claim: str
    attributes_claim: str
    username: str  # "any", or what CONNECT has to say: "user", "tenant/user"
