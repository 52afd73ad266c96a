"""An HTTP server of a test: answers what the test says, and keeps what it was asked."""

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
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def serve_documents(answer: Callable[[Asked], Answer]) -> Iterator[DocumentServer]:
    """A server on a free port of the loopback address, in threads of its own."""
    documents = DocumentServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the name that http.server calls
            documents.handle(self)

        def do_POST(self) -> None:
            documents.handle(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Tests are silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        documents.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield documents
        finally:
            server.shutdown()
            thread.join()
