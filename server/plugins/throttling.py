"""Resources that plugins say a tenant has no more of: asked from time to time, never while a client waits."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

import trio

from rookery.core.errors import EngineBusy
from rookery.core.events import ConnectRequested
from rookery.core.quotas import RESOURCES, ResourceState
from rookery.server.auth.authenticator import Admitted, Decision
from rookery.server.log import get_logger

from .host import PluginHost

TENANTS_KNOWN = 100_000  # asked about; beyond, the one that was longest without a new client is forgotten, and opened

_log = get_logger(__name__)


class Throttling:
    """Brings what the resource throttlers of a host say to the shards.

    look: Engine.resources. throttle: Engine.throttle.
    """

    def __init__(
        self,
        host: PluginHost,
        look: Callable[[str], tuple[ResourceState, ...]],
        throttle: Callable[[str, Iterable[str]], None],
    ) -> None:
        self._host = host
        self._look = look
        self._throttle = throttle
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()  # tenant -> resources that are closed

    async def admit(self, request: ConnectRequested, admitted: Admitted) -> Decision:
        """Remember the tenant. A doorkeeper of admission that lets everybody in and asks nobody."""
        tenant_id = admitted.tenant_id
        if tenant_id in self._known:
            self._known.move_to_end(tenant_id)
            return admitted
        self._known[tenant_id] = frozenset()
        if len(self._known) > TENANTS_KNOWN:
            forgotten, closed = self._known.popitem(last=False)
            if closed:
                self._put(forgotten, frozenset())
        return admitted

    async def refresh(self, every_s: float) -> None:
        """Ask about all known tenants again and again, one after the other, spread over the time."""
        while True:
            tenants = tuple(self._known)
            if not tenants:
                await trio.sleep(every_s)
            for tenant_id in tenants:
                await trio.sleep(every_s / len(tenants))
                if tenant_id in self._known:
                    await self._ask(tenant_id)

    async def _ask(self, tenant_id: str) -> None:
        names = await self._host.throttled_resources(tenant_id, self._look(tenant_id))
        if names is None:
            return  # A throttler failed, which its guard has logged; its last answer stays in force.
        unknown = sorted(names - set(RESOURCES))
        if unknown:
            _log.warning("throttled_resources_unknown", tenant=tenant_id, names=unknown)
        closed = frozenset(names & set(RESOURCES))
        if tenant_id in self._known and closed != self._known[tenant_id] and self._put(tenant_id, closed):
            self._known[tenant_id] = closed

    def _put(self, tenant_id: str, closed: frozenset[str]) -> bool:
        try:
            self._throttle(tenant_id, closed)
        except EngineBusy:
            _log.warning("throttled_resources_late", tenant=tenant_id)  # They are asked for again.
            return False
        return True
