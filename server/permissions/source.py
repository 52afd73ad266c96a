"""The contract between admission and whoever knows the rules of a client, and the source that reads a file."""

from pathlib import Path
from typing import Protocol

import trio

from rookery.core.engine import Engine
from rookery.core.permissions.rule import Effect, InvalidRule
from rookery.core.permissions.rule_set import Permissions

from .rules_file import RulesFileError, read_rules


class PermissionSource(Protocol):
    """Knows the rules of clients whose authenticator said nothing of rules. A plain class with this method will do.

    When it raises, the tenant's setting ByPassPermCheckError decides: true lets the client in without rules, as
    BifroMQ does; false refuses it.
    """

    def permissions_of(self, tenant_id: str, user_id: str, client_id: str) -> Permissions | None:
        """The rules of this client; None = it may do everything. client_id is empty when the server chooses it.

        Asked for every client that is let in, between two of them: never blocks, and returns what it has compiled
        before. The same object for many clients costs nothing.
        """
        ...


class FilePermissions:
    """One set of rules for everybody, from a file that can be read again. Made by open."""

    def __init__(self, file: Path, permissions: Permissions) -> None:
        self._file = file
        self._permissions = permissions

    @classmethod
    def open(cls, file: Path, *, default: Effect, disconnects: bool) -> "FilePermissions":
        """Reads the file; raises RulesFileError."""
        return cls(file, _read(file, default, disconnects))

    def permissions_of(self, tenant_id: str, user_id: str, client_id: str) -> Permissions:
        """The same for all: the rules themselves say whom they are for."""
        return self._permissions

    @property
    def rule_count(self) -> int:
        return len(self._permissions)

    async def reload(self, engine: Engine) -> None:
        """Read the file again and put it in force, also for clients that are connected.

        Raises RulesFileError; the rules that were read before stay in force then.
        """
        earlier = self._permissions
        later = await trio.to_thread.run_sync(_read, self._file, earlier.default, earlier.disconnects)
        self._permissions = later
        engine.replace_permissions(earlier, later)


def _read(file: Path, default: Effect, disconnects: bool) -> Permissions:
    try:
        return Permissions(read_rules(file), default=default, disconnects=disconnects)
    except InvalidRule as error:  # of all rules together
        raise RulesFileError(f"{file}: {error}") from None
