"""The contract between admission and whoever knows the rules of a client, and the source for everybody."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trio

from rookery.core.engine import Engine
from rookery.core.permissions.rule import Effect, InvalidRule, Rule
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


class RulePermissions:
    """One set of rules for everybody: those of a file, then those of the admin database. Made by open.

    Both may change while the broker runs; then all are compiled again, in a thread: some 20 us per rule.
    """

    def __init__(
        self, file: Path | None, file_rules: Sequence[Rule], stored_rules: Sequence[Rule], permissions: Permissions
    ) -> None:
        self._file = file
        self._file_rules = file_rules
        self._stored_rules = stored_rules
        self._permissions = permissions
        self._engine: Engine | None = None
        self._changing = trio.Lock()  # One set replaces another: each has one successor.

    @classmethod
    def open(
        cls, file: Path | None, stored_rules: Sequence[Rule] = (), *, default: Effect, disconnects: bool
    ) -> "RulePermissions":
        """Reads the file, if there is one; raises RulesFileError."""
        file_rules = [] if file is None else read_rules(file)
        try:
            permissions = Permissions([*file_rules, *stored_rules], default=default, disconnects=disconnects)
        except InvalidRule as error:  # of all rules together
            raise RulesFileError(f"{file or 'rules'}: {error}") from None
        return cls(file, file_rules, stored_rules, permissions)

    def attach(self, engine: Engine) -> None:
        """Where clients are, whose rules are to be replaced."""
        self._engine = engine

    def permissions_of(self, tenant_id: str, user_id: str, client_id: str) -> Permissions:
        """The same for all: the rules themselves say whom they are for."""
        return self._permissions

    @property
    def rule_count(self) -> int:
        return len(self._permissions)

    @property
    def in_force(self) -> Permissions:
        """The rules of everybody whose authenticator gave none."""
        return self._permissions

    def find(self, identity: int, place: int) -> tuple[str, Rule] | None:
        """Where a rule is from, `file` or `database`, and the rule, by Verdicts of a session.

        None: the session has rules of its own, or those of everybody have changed this moment.
        """
        permissions = self._permissions
        if identity != permissions.identity or place >= len(permissions):
            return None
        return "file" if place < len(self._file_rules) else "database", permissions.rules[place]

    async def reload(self) -> dict[str, object]:
        """Read the file again and put it in force, also for clients that are connected.

        Raises RulesFileError; the rules that were read before stay in force then.
        """
        if self._file is not None:
            file = self._file
            async with self._changing:
                file_rules = await trio.to_thread.run_sync(read_rules, file)
                try:
                    await self._replace(file_rules, self._stored_rules)
                except InvalidRule as error:
                    raise RulesFileError(f"{file}: {error}") from None
        return {"rules": self.rule_count}

    async def replace_stored(self, rules: Sequence[Rule]) -> None:
        """Put these in force in place of those of the database. Raises InvalidRule, and nothing has changed."""
        async with self._changing:
            await self._replace(self._file_rules, rules)

    async def _replace(self, file_rules: Sequence[Rule], stored_rules: Sequence[Rule]) -> None:
        earlier = self._permissions
        later = await trio.to_thread.run_sync(
            lambda: Permissions([*file_rules, *stored_rules], default=earlier.default, disconnects=earlier.disconnects)
        )
        self._file_rules, self._stored_rules, self._permissions = file_rules, stored_rules, later
        if self._engine is not None:
            self._engine.replace_permissions(earlier, later)
