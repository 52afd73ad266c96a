"""A broker with its HTTP side inside the test's own trio program, and callers of it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import trio
from quart_trio import QuartTrio

from rookery.api.app import create_app
from rookery.api.http_server import HttpServer, open_http_server
from rookery.server.address import Address
from rookery.server.broker import Broker
from rookery.server.listeners import address_of, open_listener
from support import mqtt_client
from support.mqtt_client import Client
from support.own_broker import broker_with


@dataclass(frozen=True)
class Service:
    """A broker that is reached by MQTT and by HTTP."""

    broker: Broker
    app: QuartTrio
    server: HttpServer
    api: Address
    http: httpx.AsyncClient
    context: ssl.SSLContext | None = None  # of a client, where the API speaks TLS

    def connect(self, **fields: Any) -> AbstractAsyncContextManager[Client]:
        """An MQTT client that is connected; fields are those of CONNECT."""
        address = self.broker.mqtt_address
        return mqtt_client.connect((address.host, address.port), **fields)

    async def publish(self, payload: bytes = b"x", **headers: str | bytes | None) -> httpx.Response:
        """POST /pub with what it needs; headers replace or, by None, remove."""
        given: dict[str, str | bytes | None] = {
            "tenant_id": "acme",
            "topic": "a/b",
            "qos": "1",
            "client_type": "test",
            **headers,
        }
        fields = [(name.encode(), encode(value)) for name, value in given.items() if value is not None]
        return await self.http.post("/pub", headers=fields, content=payload)

    async def open_stream(self) -> trio.SocketStream:
        """A bare connection to the HTTP port."""
        return await trio.open_tcp_stream(self.api.host, self.api.port)


def client_of(api: Address, context: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """A caller of the API; context: over TLS."""
    if context is None:
        return httpx.AsyncClient(base_url=f"http://{api}", timeout=10)
    return httpx.AsyncClient(base_url=f"https://{api}", timeout=10, verify=context)


def encode(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


@asynccontextmanager
async def service_with(**sections: Any) -> AsyncIterator[Service]:
    """A broker and its API with these sections of the configuration."""
    async with secure_service_with(None, **sections) as service:
        yield service


@asynccontextmanager
async def secure_service_with(context: ssl.SSLContext | None, **sections: Any) -> AsyncIterator[Service]:
    """The same where the API speaks TLS; context: of its client."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(broker_with(**sections))
        listener = stack.enter_context(open_listener(broker.config.api.bind, 100))
        app = create_app(broker, broker.config.api)
        tls = broker.tls_contexts.get("api")
        server = await stack.enter_async_context(open_http_server(app, broker.config.api, listener, tls))
        api = address_of(listener)
        http = await stack.enter_async_context(client_of(api, context))
        yield Service(broker, app, server, api, http, context)
