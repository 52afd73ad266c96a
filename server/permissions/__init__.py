"""Who may do what: where the rules of a client come from when its authenticator did not give them."""

from pathlib import Path

from rookery.core.permissions.rule import Effect
from rookery.server.config import PermissionsSection

from .rules_file import RulesFileError
from .source import FilePermissions, PermissionSource

__all__ = ["FilePermissions", "PermissionSource", "RulesFileError", "open_permissions"]


def open_permissions(section: PermissionsSection) -> FilePermissions | None:
    """The rules that the configuration names; None when it names none. Raises RulesFileError."""
    if not section.file:
        return None
    return FilePermissions.open(
        Path(section.file), default=Effect(section.default), disconnects=section.denied_publish == "disconnect"
    )
