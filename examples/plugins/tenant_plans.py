"""A plugin that gives each tenant the limits of the plan it pays for, and sends those of another region there.

    [plugins.plans]
    use = "tenant_plans:TenantPlans"
    options = { file = "/etc/rookery/plans.toml", region = "eu" }

The file is read again whenever it has changed:

    [plans.free]
    MaxTopicFiltersPerInbox = 10
    MsgPubPerSec = 20

    [tenants.acme]
    plan = "free"
    region = "us"

    [regions.us]
    server = "us.mqtt.example.org:1883"
"""

import tomllib
from pathlib import Path
from typing import Any

import trio

from rookery.server.plugins import Client, Redirect, SettingValues


class TenantPlans:
    """A SettingProvider and a ClientBalancer over one file."""

    def __init__(self, file: str, region: str) -> None:
        self._path = Path(file)
        self._region = region
        self._changed_at_ns = -1
        self._content: dict[str, Any] = {}
        self._read()  # A file that is not there, or is no TOML, keeps the broker from starting.

    async def provide_settings(self, tenant_id: str) -> SettingValues | None:
        """See SettingProvider."""
        await trio.to_thread.run_sync(self._read)
        plan = self._tenant(tenant_id).get("plan")
        values: SettingValues | None = self._content.get("plans", {}).get(plan)
        return values

    async def balance(self, client: Client) -> Redirect | None:
        """See ClientBalancer."""
        region = self._tenant(client.tenant_id).get("region", self._region)
        if region == self._region:
            return None
        return Redirect(self._content["regions"][region]["server"], is_permanent=True)

    def _tenant(self, tenant_id: str) -> dict[str, str]:
        tenant: dict[str, str] = self._content.get("tenants", {}).get(tenant_id, {})
        return tenant

    def _read(self) -> None:
        changed_at_ns = self._path.stat().st_mtime_ns
        if changed_at_ns != self._changed_at_ns:
            self._content = tomllib.loads(self._path.read_text(encoding="utf-8"))
            self._changed_at_ns = changed_at_ns
