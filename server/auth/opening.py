"""From the configuration to the authenticators that it asks for."""

import base64
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import httpx
import trio

from rookery.core.permissions.rule import Effect
from rookery.server.permissions.providers import CalledOutPermissions, Provider

from .authenticator import Authenticator, EnhancedAuthenticator
from .call_out import CallOut, open_call_out
from .call_out_authenticator import CallOutAuthenticator
from .certificate import CertificateAuthenticator
from .chain import Link, chain_of
from .claimed_rules import ClaimedRules
from .development import DevelopmentAuthenticator
from .fetching import NO_ENCODING, fetch, tls_context
from .json_web_token import JwtAuthenticator
from .key_set import SIZE_MAXIMUM, Key, KeySet, KeySetError, parse_key_set
from .password_file import PasswordFileAuthenticator
from .passwords import PasswordVerifier
from .scram import ConfiguredUsers, ScramAuthenticator, ScramUser, ScramUsers
from .user_table import KnownUsers, TableScramUsers, UserTableAuthenticator

if TYPE_CHECKING:  # The configuration and the tables need to know credentials.
    from rookery.server.config import CallOutSection, Config, JwtSection
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
    by_listener: dict[int, Authenticator] = field(default_factory=dict)  # of listeners with a chain of their own
    scram_users: list[ScramUsers] = field(default_factory=list)
    enhanced: tuple[EnhancedAuthenticator, ...] = ()
    rule_providers: list[Provider] = field(default_factory=list)
    reloadables: dict[str, Reloadable] = field(default_factory=dict)  # by what they read: `passwords`

    @property
    def authenticator(self) -> Authenticator:
        """The whole chain."""
        return chain_of(self.links)


@asynccontextmanager
async def open_authenticators(
    config: "Config", store: "Store", find_plugin: Callable[[str], Authenticator], *, with_chain: bool = True
) -> AsyncIterator[OpenedAuthenticators]:
    """The chain that the configuration names, and SCRAM-SHA-256 where there are users for it; closed behind the block.

    with_chain: False for somebody who brings a chain of his own: nothing is read for it then. Raises PasswordFileError,
    KeySetError, FetchError, StoreError, and what find_plugin raises.
    """
    section = config.authentication
    verifier = PasswordVerifier(
        threads=section.hashing_threads, remember_s=section.remember_s, remember_limit=section.remember_limit
    )
    opened = OpenedAuthenticators(verifier)
    secret = await _open_scram(config.scram_lines, store, opened)
    async with AsyncExitStack() as stack:
        by_name: dict[str, Link] = {}
        chains = [section.chain if with_chain else (), *config.listener_chains.values()]
        for name in dict.fromkeys(itertools.chain(*chains)):
            by_name[name] = await _open_link(name, config, store, find_plugin, opened, stack)
        opened.links = [by_name[name] for name in chains[0]]
        opened.by_listener = {
            listener_id: chain_of([by_name[name] for name in chain])
            for listener_id, chain in config.listener_chains.items()
        }
        if config.permission_call_out.url:
            service = await stack.enter_async_context(_open_call_out(config.permission_call_out))
            called_out = CalledOutPermissions(service, claimed_rules_of(config))
            opened.rule_providers.append(called_out.provide)
            opened.reloadables["permission_call_out"] = called_out
        if opened.scram_users:
            opened.enhanced = (ScramAuthenticator(AllScramUsers(opened.scram_users), decoy_secret=secret),)
        yield opened


async def _open_link(
    name: str,
    config: "Config",
    store: "Store",
    find_plugin: Callable[[str], Authenticator],
    opened: OpenedAuthenticators,
    stack: AsyncExitStack,
) -> Link:
    section = config.authentication
    if name == "development":
        return DevelopmentAuthenticator()
    if name == "password-file":
        password_file = PasswordFileAuthenticator.open(Path(section.password_file), opened.verifier)
        opened.reloadables["passwords"] = password_file
        return password_file
    if name == "users":
        known = KnownUsers(store.users, section.remember_limit)
        table = UserTableAuthenticator(known, opened.verifier)
        opened.reloadables["users"] = table
        opened.scram_users.append(TableScramUsers(known))
        return table
    if name == "certificate":
        return CertificateAuthenticator(config.certificate.terms)
    if name == "jwt":
        tokens = await _open_jwt(config.jwt, claimed_rules_of(config), stack)
        opened.reloadables["keys"] = tokens
        return tokens
    if name == "call-out":
        asked = CallOutAuthenticator(
            await stack.enter_async_context(_open_call_out(config.call_out)), claimed_rules_of(config)
        )
        opened.reloadables["call_out"] = asked
        return asked
    return find_plugin(name.removeprefix(PLUGIN_PREFIX))


def claimed_rules_of(config: "Config") -> ClaimedRules:
    """What compiles the rules that come with clients."""
    section = config.permissions
    return ClaimedRules(default=Effect(section.default), disconnects=section.denied_publish == "disconnect")


def _open_call_out(section: "CallOutSection") -> AbstractAsyncContextManager[CallOut]:
    return open_call_out(
        section.url,
        authorization=section.authorization.get_secret_value(),
        ca_file=section.ca_file,
        timeout_s=section.timeout_s,
        breaker_s=section.breaker_s,
        cache_s=section.cache_s,
        cache_limit=section.cache_limit,
        connections_limit=section.connections_limit,
    )


async def _open_jwt(section: "JwtSection", rules: ClaimedRules, stack: AsyncExitStack) -> JwtAuthenticator:
    """Keys of a file have to be there; those of a URL may come later, and clients are refused until then."""
    keys: KeySet | None = None
    if section.keys_are_remote:
        client = await stack.enter_async_context(
            httpx.AsyncClient(verify=tls_context(section.ca_file), headers=NO_ENCODING, trust_env=False)
        )
        read = partial(fetch, client, section.keys, timeout_s=section.timeout_s, size_maximum=SIZE_MAXIMUM)
        keys = KeySet(section.keys, read, section.algorithms, refresh_s=section.refresh_s)
        with suppress(KeySetError):  # It is in the log.
            await keys.reload()
    elif section.keys:
        keys = KeySet(section.keys, partial(_read_file, section.keys), section.algorithms, refresh_s=section.refresh_s)
        await keys.reload()
    return JwtAuthenticator(section.terms, keys, secrets_of(section), rules)


async def _read_file(file: str) -> bytes:
    try:
        return await trio.Path(file).read_bytes()
    except OSError as error:
        raise KeySetError(f"{file}: {error.strerror or error}") from error


def secrets_of(section: "JwtSection") -> tuple[Key, ...]:
    """The shared secret as keys, one per algorithm that has one. Raises KeySetError for one that is too short."""
    secret = section.secret.get_secret_value().encode()
    if not secret:
        return ()
    encoded = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    entry = json.dumps({"keys": [{"kty": "oct", "k": encoded}]})
    return parse_key_set(entry.encode(), "jwt.secret", section.algorithms)


def check_jwt(section: "JwtSection") -> None:
    """Raise KeySetError when the file of keys, or the secret, cannot be used."""
    secrets_of(section)
    if section.keys and not section.keys_are_remote:
        try:
            text = Path(section.keys).read_bytes()
        except OSError as error:
            raise KeySetError(f"{section.keys}: {error.strerror or error}") from error
        parse_key_set(text, section.keys, section.algorithms)


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
