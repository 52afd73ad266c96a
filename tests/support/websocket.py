"""MQTT in WebSocket frames, from the client's side: a BytePipe for support.mqtt_client."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from rookery.server.address import Address

from .mqtt_client import DEADLINE_S, Client
from .packets import MQTT_5_0
from .tls import open_tls


class WebSocketPipe:
    """One WebSocket; all bytes that are sent at once are one binary frame."""

    def __init__(self, stream: trio.abc.Stream, protocol: ClientProtocol) -> None:
        self.stream = stream
        self.protocol = protocol
        self.opcodes: list[Opcode] = []  # of the frames that came
        self.pongs: list[bytes] = []

    async def send_all(self, data: bytes) -> None:
        self.protocol.send_binary(data)
        await self.flush()

    async def flush(self) -> None:
        """Send what the protocol has to say."""
        for data in self.protocol.data_to_send():
            if data:
                await self.stream.send_all(data)

    async def receive_some(self) -> bytes:
        while True:
            data = await self.stream.receive_some()
            if data:
                self.protocol.receive_data(data)
            payload = b""
            for event in self.protocol.events_received():
                assert isinstance(event, Frame)
                self.opcodes.append(event.opcode)
                if event.opcode is Opcode.PONG:
                    self.pongs.append(bytes(event.data))
                elif event.opcode in (Opcode.BINARY, Opcode.CONT):
                    payload += event.data
            if payload or not data:
                return payload
            if self.protocol.close_rcvd is not None:
                return b""


@asynccontextmanager
async def open_websocket(
    address: Address,
    path: str = "/mqtt",
    *,
    subprotocols: tuple[str, ...] = ("mqtt",),
    origin: str | None = None,
    behind_request: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[WebSocketPipe, Response]]:
    """A WebSocket whose upgrade was answered, and the answer. behind_request is sent together with the request."""
    protocol = ClientProtocol(
        parse_uri(f"ws://{address}{path}"),
        subprotocols=[Subprotocol(name) for name in subprotocols],
        origin=None if origin is None else Origin(origin),
    )
    async with AsyncExitStack() as stack:
        stream: trio.abc.Stream
        if tls is not None:
            stream = await stack.enter_async_context(open_tls(address, tls))
        else:
            with trio.fail_after(DEADLINE_S):
                stream = await stack.enter_async_context(await trio.open_tcp_stream(address.host, address.port))
        protocol.send_request(protocol.connect())
        await stream.send_all(b"".join(protocol.data_to_send()) + behind_request)
        events: Sequence[object] = ()
        with trio.fail_after(DEADLINE_S):
            while not events:
                data = await stream.receive_some()
                protocol.receive_data(data) if data else protocol.receive_eof()
                events = protocol.events_received()
        (response,) = events
        assert isinstance(response, Response)
        yield WebSocketPipe(stream, protocol), response


@asynccontextmanager
async def connect(
    address: Address, *, version: int = MQTT_5_0, tls: ssl.SSLContext | None = None, **fields: object
) -> AsyncIterator[Client]:
    """A client that is connected over a WebSocket; fields are those of CONNECT."""
    async with open_websocket(address, tls=tls) as (pipe, _):
        client = Client(pipe, version)
        connack = await client.connect(**fields)
        assert connack.reason_code == 0
        yield client
