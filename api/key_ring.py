"""The API keys in memory, so that a request costs a look and no question to the database.

Keys that a command makes or revokes hold after REFRESH_S at the latest. While the database cannot be read those that
are known hold on.
"""

import time

import trio

from rookery.server.config import Config
from rookery.server.log import get_logger
from rookery.server.serve import FrontError
from rookery.server.store import ApiKey, ApiKeys, StoreError
from rookery.server.store.api_keys import digest_of

from .rights import Caller, Role

REFRESH_S = 2.0  # the keys are not older than that
KEYS_LIMIT = 10_000  # in memory; the oldest ones count

_ROLES = frozenset(map(str, Role))

_log = get_logger(__name__)


async def check_keys(keys: "KeyRing", config: Config) -> None:
    """Raise FrontError where keys are asked for, nobody has one, and other machines reach the API.

    On a loopback address it is said in the log: whoever makes a key then is let in by it.
    """
    if not config.api.require_key:
        return
    await keys.refresh()
    if not keys.is_empty or config.api.client_roles:
        return
    if not config.api.bind.is_loopback and not config.insecure:
        raise FrontError(
            f"api.bind {config.api.bind} is open to other machines and there is no API key: make one with "
            "`rookery api-key create`, set api.admin_key, or allow it with --insecure (insecure = true)"
        )
    _log.warning("no_api_key", message="nobody can call the HTTP API before `rookery api-key create` has made a key")


class KeyRing:
    """All keys that are good."""

    def __init__(self, table: ApiKeys, admin_key: str = "") -> None:
        """admin_key: the one of the configuration, which may do everything; empty = none."""
        self._table = table
        self._admin_digest = digest_of(admin_key) if admin_key else None
        self._keys: dict[bytes, ApiKey] = {}
        self._read_at = float("-inf")
        self._reading = trio.Lock()

    async def refresh(self) -> None:
        """Read the keys again if they are old."""
        if trio.current_time() - self._read_at < REFRESH_S:
            return
        async with self._reading:
            # Whoever waited for the lock finds them read.
            if trio.current_time() - self._read_at >= REFRESH_S:
                try:
                    keys = await self._table.all()
                except StoreError as error:
                    _log.error("api_keys_not_read", reason=str(error))
                else:
                    self._keys = {key.digest: key for key in keys[:KEYS_LIMIT]}
                self._read_at = trio.current_time()

    def forget(self) -> None:
        """Read them anew with the next request: something has changed."""
        self._read_at = float("-inf")

    @property
    def is_empty(self) -> bool:
        """Is there no key at all that lets anybody in?"""
        return self._admin_digest is None and not self._keys

    async def find(self, key: str) -> Caller | None:
        """Who has this key; None when it is none, or not any more."""
        digest = digest_of(key)
        if digest == self._admin_digest:
            return Caller("configuration", "configuration", Role.ADMIN, None)
        await self.refresh()
        known = self._keys.get(digest)
        if known is None or known.is_expired(time.time()) or known.role not in _ROLES:
            return None
        return Caller(known.name, known.key_id, Role(known.role), known.tenant_id)
