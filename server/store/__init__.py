"""The admin database: users, rules, tenant settings, API keys, bans and the audit log, in one SQLite file.

    Store -- users, rules, settings, api_keys, bans, audit     one class per table, typed records in and out
      `-- Database                                             one file, two connections, each with a thread of its own

What is kept here is rare and small; sessions and messages are elsewhere. The tables only keep: what is in force is said
by those who read them (server/auth, server/permissions, server/tenant_settings).
"""

from .api_keys import ApiKey, ApiKeys
from .audit import Audit, AuditEntry
from .bans import Ban, BanKind, Bans
from .database import Database, StoreCorrupt, StoreError, StoreLocked, StoreUnavailable
from .rules import Rules, StoredRule
from .settings import StoredSettings
from .store import Store, check_store, open_store
from .users import User, Users

__all__ = [
    "ApiKey",
    "ApiKeys",
    "Audit",
    "AuditEntry",
    "Ban",
    "BanKind",
    "Bans",
    "Database",
    "Rules",
    "Store",
    "StoreCorrupt",
    "StoreError",
    "StoreLocked",
    "StoreUnavailable",
    "StoredRule",
    "StoredSettings",
    "User",
    "Users",
    "check_store",
    "open_store",
]
