"""An HTTP server of a test: answers what the test says, and keeps what it was asked."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes]  # status and body


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class DocumentServer:
    """Where it is, and what it was asked so far."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.url = ""

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("content-length", "0"))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(handler.command, handler.path, headers, handler.rfile.read(size))
        self.asked.append(asked)
        status, body = self.answer(asked)
        with contextlib.suppress(OSError):  # Who asked may have heard enough.
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)


@contextmanager
def serve_documents(
    answer: Callable[[Asked], Answer], context: ssl.SSLContext | None = None
) -> Iterator[DocumentServer]:
    """A server on a free port of the loopback address, in threads of its own; with a context over TLS."""
    documents = DocumentServer(answer)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Who asked has gone."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the name that http.server calls
            documents.handle(self)

        def do_POST(self) -> None:
            documents.handle(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Tests are silent."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        documents.url = f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield documents
        finally:
            server.shutdown()
            thread.join()
