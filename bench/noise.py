"""Tenants that are a nuisance: what bench.isolation sets beside a calm one. Each is a process of its own.

    flood      publishers that write as fast as the broker reads, with as many subscribers
    storm      clients that connect and go, at once and all the time
    churn      clients that subscribe and unsubscribe, in packets as large as they get
    retained   clients that have many retained messages brought, and do not want them after all, again and again
    slow       subscribers that never read what a flood of publications brings them

Nobody checks what comes: a tenant at its limits is refused, and goes on.
"""

import errno
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rookery.server import scheduling

CLIENTS = 50  # of flood, churn and slow
STORM_CLIENTS = 200  # that connect at the same time
CHUNK_SIZE = 65536  # bytes that one client writes at a time
_READ_SIZE = 1 << 18
_POLL_S = 0.1


def varint(number: int) -> bytes:
    """A Remaining Length."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _packet(first_byte: int, body: bytes) -> bytes:
    return bytes((first_byte,)) + varint(len(body)) + body


def connect(username: str, client_id: str) -> bytes:
    """CONNECT of 3.1.1 with a clean session and without a password."""
    return _packet(0x10, b"\0\4MQTT\4\x82\0\0" + _text(client_id) + _text(username))


def publish(topic: str, payload: bytes, *, retain: bool = False) -> bytes:
    """PUBLISH with QoS 0."""
    return _packet(0x31 if retain else 0x30, _text(topic) + payload)


def subscribe(topic_filter: str) -> bytes:
    """SUBSCRIBE to one filter with QoS 0."""
    return _packet(0x82, b"\0\1" + _text(topic_filter) + b"\0")


def unsubscribe(topic_filter: str) -> bytes:
    """UNSUBSCRIBE from one filter."""
    return _packet(0xA2, b"\0\1" + _text(topic_filter))


def many(packet: bytes) -> bytes:
    """As many of it as go in a chunk, one at least."""
    return packet * max(1, CHUNK_SIZE // len(packet))


@dataclass
class Talker:
    """A client that says something once, and something else for ever."""

    first: bytes
    always: bytes = b""  # written again and again; empty = it only listens
    reads: bool = True
    rest: memoryview = field(default_factory=lambda: memoryview(b""))  # of what is being written

    def next_bytes(self) -> memoryview:
        """What is to be written now."""
        if not self.rest:
            self.rest = memoryview(self.first or self.always)
            self.first = b""
        return self.rest


def talk(address: tuple[str, int], talkers: list[Talker], is_over: Callable[[], bool]) -> tuple[int, int]:
    """Serve them until it is over: bytes that were written and read. One that the broker closes is gone."""
    written, read = 0, 0
    poll = select.epoll()
    open_ones: dict[int, tuple[socket.socket, Talker]] = {}
    for talker in talkers:
        connection = socket.create_connection(address)
        connection.setblocking(False)
        open_ones[connection.fileno()] = connection, talker
        poll.register(connection, _wishes(talker))
    while not is_over():
        for descriptor, wish in poll.poll(_POLL_S):
            connection, talker = open_ones[descriptor]
            try:
                if wish & select.EPOLLIN:
                    size = len(connection.recv(_READ_SIZE))
                    if size == 0:
                        raise ConnectionResetError
                    read += size
                if wish & select.EPOLLOUT:
                    size = connection.send(talker.next_bytes())
                    talker.rest = talker.rest[size:]
                    written += size
                    poll.modify(descriptor, _wishes(talker))
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(descriptor)
                connection.close()
    for connection, _ in open_ones.values():
        connection.close()
    poll.close()
    return written, read


def _wishes(talker: Talker) -> int:
    wishes = select.EPOLLIN if talker.reads else 0
    return wishes | (select.EPOLLOUT if talker.first or talker.always or talker.rest else 0)


def storm(address: tuple[str, int], username: str, is_over: Callable[[], bool]) -> int:
    """Connect, send CONNECT, close when something comes; STORM_CLIENTS at a time. How many it were."""
    count = 0
    poll = select.epoll()
    open_ones: dict[int, socket.socket] = {}
    hello = connect(username, "")  # The broker finds a name for it.
    while not is_over():
        while len(open_ones) < STORM_CLIENTS:
            connection = socket.socket()
            connection.setblocking(False)
            if connection.connect_ex(address) not in (0, errno.EINPROGRESS):
                connection.close()
                break
            open_ones[connection.fileno()] = connection
            poll.register(connection, select.EPOLLOUT)
        for descriptor, wish in poll.poll(_POLL_S):
            try:
                if wish == select.EPOLLOUT:
                    open_ones[descriptor].send(hello)
                    poll.modify(descriptor, select.EPOLLIN)
                    continue
            except OSError:
                pass  # Refused or reset: it is over with this one, too.
            poll.unregister(descriptor)
            open_ones.pop(descriptor).close()
            count += 1
    for connection in open_ones.values():
        connection.close()
    poll.close()
    return count


def retain(address: tuple[str, int], username: str, count: int) -> None:
    """Have so many messages retained."""
    with socket.create_connection(address) as connection:
        connection.sendall(connect(username, "keeper"))
        for first in range(0, count, 1000):
            numbers = range(first, min(first + 1000, count))
            connection.sendall(b"".join(publish(f"kept/{number:07d}", bytes(64), retain=True) for number in numbers))
        connection.sendall(b"\xc0\0")
        received = b""
        while b"\xd0\0" not in received:  # PINGRESP: everything before it has been done.
            data = connection.recv(64)
            if not data:
                raise ConnectionError("the broker closed the connection of who retains")
            received += data


def flood(username: str) -> list[Talker]:
    """Pairs: one writes, one reads."""
    writers = [
        Talker(connect(username, f"writer{number}"), many(publish(f"flood/{number:03d}", bytes(64))))
        for number in range(CLIENTS)
    ]
    readers = [
        Talker(connect(username, f"reader{number}") + subscribe(f"flood/{number:03d}")) for number in range(CLIENTS)
    ]
    return readers + writers


def churn(username: str) -> list[Talker]:
    """Each with filters of its own, half of them with wildcards."""
    return [
        Talker(
            connect(username, f"churner{number}"),
            many(
                b"".join(
                    subscribe(topic_filter) + unsubscribe(topic_filter)
                    for topic_filter in (f"churn/{number:03d}/a", f"churn/+/{number:03d}/#")
                )
            ),
        )
        for number in range(CLIENTS)
    ]


def fetchers(username: str) -> list[Talker]:
    """Some that ask for everything that is retained, and then do not want it, as fast as they can write."""
    return [
        Talker(connect(username, f"fetcher{number}"), subscribe("kept/#") + unsubscribe("kept/#"))
        for number in range(10)
    ]


def slow(username: str) -> list[Talker]:
    """Subscribers that never read, and one that writes for all of them."""
    deaf = [Talker(connect(username, f"deaf{number}") + subscribe("slow/#"), reads=False) for number in range(CLIENTS)]
    return [*deaf, Talker(connect(username, "writer"), many(publish("slow/a", bytes(1024))))]


NUISANCES = ("flood", "storm", "churn", "retained", "slow")


def make_noise(kind: str, address: tuple[str, int], username: str, retained: int) -> None:
    """Say `ready` when everything is prepared, go on until standard input ends, and say how much it was."""
    os.nice(10)  # The calm tenant's process goes first.
    scheduling.set_slice(0)  # Its maker's is a short one, with which it would interrupt that.
    if kind == "retained":
        retain(address, username, retained)
    end = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        end.set()

    threading.Thread(target=wait, daemon=True).start()
    print("ready", flush=True)
    began = time.perf_counter()
    if kind == "storm":
        count = storm(address, username, end.is_set)
        print(f"{count / (time.perf_counter() - began):.0f} connects/s")
    else:
        talkers = {"flood": flood, "churn": churn, "retained": fetchers, "slow": slow}[kind](username)
        written, read = talk(address, talkers, end.is_set)
        took_s = time.perf_counter() - began
        print(f"{written / took_s / 1e6:.1f} MB/s in, {read / took_s / 1e6:.1f} MB/s out")
