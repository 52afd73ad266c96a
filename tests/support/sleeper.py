"""A client of the broker in memory that reads only when it is told to."""

import socket

from support import packets
from support.memory_broker import Broker
from support.packets import Connect, Publish, Subscribe, Subscription


class Sleeper:
    """A client behind a socket with small buffers, which reads only when it is told to."""

    def __init__(self, broker: Broker, client_id: str, *, qos: int, session_expiry_interval: int = 0) -> None:
        self.broker = broker
        self.socket, theirs = socket.socketpair()
        for end in (self.socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs.setblocking(False)
        self.socket.setblocking(False)
        broker.engine.adopt(theirs.detach())
        broker.settle()
        self.socket.send(
            packets.encode(Connect(client_id=client_id, session_expiry_interval=session_expiry_interval), 5)
        )
        broker.settle()
        self.socket.send(packets.encode(Subscribe(packet_id=1, subscriptions=(Subscription("a", qos),)), 5))
        broker.settle()

    def read(self) -> list[Publish]:
        """Everything that is to be had, while the broker goes on."""
        data = b""
        quiet = 0
        while quiet < 3:
            self.broker.settle()
            try:
                came = self.socket.recv(1 << 20)
            except BlockingIOError:
                quiet += 1
                continue
            if not came:
                break
            quiet = 0
            data += came
        return [packet for packet in packets.decode_all(data, 5) if isinstance(packet, Publish)]

    def __enter__(self) -> "Sleeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self.broker.settle()
