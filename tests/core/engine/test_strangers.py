"""Many who want in at once take turns with each other, and clients that are in go first. Real sockets, virtual time."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support import packets
from support.memory_broker import Broker
from support.packets import Connect, Pingreq, Pingresp

STRANGERS = 100
STRANGERS_PER_TURN = 8
CONNACK = b"\x20"


def _open(broker: Broker, stack: ExitStack) -> socket.socket:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setblocking(False)
    broker.engine.adopt(theirs.detach())
    return stack.enter_context(ours)


def _read(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except BlockingIOError:
        return b""


@pytest.fixture
def broker() -> Iterator[Broker]:
    opened = Broker(shard_count=1)
    yield opened
    opened.close()


@pytest.fixture
def ends(broker: Broker) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A client that is in, and many whose CONNECT is there and was not read; the shard knows what to answer."""
    with ExitStack() as stack:
        client = _open(broker, stack)
        strangers = [_open(broker, stack) for _ in range(STRANGERS)]
        broker.settle()
        client.send(packets.encode(Connect(client_id="in"), 5))
        broker.settle()
        assert _read(client)[:1] == CONNACK
        for number, stranger in enumerate(strangers):
            stranger.send(packets.encode(Connect(client_id=f"stranger{number}"), 5))
        yield client, strangers
    for _ in range(STRANGERS):  # Those who go take turns, too.
        broker.engine.turn(0, broker.now_ms)


def test_storm_of_connects_does_not_make_a_turn_longer(
    broker: Broker, ends: tuple[socket.socket, list[socket.socket]]
) -> None:
    client, strangers = ends
    client.send(packets.encode(Pingreq(), 5))
    broker.engine.turn(0, broker.now_ms)
    assert _read(client) == packets.encode(Pingresp(), 5)
    assert sum(_read(stranger)[:1] == CONNACK for stranger in strangers) == STRANGERS_PER_TURN


def test_each_of_a_storm_gets_its_turn(broker: Broker, ends: tuple[socket.socket, list[socket.socket]]) -> None:
    _, strangers = ends
    for _ in range(STRANGERS // STRANGERS_PER_TURN + 1):
        broker.engine.turn(0, broker.now_ms)
    assert [_read(stranger)[:1] for stranger in strangers] == [CONNACK] * STRANGERS


def test_those_who_are_always_ready_keep_nobody_out(
    broker: Broker, ends: tuple[socket.socket, list[socket.socket]]
) -> None:
    _, strangers = ends
    with ExitStack() as stack:
        drips = [_open(broker, stack) for _ in range(STRANGERS)]
        for drip in drips:
            drip.send(b"\x10\xff\x7f")  # a CONNECT of 16 KiB, of which a byte comes at a time
        for _ in range(2 * STRANGERS):
            for drip in drips:
                drip.send(b"\0")
            broker.engine.turn(0, broker.now_ms)
        assert [_read(stranger)[:1] for stranger in strangers] == [CONNACK] * STRANGERS
