"""What the HTTP API carries: requests per second beside a trivial endpoint, messages in batches, pages of a large list.

    python -m rookery.bench.http_load

The broker has one CPU and the generator the other. Requests are made before they are timed; a connection sends the next
one when it has its answer. `POST /pub` alternates with `GET /healthz`, which does nothing, so that the ratio does not
depend on the machine. Answers are checked.
"""

import json
import os
import resource
import socket
import statistics
import struct
import time
from collections.abc import Callable

import click

from .brokers import Broker, on_cpus, rookery

CONNECTIONS = 16
ROUNDS = 3
BATCH = 10_000

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
PUBLISH = (
    b"POST /pub HTTP/1.1\r\nhost: x\r\ntenant_id: acme\r\ntopic: a/b\r\nqos: 0\r\nclient_type: bench\r\n"
    b"content-length: 5\r\n\r\nhello"
)


def free_port() -> int:
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def request_of(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """A request on a connection that is kept."""
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> bytes:
        """The body of one answer. Raises RuntimeError unless it is a 200."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"expected 200, got {head[:100]!r} {body[:200]!r}")
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += self._socket.recv(1 << 20)
        return body

    def ask(self, request: bytes) -> bytes:
        self.send(request)
        return self.receive()

    def close(self) -> None:
        self._socket.close()


def requests_per_second(port: int, request: bytes, seconds: float) -> float:
    """Answers a second over CONNECTIONS connections, each with one request under way."""
    connections = [Connection(port) for _ in range(CONNECTIONS)]
    count = 0
    began = time.perf_counter()
    for connection in connections:
        connection.send(request)
    while time.perf_counter() - began < seconds:
        for connection in connections:
            connection.receive()
            connection.send(request)
        count += len(connections)
    took = time.perf_counter() - began
    for connection in connections:
        connection.receive()
        connection.close()
    return count / took


def messages_per_second(port: int) -> float:
    """Messages a second in batches of BATCH: the median of ROUNDS."""
    lines = b"".join(b'{"topic":"a/%d","payload":"hello","qos":0}\n' % (number % 100) for number in range(BATCH))
    request = request_of("POST", "/v1/tenants/acme/publish/batch", lines, "application/x-ndjson")
    connection = Connection(port)
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answer = json.loads(connection.ask(request))
        rates.append(BATCH / (time.perf_counter() - began))
        assert answer["messages"] == BATCH
    connection.close()
    return statistics.median(rates)


def connect_packet(client_id: bytes) -> bytes:
    """CONNECT of 3.1.1 as user `u` of tenant `acme`, with a session that stays."""
    body = b"\0\4MQTT\4\x80\0\0" + b"".join(struct.pack(">H", len(text)) + text for text in (client_id, b"acme/u"))
    return b"\x10" + bytes((len(body),)) + body


def make_sessions(broker: Broker, count: int) -> None:
    """Sessions that are offline, 200 clients at a time."""
    for first in range(0, count, 200):
        clients = []
        for number in range(first, min(first + 200, count)):
            client = socket.create_connection((broker.host, broker.port))
            client.sendall(connect_packet(b"c%d" % number))
            clients.append(client)
        for client in clients:
            assert client.recv(4) == b"\x20\x02\x00\x00"
            client.sendall(b"\xe0\x00")
            client.close()


def page_times_ms(port: int, sessions: int) -> list[float]:
    """Until the answer is there, of every page of 1000 of the whole list, which must have all sessions."""
    connection = Connection(port)
    times, found, cursor = [], set(), ""
    while True:
        began = time.perf_counter()
        answer = connection.ask(request_of("GET", f"/v1/tenants/acme/sessions?limit=1000&cursor={cursor}"))
        times.append((time.perf_counter() - began) * 1000)
        page = json.loads(answer)
        found |= {each["client_id"] for each in page["items"]}
        cursor = page["next"]
        if cursor is None:
            break
    connection.close()
    assert len(found) == sessions, f"{len(found)} sessions were listed, there are {sessions}"
    return times


@click.command()
@click.option("--seconds", type=click.FloatRange(0.05), default=3.0, show_default=True, help="Of each round.")
@click.option("--sessions", type=click.IntRange(1), default=100_000, show_default=True, help="In the list.")
def main(seconds: float, sessions: int) -> None:
    """Measure the HTTP API."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cpus = sorted(os.sched_getaffinity(0))
    port = free_port()
    with rookery(cpus[-1:], ("--api", f"127.0.0.1:{port}")) as broker, on_cpus(cpus[:1]):
        rates: dict[str, list[float]] = {"GET /healthz": [], "POST /pub": []}
        measure: Callable[[bytes], float] = lambda request: requests_per_second(port, request, seconds)  # noqa: E731
        for _ in range(ROUNDS):
            rates["GET /healthz"].append(measure(HEALTH))
            rates["POST /pub"].append(measure(PUBLISH))
        ratio = statistics.median(
            publish / health for health, publish in zip(rates["GET /healthz"], rates["POST /pub"], strict=True)
        )
        for name, found in rates.items():
            click.echo(f"{name}: {statistics.median(found):.0f} requests/s")
        click.echo(f"POST /pub to GET /healthz: {ratio:.2f}")
        click.echo(f"batches of {BATCH}: {messages_per_second(port):.0f} messages/s")
        make_sessions(broker, sessions)
        times = page_times_ms(port, sessions)
        median, longest = statistics.median(times), max(times)
        click.echo(f"pages of 1000 of {sessions} sessions: median {median:.1f} ms, longest {longest:.1f} ms")


if __name__ == "__main__":
    main()
