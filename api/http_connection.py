"""One HTTP connection: hypercorn's HTTP/1.1, narrowed to what this API speaks and bounded in every direction.

What differs from hypercorn's own TCPServer, and why:

- HTTP/1.0 and 1.1 only. Upgrades to HTTP/2 in clear text are ignored, those to WebSocket refused: in hypercorn 0.18 a
  WebSocket frame in the same segment as the upgrade request raises out of the connection and ends the process.
- A request with both Transfer-Encoding and Content-Length is refused: a proxy in front may believe the other one.
- The end of a connection stays inside it: hypercorn's task group lets the cancellation of one connection out, which
  then cancels all the others.
- Errors of the parser have a text and a req_id like all others.
- A client that does not read its answer is closed after WRITE_TIMEOUT_S; hypercorn waits for ever, even at stop.
- A client that ends its sending side still gets its answer.
- A connection that we close is read on for LINGER_S: closing with unread bytes makes the kernel send a reset, and a
  client that is still sending its too large body would never see the 413. Such an answer says so (Connection: close);
  without, a client that keeps its connections sends the next request into the closing one.

These are private parts of hypercorn: pyproject.toml pins its minor version, tests/api/test_http_server.py tries each.
"""

from contextlib import suppress

import h11
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from .answers import TEXT, RequestRefused, describe_status
from .http_tls import HttpTlsStream
from .parameters import make_request_id

CERTIFICATE_NAME = "certificate_name"  # in the state of a request: common name of the client's certificate, or None
READ_SIZE = 65536  # bytes
WRITE_TIMEOUT_S = 5.0
LINGER_S = 1.0
HTTP_VERSIONS = (b"1.0", b"1.1")
BODY_HEADERS = {b"content-length", b"transfer-encoding"}
TARGETS = (b"/", b"http://", b"https://")  # The others are for proxies and for no resource in particular.


class Http11(H11Protocol):
    """hypercorn's HTTP/1.1 without its ways out of it."""

    _has_body = False  # of the request in work

    async def handle(self, event: Event) -> None:
        """Feed what came from the socket. Refuses by an answer and the end of the connection."""
        try:
            await super().handle(event)
        except RequestRefused as refusal:
            await self._answer(refusal.status, str(refusal))
            await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """What a request's task answers."""
        if isinstance(event, Response) and self._has_body and self.connection.their_state is h11.SEND_BODY:
            # An answer to what has not come whole ends the connection: a caller who keeps connections must know.
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Called by hypercorn for each request, where it would switch protocols."""
        if event.http_version not in HTTP_VERSIONS:
            raise RequestRefused(505)
        if not event.target.startswith(TARGETS):
            raise RequestRefused(400, "expected a path that begins with /")
        names = {name for name, _ in event.headers}
        self._has_body = (b"content-length", b"0") not in event.headers and bool(names & BODY_HEADERS)
        if {b"transfer-encoding", b"content-length"} <= names:
            raise RequestRefused(400, "expected either Transfer-Encoding or Content-Length, got both")
        if any(name == b"upgrade" and value.strip().lower() == b"websocket" for name, value in event.headers):
            raise RequestRefused(400, "there is no WebSocket here")

    async def _send_error_response(self, status_code: int) -> None:
        """Called by hypercorn for what the parser does not take."""
        await self._answer(status_code, describe_status(status_code))

    async def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        headers = [
            (b"content-type", TEXT.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"req_id", str(make_request_id()).encode()),
            *self.config.response_headers("h11"),
        ]
        answer = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        # In one piece: the task of the request may be writing its own answer, which then comes to nothing.
        data = bytearray()
        with suppress(h11.LocalProtocolError):  # The answer to HEAD has no body.
            for event in answer:
                data += self.connection.send(event) or b""
        await self.send(RawData(data=bytes(data)))


class HttpConnection(TCPServer):
    """Serves one stream until either side ends it. Owns the stream; what escapes run is for the guard around it."""

    def __init__(
        self,
        app: AppWrapper,
        config: HypercornConfig,
        context: WorkerContext,
        stream: trio.SocketStream | HttpTlsStream,
    ) -> None:
        self._is_tls = isinstance(stream, HttpTlsStream)
        name = stream.certificate_name if isinstance(stream, HttpTlsStream) else None
        # The application finds it in scope["state"].
        state = ConnectionState({CERTIFICATE_NAME: name})
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]  # It names trio's classes.
        self._http: Http11
        self._tasks = TaskGroup()  # not entered: see above
        self._nursery: trio.Nursery
        self._is_closing = False
        self._idle = trio.Event()  # no request is in work
        self._idle.set()

    async def run(self) -> None:
        """Serve. Cancelling closes the stream at once."""
        try:
            client = parse_socket_addr(self.stream.socket.family, self.stream.socket.getpeername())
            server = parse_socket_addr(self.stream.socket.family, self.stream.socket.getsockname())
            async with trio.open_nursery() as self._nursery:
                self._tasks._nursery = self._nursery
                self._http = self.protocol = Http11(  # type: ignore[assignment]
                    self.app,
                    self.config,
                    self.context,
                    self._tasks,
                    ConnectionState(self.state),
                    self._is_tls,
                    client,
                    server,
                    self.protocol_send,
                )
                await self.idle_task.restart(self._tasks, self._idle_timeout)
                await self._read_data()
                await self._http.handle(Closed())
                self._limit_life(LINGER_S)
        except OSError:
            pass  # The client is gone.
        finally:
            await trio.aclose_forcefully(self.stream)

    def cut_off(self) -> None:
        """End the connection now, also what is shielded from cancellation."""
        self.stream.socket.close()

    async def protocol_send(self, event: Event) -> None:
        """What the protocol wants done with the socket.

        Shielded: the framework cancels the task of a request as soon as its answer is complete, which is the task that
        calls this. Without a shield the idle time-out is never armed and the connection never closed.
        """
        with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_S) as scope:
            if isinstance(event, RawData):
                await self._write(event.data)
            elif isinstance(event, Closed):
                await self._close()
                await self._http.handle(Closed())
            elif isinstance(event, Updated):
                if event.idle:
                    self._idle.set()
                    await self.idle_task.restart(self._tasks, self._idle_timeout)
                else:
                    self._idle = trio.Event()
                    await self.idle_task.stop()
        if scope.cancelled_caught:
            self._abort()

    async def _write(self, data: bytes) -> None:
        async with self.send_lock:
            try:
                await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._http.handle(Closed())

    async def _read_data(self) -> None:
        while True:
            try:
                data = await self.stream.receive_some(READ_SIZE)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return
            if self._is_closing:
                if not data:
                    return
                continue
            await self._http.handle(RawData(bytes(data)))
            if not data:
                await self._idle.wait()
                return

    async def _close(self) -> None:
        """End our side; the reading task goes on until the client ends its own, for LINGER_S at most."""
        if self._is_closing:
            return
        self._is_closing = True
        self._idle.set()
        self._limit_life(LINGER_S)
        try:
            await self.stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            self._abort()

    def _abort(self) -> None:
        """End everything that runs for this connection; run closes the stream then."""
        self._limit_life(0)

    def _limit_life(self, seconds: float) -> None:
        """End all tasks so many seconds from now, or at the time that they have been given before."""
        scope = self._nursery.cancel_scope
        scope.deadline = min(scope.deadline, trio.current_time() + seconds)
