"""Who is this client: the decision about a CONNECT, and the ways of making it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .authenticator import Authenticator, EnhancedAuthenticator
from .chain import Link, chain_of
from .development import DevelopmentAuthenticator
from .password_file import PasswordFileAuthenticator
from .passwords import PasswordVerifier
from .scram import ConfiguredUsers, ScramAuthenticator

if TYPE_CHECKING:  # The configuration itself needs to know credentials.
    from rookery.server.config import AuthenticationSection

PLUGIN_PREFIX = "plugin:"


@dataclass(frozen=True, slots=True)
class OpenedAuthenticators:
    """What the configuration asks for, in its order."""

    authenticator: Authenticator  # the whole chain
    password_file: PasswordFileAuthenticator | None  # of its links: what can be read again


def open_authenticators(
    section: "AuthenticationSection", find_plugin: Callable[[str], Authenticator]
) -> OpenedAuthenticators:
    """The chain that the configuration names. Raises PasswordFileError, and what find_plugin raises."""
    links: list[Link] = []
    password_file: PasswordFileAuthenticator | None = None
    for name in section.chain:
        if name == "development":
            links.append(DevelopmentAuthenticator())
        elif name == "password-file":
            verifier = PasswordVerifier(
                threads=section.hashing_threads,
                remember_s=section.remember_s,
                remember_limit=section.remember_limit,
            )
            password_file = PasswordFileAuthenticator.open(Path(section.password_file), verifier)
            links.append(password_file)
        else:
            links.append(find_plugin(name.removeprefix(PLUGIN_PREFIX)))
    return OpenedAuthenticators(chain_of(links), password_file)


def open_enhanced_authenticators(scram_lines: Mapping[str, str]) -> tuple[EnhancedAuthenticator, ...]:
    """Those that the configuration asks for: SCRAM-SHA-256 where section `[scram]` has users."""
    if not scram_lines:
        return ()
    # The lines are as secret as this has to be, and it changes only with them.
    secret = hashlib.sha256("\n".join(sorted(scram_lines.values())).encode()).digest()
    return (ScramAuthenticator(ConfiguredUsers(scram_lines), decoy_secret=secret),)
