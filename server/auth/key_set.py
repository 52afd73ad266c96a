"""Keys that verify tokens: a JWKS (RFC 7517) from a file or a URL, read again from time to time and for a new key.

    never read        whoever needs a key waits; when it cannot be read he is refused
    read              keys are found without waiting
    refresh_s later   the first who needs a key waits for a new set, the others go on with the old one
    unknown key       as when it was never read, at most every UNKNOWN_KEY_S: strangers name keys as they like

When a set cannot be read again the old one stays for STALE_S at most: an issuer that is down locks nobody out at once,
and a key that was withdrawn is not good for ever.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import trio
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from rookery.server.log import get_logger

UNKNOWN_KEY_S = 10.0  # between two reads because of a key that the set does not have
RETRY_S = 2.0  # between two reads that fail
STALE_S = 86_400.0
KEYS_LIMIT = 100  # of one set
SIZE_MAXIMUM = 1024 * 1024  # bytes of one set
CANDIDATES_LIMIT = 8  # keys that a token without the name of a key is tried with

# What a key may verify, by its type and curve.
_FITTING: Mapping[tuple[str, str | None], frozenset[str]] = {
    ("oct", None): frozenset(("HS256", "HS384", "HS512")),
    ("RSA", None): frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    ("EC", "P-256"): frozenset(("ES256",)),
    ("EC", "P-384"): frozenset(("ES384",)),
    ("EC", "P-521"): frozenset(("ES512",)),
    ("OKP", "Ed25519"): frozenset(("EdDSA",)),
}

_log = get_logger(__name__)


class KeySetError(Exception):
    """Keys that cannot be had or used; the text says where they should come from, and nothing of their content."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key for one algorithm: a token that names another one is not verified with it."""

    key_id: str | None
    algorithm: str
    verifier: PyJWK


def parse_key_set(text: bytes, name: str, algorithms: Collection[str]) -> tuple[Key, ...]:
    """The keys of a JWKS that are good for one of the algorithms; others, and those for encryption, are passed over.

    Raises KeySetError when it is no set, holds a key that is too weak, or none of use. name says where it is from.
    """
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeySetError(f'{name}: no JSON object with an array "keys"') from None
    if not isinstance(entries, list) or len(entries) > KEYS_LIMIT:
        raise KeySetError(f'{name}: "keys" is no array of at most {KEYS_LIMIT} keys')
    keys = [key for entry in entries for key in _parse_key(entry, name, algorithms)]
    if not keys:
        raise KeySetError(f"{name}: has no key for {', '.join(sorted(algorithms))}")
    return tuple(keys)


def _parse_key(entry: Any, name: str, algorithms: Collection[str]) -> list[Key]:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return []
    if not isinstance(entry.get("kty"), str) or not isinstance(entry.get("crv"), str | None):
        return []
    key_id = entry.get("kid")
    curve = entry.get("crv") if entry["kty"] in ("EC", "OKP") else None
    fitting = _FITTING.get((entry["kty"], curve), frozenset()) & set(algorithms)
    if "alg" in entry:
        fitting &= {entry["alg"]} if isinstance(entry["alg"], str) else set()
    keys = []
    for algorithm in sorted(fitting):
        try:
            verifier = PyJWK(entry, algorithm)
            weakness = verifier.Algorithm.check_key_length(verifier.key)
        except (PyJWTError, ValueError, TypeError):
            raise KeySetError(f"{name}: key {key_id!r} cannot be used for {algorithm}") from None
        if weakness:
            raise KeySetError(f"{name}: key {key_id!r}: {weakness}")
        keys.append(Key(key_id if isinstance(key_id, str) else None, algorithm, verifier))
    return keys


class KeySet:
    """Keys as they were read last."""

    def __init__(
        self, name: str, read: Callable[[], Awaitable[bytes]], algorithms: Collection[str], *, refresh_s: float
    ) -> None:
        self.name = name  # for messages: where they are from
        self._read = read
        self._algorithms = frozenset(algorithms)
        self._refresh_s = refresh_s
        self._keys: tuple[Key, ...] = ()
        self._read_at: float | None = None  # None = never
        self._tried_at: float | None = None
        self._error: KeySetError | None = None  # of the last try
        self._reading = trio.Lock()
        self.read_count = 0  # tries

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key_id: str | None, algorithm: str) -> tuple[Key, ...] | None:
        """The keys that a token may be signed with; none of them is an answer. None: await find_later. Never blocks."""
        if self._read_at is None or (self._is_old and self._may_try(RETRY_S) and not self._reading.locked()):
            return None
        found = self._matching(key_id, algorithm)
        return None if not found and self._may_try(UNKNOWN_KEY_S) else found

    async def find_later(self, key_id: str | None, algorithm: str) -> tuple[Key, ...]:
        """As find, with keys that are read now. Raises KeySetError when there are none that may be used."""
        tried_at = self._tried_at
        async with self._reading:
            if self._tried_at == tried_at and self._may_try(RETRY_S):  # Else somebody did while this one waited.
                await self._try()
        if self._read_at is None or trio.current_time() - self._read_at > self._refresh_s + STALE_S:
            raise self._error or KeySetError(f"{self.name}: has not been read")
        return self._matching(key_id, algorithm)

    async def reload(self) -> dict[str, object]:
        """Read them now. Raises KeySetError, and the old ones stay."""
        async with self._reading:
            await self._try()
        if self._error is not None:
            raise self._error
        return {"keys": len(self._keys)}

    @property
    def _is_old(self) -> bool:
        return self._read_at is None or trio.current_time() - self._read_at >= self._refresh_s

    def _may_try(self, interval_s: float) -> bool:
        return self._tried_at is None or trio.current_time() - self._tried_at >= interval_s

    def _matching(self, key_id: str | None, algorithm: str) -> tuple[Key, ...]:
        return tuple(
            key for key in self._keys if key.algorithm == algorithm and (key_id is None or key.key_id == key_id)
        )[:CANDIDATES_LIMIT]

    async def _try(self) -> None:
        self.read_count += 1
        try:
            keys = parse_key_set(await self._read(), self.name, self._algorithms)
        except Exception as error:
            self._error = error if isinstance(error, KeySetError) else KeySetError(f"{self.name}: {error}")
            _log.warning("keys_not_read", reason=str(self._error))
        else:
            self._keys, self._read_at, self._error = keys, trio.current_time(), None
        finally:
            self._tried_at = trio.current_time()
