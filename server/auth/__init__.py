"""Who is this client: the decision about a CONNECT, and the ways of making it."""

from typing import Literal

from .authenticator import Authenticator
from .development import DevelopmentAuthenticator

_KINDS = {"development": DevelopmentAuthenticator}


def open_authenticator(kind: Literal["development"]) -> Authenticator:
    """The authenticator that the configuration names."""
    return _KINDS[kind]()
