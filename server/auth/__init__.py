"""Who is this client: the decision about a CONNECT, and the ways of making it."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .authenticator import Authenticator, EnhancedAuthenticator
from .chain import Link, chain_of
from .development import DevelopmentAuthenticator
from .password_file import PasswordFileAuthenticator
from .passwords import PasswordVerifier
from .scram import ConfiguredUsers, ScramAuthenticator, ScramUser, ScramUsers
from .user_table import KnownUsers, TableScramUsers, UserTableAuthenticator

if TYPE_CHECKING:  # The configuration and the tables need to know credentials.
    from rookery.server.config import Config
    from rookery.server.store import Store

PLUGIN_PREFIX = "plugin:"
_DECOYS = "scram decoys"  # name of a secret


class Reloadable(Protocol):
    """What reads files that may change while the broker runs."""

    async def reload(self) -> dict[str, object]:
        """Read them again; what there is to say about it in the log. When it raises, all is as before."""
        ...


@dataclass(slots=True)
class OpenedAuthenticators:
    """What the configuration asks for, in its order."""

    verifier: PasswordVerifier  # of all that have passwords, so that its threads are all that hash
    links: list[Link] = field(default_factory=list)
    scram_users: list[ScramUsers] = field(default_factory=list)
    enhanced: tuple[EnhancedAuthenticator, ...] = ()
    reloadables: dict[str, Reloadable] = field(default_factory=dict)  # by what they read: `passwords`

    @property
    def authenticator(self) -> Authenticator:
        """The whole chain."""
        return chain_of(self.links)


@asynccontextmanager
async def open_authenticators(
    config: "Config", store: "Store", find_plugin: Callable[[str], Authenticator], *, with_chain: bool = True
) -> AsyncIterator[OpenedAuthenticators]:
    """The chain that the configuration names, and SCRAM-SHA-256 where there are users for it.

    with_chain: False for somebody who brings a chain of his own: nothing is read for it then. Raises PasswordFileError,
    StoreError, and what find_plugin raises.
    """
    section = config.authentication
    verifier = PasswordVerifier(
        threads=section.hashing_threads, remember_s=section.remember_s, remember_limit=section.remember_limit
    )
    opened = OpenedAuthenticators(verifier)
    secret = await _open_scram(config.scram_lines, store, opened)
    for name in section.chain if with_chain else ():
        if name == "development":
            opened.links.append(DevelopmentAuthenticator())
        elif name == "password-file":
            password_file = PasswordFileAuthenticator.open(Path(section.password_file), verifier)
            opened.links.append(password_file)
            opened.reloadables["passwords"] = password_file
        elif name == "users":
            known = KnownUsers(store.users, section.remember_limit)
            table = UserTableAuthenticator(known, verifier)
            opened.links.append(table)
            opened.reloadables["users"] = table
            opened.scram_users.append(TableScramUsers(known))
        else:
            opened.links.append(find_plugin(name.removeprefix(PLUGIN_PREFIX)))
    if opened.scram_users:
        opened.enhanced = (ScramAuthenticator(AllScramUsers(opened.scram_users), decoy_secret=secret),)
    yield opened


async def _open_scram(lines: Mapping[str, str], store: "Store", opened: OpenedAuthenticators) -> bytes:
    """The users of the configuration, and the secret that makes the salts of users whom nobody has."""
    secret = hashlib.sha256(await store.secrets.get(_DECOYS))
    if lines:
        opened.scram_users.append(ConfiguredUsers(lines))
        # So that the salts stay across restarts, also where the database does not.
        secret = hashlib.sha256("\n".join(sorted(lines.values())).encode())
    return secret.digest()


class AllScramUsers:
    """Users of several sources; the first that has a name has it."""

    def __init__(self, sources: list[ScramUsers]) -> None:
        self._sources = tuple(sources)

    async def find(self, username: str) -> ScramUser | None:
        """See ScramUsers."""
        for source in self._sources:
            user = await source.find(username)
            if user is not None:
                return user
        return None
