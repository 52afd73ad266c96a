"""Unix sockets as listeners, and sockets that systemd has opened."""

import socket
import stat
import sys
from pathlib import Path

import pytest
import trio

from rookery.server.activation import PassedSockets, passed_sockets
from rookery.server.address import Address
from rookery.server.events import ClientConnected
from rookery.server.listeners import AddressInUse, ListenError, open_listener, open_unix_listener
from support import packets
from support.mqtt_client import DEADLINE_S, Client
from support.own_broker import broker_with
from support.process import parse_ready, run_process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mqtt.sock"


async def test_clients_of_a_unix_socket_are_served(path: Path) -> None:
    async with broker_with(listeners={"local": {"kind": "unix", "bind": str(path), "mode": "0600"}}) as broker:
        assert str(broker.addresses["local"]) == str(path)
        assert stat.S_IMODE((await trio.Path(path).stat()).st_mode) == 0o600
        with broker.events.subscribe(ClientConnected) as events:
            async with await trio.open_unix_socket(path) as stream:
                client = Client(stream)
                await client.connect(client_id="c")
                await client.subscribe("a")
                await client.publish("a", b"x" * 100_000, qos=1)
                assert len((await client.receive_message()).payload) == 100_000
                with trio.fail_after(DEADLINE_S):
                    event = await anext(events)
        assert event.peer == "local"  # type: ignore[attr-defined]
    assert not await trio.Path(path).exists()


async def test_header_of_a_proxy_is_read_on_a_unix_socket(path: Path) -> None:
    section = {"kind": "unix", "bind": str(path), "proxy_protocol": True}
    async with (
        broker_with(listeners={"local": section}) as broker,
        await trio.open_unix_socket(path) as stream,
    ):
        with broker.events.subscribe(ClientConnected) as events:
            await stream.send_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\r\n")
            await Client(stream).connect(client_id="c")
            with trio.fail_after(DEADLINE_S):
                event = await anext(events)
        assert event.peer == "192.0.2.7:40000"  # type: ignore[attr-defined]


def test_socket_of_a_dead_process_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with open_unix_listener(Address(str(path), 0), 5, 0o660), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_socket_of_a_living_process_is_not_replaced(path: Path) -> None:
    address = Address(str(path), 0)
    with (
        open_unix_listener(address, 5, 0o660),
        pytest.raises(AddressInUse, match=f"^cannot listen on {path}: the path is in use$"),
        open_unix_listener(address, 5, 0o660),
    ):
        pass


def test_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious", encoding="ascii")
    with pytest.raises(ListenError), open_unix_listener(Address(str(path), 0), 5, 0o660):
        pass
    assert path.read_text(encoding="ascii") == "precious"


# Sockets that systemd has opened


def test_passed_socket_is_used_where_it_is_bound(path: Path) -> None:
    passed = PassedSockets([socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)])
    (tcp, unix) = passed._sockets
    unix.bind(str(path))
    unix.listen()
    assert open_listener(Address("127.0.0.1", tcp.getsockname()[1]), 5, passed) is tcp
    with open_listener(Address("127.0.0.1", 0), 5, passed) as other:
        assert other is not tcp
    with open_unix_listener(Address(str(path), 0), 5, 0o660, passed) as found:
        assert found is unix
        assert not found.getblocking()
    assert path.exists(), "it is systemd's"
    assert len(passed) == 0
    tcp.close()


@pytest.mark.parametrize("process", ["1", "", "x"])
def test_sockets_for_another_process_are_left_alone(process: str) -> None:
    environment = {"LISTEN_PID": process, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "PATH": "/bin"}
    with passed_sockets(environment) as passed:
        assert len(passed) == 0
    assert environment == {"PATH": "/bin"}


def test_process_serves_the_sockets_that_it_was_started_with() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mqtt, socket.create_server(("127.0.0.1", 0)) as api:
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (mqtt, api)]
        # As systemd does: from descriptor 3 on, and the process itself is named.
        script = (
            f"exec 3<&{api.fileno()} 4<&{mqtt.fileno()}; "
            'LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" -m rookery.api.cli serve --mqtt "$1" --api "$2"'
        )
        with run_process(
            "bash", "-c", script, sys.executable, *addresses, descriptors=(mqtt.fileno(), api.fileno())
        ) as process:
            ready = process.stdout.find(parse_ready, deadline_s=20)
            assert ready is not None, process
            assert [str(ready["mqtt"]), str(ready["api"])] == addresses
            with socket.create_connection(mqtt.getsockname(), timeout=DEADLINE_S) as client:
                client.sendall(packets.encode(packets.Connect(client_id="c"), packets.MQTT_5_0))
                assert client.recv(1) == b"\x20"
            process.popen.terminate()
            assert process.wait() == 0, process
