"""A plugin that posts connects and disconnects to a web service, in batches, as JSON.

    [plugins.webhook]
    use = "event_webhook:EventWebhook"
    options = { url = "https://example.org/mqtt-events" }

The module must be where Python finds it: installed, or in a folder of PYTHONPATH.
"""

from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType

import httpx

from rookery.server.events import ClientConnected, ClientDisconnected, Event

TIMEOUT_S = 3.0  # of one request; below the plugin's timeout_s, so that the error names the service


class EventWebhook:
    """Posts `{"type": "ClientConnected", "tenant_id": ...}`. An event that the service does not take is lost."""

    event_types: Sequence[type[Event]] = (ClientConnected, ClientDisconnected)

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S)

    async def __aenter__(self) -> "EventWebhook":
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def collect(self, event: Event) -> None:
        """See EventCollector."""
        answer = await self._http.post(self._url, json={"type": type(event).__name__, **asdict(event)})
        answer.raise_for_status()
