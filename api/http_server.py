"""The HTTP server: hypercorn in the process of the broker, kept from harming it.

    nursery of open_http_server
    |                   |
    the caller's block  _supervise: serves, and serves again with back-off when serving failed
                          |-- lifespan of the application
                          |-- accepting
                          `-- one guarded task per connection

Two things keep HTTP from harming MQTT. One guard around every connection: whatever escapes from it is logged and
counted, that stream is closed, and nobody else notices. And the supervisor: an error of the HTTP side as a whole never
leaves it, so it never meets the cancel scope of the broker.
"""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app

from rookery.server.config_listeners import ApiSection
from rookery.server.log import get_logger
from rookery.server.nurseries import only_error
from rookery.server.tls.contexts import TlsContexts
from rookery.server.tls.stream import HandshakeFailed

from .http_connection import HttpConnection
from .http_tls import secure

STOP_GRACE_S = 1.0  # for requests in work at stop; a part of the 5 s that the process has
BACK_OFF_FIRST_S = 0.1
BACK_OFF_LAST_S = 30.0
KEEP_ALIVE_REQUESTS = 1_000_000  # per connection; hypercorn's 1000 only costs clients a reconnect

_log = get_logger(__name__)


class HttpServer:
    """Serves an ASGI application on a listening socket that stays the caller's."""

    def __init__(
        self, app: ASGIFramework, section: ApiSection, listener: socket.socket, tls: TlsContexts | None = None
    ) -> None:
        self._app = wrap_app(app, wsgi_max_body_size=0, mode="asgi")
        self._config = _configure(section)
        self._connections_limit = section.connections_limit
        self._handshake_timeout_s = section.request_timeout_s
        self._listener = listener
        self._tls = tls
        self._stop_requested = trio.Event()
        self._connections: set[HttpConnection] = set()
        self.connection_count = 0  # open ones, those within their TLS handshake among them
        self.refused_count = 0  # connections above the limit
        self.failed_handshake_count = 0
        self.failed_count = 0  # connections that ended by an error of ours or of a library
        self.restart_count = 0

    def stop(self) -> None:
        """Accept no more, let requests in work finish for STOP_GRACE_S, end."""
        self._stop_requested.set()

    async def supervise(self) -> None:
        """Serve until stop. Raises nothing; a failure is logged and serving begins anew, later each time."""
        back_off_s = BACK_OFF_FIRST_S
        while not self._stop_requested.is_set():
            began_at = trio.current_time()
            try:
                await self._serve()
            except* Exception:
                self.restart_count += 1
                _log.exception("http_server_failed", restart_in_s=back_off_s)
            else:
                return
            if trio.current_time() - began_at > BACK_OFF_LAST_S:
                back_off_s = BACK_OFF_FIRST_S
            with trio.move_on_after(back_off_s):
                await self._stop_requested.wait()
            back_off_s = min(2 * back_off_s, BACK_OFF_LAST_S)

    async def _serve(self) -> None:
        context = WorkerContext(None)
        lifespan = Lifespan(self._app, self._config, {})
        async with trio.open_nursery() as background:
            await background.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    # A copy, because accepting closes what it accepts from, and may have to begin anew.
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener.dup()))
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners,
                            partial(self._serve_connection, context),
                            [listener],
                            handler_nursery=connections,
                        )
                    )
                    await self._stop_requested.wait()
                    accepting.cancel_scope.cancel()
                # Idle connections see this and end; requests in work get the grace.
                await context.terminated.set()
                connections.cancel_scope.deadline = trio.current_time() + STOP_GRACE_S
                background.start_soon(self._cut_off)
            await lifespan.wait_for_shutdown()
            background.cancel_scope.cancel()

    async def _cut_off(self) -> None:
        """Answers that are being written are shielded; a client that does not read them must not hold up a stop."""
        await trio.sleep(STOP_GRACE_S)
        for connection in self._connections:
            connection.cut_off()

    async def _serve_connection(self, context: WorkerContext, stream: trio.SocketStream) -> None:
        """The one guard around a connection."""
        if self.connection_count >= self._connections_limit:
            self.refused_count += 1
            await trio.aclose_forcefully(stream)
            return
        self.connection_count += 1
        try:
            with trio.CancelScope() as scope:
                try:
                    await self._run_connection(context, stream)
                except trio.Cancelled:
                    # A cancellation that a library let out of its scope would cancel every other connection.
                    scope.cancel()
                    raise
        except* HandshakeFailed as failures:
            self.failed_handshake_count += 1
            _log.info("http_handshake_failed", reason=str(failures.exceptions[0]))
        except* Exception:
            self.failed_count += 1
            _log.exception("http_connection_failed")
        finally:
            self.connection_count -= 1
            await trio.aclose_forcefully(stream)

    async def _run_connection(self, context: WorkerContext, stream: trio.SocketStream) -> None:
        secured = stream if self._tls is None else await secure(stream, self._tls, self._handshake_timeout_s)
        connection = HttpConnection(self._app, self._config, context, secured)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.remove(connection)


@asynccontextmanager
async def open_http_server(
    app: ASGIFramework, section: ApiSection, listener: socket.socket, tls: TlsContexts | None = None
) -> AsyncIterator[HttpServer]:
    """Serve app on listener while the block runs; at its end requests in work finish, cancelled they do not.

    tls: HTTP is spoken over TLS, and over nothing else.
    """
    server = HttpServer(app, section, listener, tls)
    extensions = getattr(app, "extensions", None)
    if extensions is not None:
        extensions["http_server"] = server  # whose figures `GET /metrics` tells
    with only_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.supervise)
            yield server
            server.stop()


def _configure(section: ApiSection) -> HypercornConfig:
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # ours to format
    config.h11_max_incomplete_size = section.header_limit_bytes
    config.include_server_header = False
    config.keep_alive_max_requests = KEEP_ALIVE_REQUESTS
    config.keep_alive_timeout = section.keep_alive_timeout_s
    return config
