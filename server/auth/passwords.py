"""Password hashes: Argon2id in a bounded number of threads, and a short memory of what was right.

A hash takes 20 to 30 ms of a CPU and 19 MiB, which is what makes guessing dear. The thread lets go of the interpreter
meanwhile, and there are few of them, so a storm of CONNECTs waits for its own hashes and for nobody else's work. Who
was right a moment ago is not hashed again: ten thousand devices that reconnect are known within microseconds each.
"""

import hashlib
import secrets
from collections import OrderedDict
from functools import cached_property

import trio
from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from .fair_turns import FairTurns

# The least that OWASP recommends for Argon2id: a device that connects costs little, a guess still does.
TIME_COST = 2  # passes
MEMORY_COST_KIB = 19_456
MEMORY_COST_MAXIMUM_KIB = 1_048_576  # of a hash that somebody else made
TIME_COST_MAXIMUM = 100
KEY_SIZE = 32  # bytes of the process's key and of what is remembered

_HASHER = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST_KIB, parallelism=1, type=Type.ID)


def hash_password(password: str | bytes) -> str:
    """`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`. Takes 20 to 30 ms of CPU time. Raises ValueError for no password."""
    if not password:
        raise ValueError("the password is empty")
    return _HASHER.hash(password)


def check_hash(line: str) -> None:
    """Raise ValueError, whose message does not hold the line, unless it is a hash that can be verified."""
    try:
        parameters = extract_parameters(line)
    except InvalidHashError:
        raise ValueError("expected an Argon2id hash, $argon2id$v=19$m=...,t=...,p=...$salt$hash") from None
    if parameters.type is not Type.ID:
        raise ValueError(f"expected an Argon2id hash, got one of Argon2{parameters.type.name.lower()}")
    if parameters.memory_cost > MEMORY_COST_MAXIMUM_KIB:
        raise ValueError(f"the hash takes {parameters.memory_cost} KiB; at most {MEMORY_COST_MAXIMUM_KIB} are allowed")
    if parameters.time_cost > TIME_COST_MAXIMUM:
        raise ValueError(f"the hash takes {parameters.time_cost} passes; at most {TIME_COST_MAXIMUM} are allowed")


class RememberedSuccesses:
    """Which user came with which password a short while ago: keyed hashes, never the passwords."""

    def __init__(self, *, for_s: float, limit: int) -> None:
        self._for_s = for_s  # 0 = nothing is remembered
        self._limit = limit
        self._key = secrets.token_bytes(KEY_SIZE)  # of this process: what a dump shows is of no use elsewhere
        self._forgotten_at: OrderedDict[bytes, float] = OrderedDict()  # the oldest first

    def __len__(self) -> int:
        return len(self._forgotten_at)

    def add(self, hash_line: str, password: bytes) -> None:
        """This password was right for this hash."""
        if not self._for_s:
            return
        digest = self._digest(hash_line, password)
        self._forgotten_at[digest] = trio.current_time() + self._for_s
        self._forgotten_at.move_to_end(digest)
        if len(self._forgotten_at) > self._limit:
            self._forgotten_at.popitem(last=False)

    def time_left_s(self, hash_line: str, password: bytes) -> float:
        """For how long it will be remembered that this password was right for this hash; 0 = it is not."""
        digest = self._digest(hash_line, password)
        forgotten_at = self._forgotten_at.get(digest)
        if forgotten_at is None:
            return 0.0
        left_s = forgotten_at - trio.current_time()
        if left_s > 0:
            return left_s
        del self._forgotten_at[digest]
        return 0.0

    def _digest(self, hash_line: str, password: bytes) -> bytes:
        # The hash line stands for the user: it has a salt of its own, and a new password makes a new one. It holds no
        # zero byte, so no two pairs run together to the same bytes.
        return hashlib.blake2b(hash_line.encode() + b"\0" + password, key=self._key, digest_size=KEY_SIZE).digest()


class PasswordVerifier:
    """Verifies passwords against hashes, some at a time."""

    def __init__(self, *, threads: int, remember_s: float, remember_limit: int) -> None:
        self._turns = FairTurns(threads)
        self._limiter = trio.CapacityLimiter(threads)  # also of threads whose caller has gone
        self._remembered = RememberedSuccesses(for_s=remember_s, limit=remember_limit)
        self.hashed_count = 0  # verifications that took a thread

    def remembered_for_s(self, hash_line: str, password: bytes) -> float:
        """For how long it will be known that this was verified a short while ago; 0 = it is not. Never blocks."""
        return self._remembered.time_left_s(hash_line, password)

    async def hash(self, password: str) -> str:
        """As hash_password, in one of the threads."""
        return await trio.to_thread.run_sync(hash_password, password, limiter=self._limiter)

    async def verify(self, hash_line: str | None, password: bytes) -> bool:
        """Whether the password is that of the hash; None stands for a user that nobody is, and takes as long.

        Waits for a free thread and for its flow's turn. Cancelling leaves the thread to finish its hash.
        """
        async with self._turns.turn():
            self.hashed_count += 1
            is_right = await trio.to_thread.run_sync(
                self._verify, hash_line, password, limiter=self._limiter, abandon_on_cancel=True
            )
        if hash_line is None or not is_right:
            return False
        self._remembered.add(hash_line, password)
        return True

    def _verify(self, hash_line: str | None, password: bytes) -> bool:
        try:
            return _HASHER.verify(self._decoy if hash_line is None else hash_line, password)
        except VerificationError:
            return False

    @cached_property
    def _decoy(self) -> str:
        """The hash of no password that anybody knows."""
        return hash_password(secrets.token_hex(KEY_SIZE))
