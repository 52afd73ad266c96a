"""Settings of tenants that plugins provide: asked for at the first client of a tenant, and again from time to time."""

from collections import OrderedDict

import trio

from rookery.core.errors import EngineBusy
from rookery.core.events import ConnectRequested
from rookery.core.settings import SettingError
from rookery.server.auth.authenticator import Admitted, Decision
from rookery.server.log import get_logger
from rookery.server.tenant_settings import Layer, TenantSettingsBook

from .host import PluginHost

TENANTS_KNOWN = 100_000  # asked about again; beyond, the one that was longest without a new client is forgotten

_log = get_logger(__name__)


class ProvidedSettings:
    """Brings what the setting providers of a host say into the book."""

    def __init__(self, host: PluginHost, book: TenantSettingsBook) -> None:
        self._host = host
        self._book = book
        self._known: OrderedDict[str, None] = OrderedDict()
        self._asking: dict[str, trio.Event] = {}

    async def admit(self, request: ConnectRequested, admitted: Admitted) -> Decision:
        """Let the client in when the settings of its tenant have been asked for. A doorkeeper of admission."""
        tenant_id = admitted.tenant_id
        if tenant_id in self._known:
            self._known.move_to_end(tenant_id)
        elif tenant_id in self._asking:
            await self._asking[tenant_id].wait()
        else:
            self._asking[tenant_id] = trio.Event()
            try:
                await self._ask(tenant_id)
                self._known[tenant_id] = None
                if len(self._known) > TENANTS_KNOWN:
                    self._known.popitem(last=False)
            finally:
                self._asking.pop(tenant_id).set()
        return admitted

    async def refresh(self, every_s: float) -> None:
        """Ask about all known tenants again and again, one after the other, spread over the time."""
        while True:
            tenants = tuple(self._known)
            if not tenants:
                await trio.sleep(every_s)
            for tenant_id in tenants:
                await trio.sleep(every_s / len(tenants))
                await self._ask(tenant_id)

    async def _ask(self, tenant_id: str) -> None:
        values = await self._host.provide_settings(tenant_id)
        if values is None:
            return  # A provider failed, which its guard has logged; what was in force stays.
        try:
            self._book.put(tenant_id, Layer.PLUGIN, values)
        except SettingError as error:
            _log.warning("provided_settings_refused", tenant=tenant_id, reason=str(error))
        except EngineBusy:
            _log.warning("provided_settings_late", tenant=tenant_id)  # They are asked for again.
