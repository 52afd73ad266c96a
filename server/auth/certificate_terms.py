"""CertificateTerms: which fields of a certificate name tenant and user."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CertificateTerms:
    """What a certificate has to say."""

    tenant: str  # of all certificates; empty = as the field says
    tenant_field: str  # as peer_certificate names it: `subject.O`
    user_field: str
    user_pattern: re.Pattern[str] | None  # the whole user field; its groups "user" and "tenant" are the names then
    username: str  # "any", or what CONNECT has to say: "user", "tenant/user"


def compile_pattern(text: str) -> re.Pattern[str] | None:
    """The pattern of user_pattern; None for an empty one. Raises ValueError for one that is wrong or names no user."""
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    if "user" not in pattern.groupindex:
        raise ValueError(f"{text!r} has no group (?P<user>...)")
    return pattern
