"""Who is this client: the decision about a CONNECT, and the ways of making it."""

import hashlib
from collections.abc import Mapping
from typing import Literal

from .authenticator import Authenticator, EnhancedAuthenticator
from .development import DevelopmentAuthenticator
from .scram import ConfiguredUsers, ScramAuthenticator

_KINDS = {"development": DevelopmentAuthenticator}


def open_authenticator(kind: Literal["development"]) -> Authenticator:
    """The authenticator that the configuration names."""
    return _KINDS[kind]()


def open_enhanced_authenticators(scram_lines: Mapping[str, str]) -> tuple[EnhancedAuthenticator, ...]:
    """Those that the configuration asks for: SCRAM-SHA-256 where section `[scram]` has users."""
    if not scram_lines:
        return ()
    # The lines are as secret as this has to be, and it changes only with them.
    secret = hashlib.sha256("\n".join(sorted(scram_lines.values())).encode()).digest()
    return (ScramAuthenticator(ConfiguredUsers(scram_lines), decoy_secret=secret),)
