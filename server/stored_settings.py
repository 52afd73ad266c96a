"""Settings of tenants that administrators change: kept in the admin database, and at once in force."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import trio

from rookery.core.settings import SettingError, TenantSettings

from .log import get_logger
from .store import StoredSettings
from .store.users import check_name
from .tenant_settings import Layer, SettingValues, TenantSettingsBook

TENANTS_LIMIT = 100_000  # that have settings here

# Does it as soon as the queues of the shards have room.
Insist = Callable[[Callable[[], object]], Awaitable[None]]

_log = get_logger(__name__)


class TenantLimitReached(Exception):
    """So many tenants have settings here that no other may."""


class PersistentSettings:
    """The layer of the database in a book. What holds for a tenant also depends on the layers above and below."""

    def __init__(self, book: TenantSettingsBook, table: StoredSettings, insist: Insist) -> None:
        self._book = book
        self._table = table
        self._insist = insist
        self._tenants: set[str] = set()
        self._changing = trio.Lock()  # What is kept and what is in force must come in the same order.

    async def load(self) -> None:
        """Put in force what was kept before. Raises StoreError.

        Values that became wrong, because the layer below them changed, are logged and passed over: what the
        configuration says holds for their tenant.
        """
        async with self._changing:
            for tenant_id, values in (await self._table.all()).items():
                self._tenants.add(tenant_id)
                try:
                    await self._put_in_force(tenant_id, values)
                except SettingError as error:
                    _log.error("stored_settings_refused", tenant=tenant_id, reason=str(error))

    async def reload(self) -> None:
        """Put in force what is kept, where somebody else has changed it. As load; tenants that went lose theirs."""
        async with self._changing:
            kept = await self._table.all()
            for tenant_id in self._tenants - set(kept):
                with suppress(SettingError):  # What a plugin says holds, and was right before.
                    await self._put_in_force(tenant_id, {})
            self._tenants.clear()
        await self.load()

    def values(self, tenant_id: str) -> dict[str, bool | int | str]:
        """What was set of a tenant, by BifroMQ's names; not what holds for it, which the book knows."""
        return self._book.values(tenant_id, Layer.DATABASE)

    async def put(self, tenant_id: str, values: SettingValues) -> TenantSettings:
        """Set these values of a tenant, and no others; what holds for it from now on, also for open connections.

        Raises SettingError for an unknown name or a value out of range, ValueError for a name that no tenant can have,
        TenantLimitReached, and StoreError; all is as before then.
        """
        async with self._changing:
            return await self._put(tenant_id, values)

    async def change(self, tenant_id: str, changes: Mapping[str, bool | int | str | None]) -> TenantSettings:
        """As put, for these values; others stay. None takes a value away."""
        async with self._changing:
            values: dict[str, bool | int | str | None] = {**self.values(tenant_id), **changes}
            return await self._put(tenant_id, {name: value for name, value in values.items() if value is not None})

    async def _put(self, tenant_id: str, values: SettingValues) -> TenantSettings:
        check_name("tenant_id", tenant_id)
        if values and tenant_id not in self._tenants and len(self._tenants) >= TENANTS_LIMIT:
            raise TenantLimitReached(f"{len(self._tenants)} tenants have settings here, the limit is {TENANTS_LIMIT}")
        before = self.values(tenant_id)
        self._book.check(tenant_id, Layer.DATABASE, values)
        await self._table.put(tenant_id, values)
        try:
            with trio.CancelScope(shield=True):  # What is kept has to be in force, too.
                await self._put_in_force(tenant_id, values)
        except SettingError:  # A plugin has said something else meanwhile.
            await self._table.put(tenant_id, before)
            raise
        if values:
            self._tenants.add(tenant_id)
        else:
            self._tenants.discard(tenant_id)
        return self._book.of(tenant_id)

    async def _put_in_force(self, tenant_id: str, values: SettingValues) -> None:
        await self._insist(lambda: self._book.put(tenant_id, Layer.DATABASE, values))
