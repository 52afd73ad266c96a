"""Who may do what: where the rules of a client come from when its authenticator did not give them."""

from pathlib import Path
from typing import TYPE_CHECKING

from rookery.core.permissions.rule import Effect

from .rules_file import RulesFileError
from .source import PermissionSource, RulePermissions
from .stored import PersistentRules

if TYPE_CHECKING:
    from rookery.server.config import PermissionsSection
    from rookery.server.store import Rules

__all__ = [
    "PermissionSource",
    "PersistentRules",
    "RulePermissions",
    "RulesFileError",
    "check_permissions",
    "open_permissions",
]


async def open_permissions(section: "PermissionsSection", rules: "Rules") -> RulePermissions | None:
    """The rules that the configuration names; None when it names none. Raises RulesFileError, StoreError."""
    if not section.file and not section.database:
        return None
    stored = [stored.rule for stored in await rules.all()] if section.database else []
    return RulePermissions.open(
        Path(section.file) if section.file else None,
        stored,
        default=Effect(section.default),
        disconnects=section.denied_publish == "disconnect",
    )


def check_permissions(section: "PermissionsSection") -> None:
    """Raise RulesFileError when the file that the configuration names cannot be used."""
    if section.file:
        RulePermissions.open(Path(section.file), default=Effect.DENY, disconnects=False)
