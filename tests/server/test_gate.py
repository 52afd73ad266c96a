"""Limits of connections: by listener, by network, in all; connections that never get to the point."""

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from rookery.core.engine import Engine
from rookery.server.broker import Broker
from rookery.server.events import ConnectTimedOut
from support import mqtt_client, packets, tls, websocket
from support.mqtt_client import DEADLINE_S
from support.own_broker import broker_with
from support.packets import MQTT_5_0
from support.process import Address, parse_ready, run_process
from support.tls import Authority
from support.waiting import eventually, wait_until

CONNECT = packets.encode(packets.Connect(client_id=""), MQTT_5_0)


def _header(host: str) -> bytes:
    family = "TCP6" if ":" in host else "TCP4"
    return f"PROXY {family} {host} {host} 1000 1883\r\n".encode()


@asynccontextmanager
async def _open(broker: Broker, name: str = "mqtt", host: str | None = None) -> AsyncIterator[bool]:
    """A connection that says CONNECT, as if from host; was it let in?"""
    address = broker.mqtt_address if name == "mqtt" else broker.addresses[name]
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        with trio.fail_after(DEADLINE_S):
            try:
                await stream.send_all((b"" if host is None else _header(host)) + CONNECT)
                yield await stream.receive_some(1) == b"\x20"
            except trio.BrokenResourceError:
                yield False


PROXIED = {"kind": "tcp", "bind": "127.0.0.1:0", "proxy_protocol": True}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"connections": {"limit": 2}}, "limit"),
        ({"mqtt": {"connections_limit": 2}}, "listener_limit"),
        ({"connections": {"network_limit": 2}}, "network_limit"),
    ],
)
async def test_connections_above_a_limit_are_closed_until_others_leave(sections: dict[str, Any], reason: str) -> None:
    async with broker_with(**sections, shards={"count": 3}) as broker, _open(broker) as first:
        async with _open(broker) as second, _open(broker) as third:
            assert (first, second, third) == (True, True, False)
            counts = broker.gate.counts()["mqtt"]
            assert counts.connections == 2
            assert {name: count for name, count in counts.refused.items() if count} == {reason: 1}
        await eventually(lambda: broker.gate.counts()["mqtt"].connections == 1)
        async with _open(broker) as fourth:
            assert fourth


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"connections": {"rate_per_s": 2}}, "rate"),
        ({"mqtt": {"connections_rate_per_s": 2}}, "listener_rate"),
        ({"connections": {"network_rate_per_s": 2}}, "network_rate"),
    ],
)
async def test_connections_that_come_too_fast_are_closed(sections: dict[str, Any], reason: str) -> None:
    async with broker_with(**sections) as broker:
        start_s = time.monotonic()
        admitted = 0
        for _ in range(10):
            async with _open(broker) as is_in:
                admitted += is_in
        elapsed_s = time.monotonic() - start_s
        assert 2 <= admitted <= 2 + 2 * elapsed_s + 1
        assert broker.gate.counts()["mqtt"].refused[reason] == 10 - admitted
        is_in = False
        with trio.fail_after(DEADLINE_S):
            while not is_in:  # A second later at the latest.
                async with _open(broker) as is_in:
                    pass


async def test_networks_are_counted_apart_by_their_bits() -> None:
    sections: dict[str, Any] = {
        "connections": {"network_limit": 1, "network_ipv4_bits": 24},
        "listeners": {"proxied": PROXIED},
    }
    hosts = {
        "192.0.2.1": True,
        "192.0.2.200": False,
        "192.0.3.1": True,
        "::ffff:192.0.3.2": False,
        "2001:db8::1": True,
        "2001:db8::2": False,
        "2001:db8:0:1::1": True,
    }
    async with broker_with(**sections) as broker, AsyncExitStack() as stack:
        for host, may in hosts.items():
            assert await stack.enter_async_context(_open(broker, "proxied", host)) == may, host
        counts = broker.gate.counts()["proxied"]
        assert (counts.connections, counts.refused["network_limit"]) == (4, 3)


async def test_limit_of_a_listener_is_its_own(authority: Authority, certificate: str) -> None:
    secure = {"kind": "tls", "bind": "127.0.0.1:0", "certificate_files": [certificate], "connections_limit": 1}
    web = {"kind": "ws", "bind": "127.0.0.1:0", "connections_limit": 1}
    context = tls.client_context(authority)
    async with broker_with(listeners={"secure": secure, "web": web}, shards={"count": 2}) as broker:
        for _ in range(3):  # Who has left makes room, wherever its session was.
            async with (
                tls.connect(broker.addresses["secure"], context, client_id="a"),
                websocket.connect(broker.addresses["web"], client_id="b"),
                mqtt_client.connect((broker.mqtt_address.host, broker.mqtt_address.port), client_id="c"),
            ):
                with pytest.raises((trio.BrokenResourceError, AssertionError)):
                    async with tls.connect(broker.addresses["secure"], context, client_id="d"):
                        pass
                async with _open(broker, "web") as is_in:
                    assert not is_in
                assert broker.gate.counts()["secure"].connections == 1
            await eventually(lambda: sum(count.connections for count in broker.gate.counts().values()) == 0)


async def test_who_fails_on_the_way_in_counts_no_longer(certificate: str) -> None:
    secure = {"kind": "tls", "bind": "127.0.0.1:0", "certificate_files": [certificate], "connections_limit": 5}
    async with broker_with(listeners={"secure": secure}) as broker:
        for _ in range(3):
            async with _open(broker, "secure") as is_in:
                assert not is_in
        await eventually(lambda: broker.gate.counts()["secure"].connections == 0)
        assert broker.entrances["secure"].counts.failed == 3


async def test_refusals_are_told_in_the_log_together(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def lines() -> list[dict[str, Any]]:
        found = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
        return [line for line in found if line["event"] == "connections_refused"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rookery.server.gate.REPORT_S", 0.01)
        async with broker_with(mqtt={"connections_limit": 1}) as broker, _open(broker):
            for _ in range(5):
                async with _open(broker) as is_in:
                    assert not is_in
            await eventually(lambda: sum(line["listener_limit"] for line in lines()) == 5)
    assert {line["listener"] for line in lines()} == {"mqtt"}


async def test_connection_that_says_nothing_is_cut_after_the_time_for_connect() -> None:
    async with broker_with(connections={"timeout_s": 0.05}) as broker:
        for sent in (b"", CONNECT[:1], CONNECT[:-1]):
            with broker.events.subscribe(ConnectTimedOut) as events:
                async with await trio.open_tcp_stream(broker.mqtt_address.host, broker.mqtt_address.port) as stream:
                    if sent:
                        await stream.send_all(sent)
                    with trio.fail_after(DEADLINE_S):
                        assert await stream.receive_some() == b""
                        await anext(events)


async def test_connect_that_drips_in_is_cut_all_the_same() -> None:
    async with (
        broker_with(connections={"timeout_s": 0.3}) as broker,
        await trio.open_tcp_stream(broker.mqtt_address.host, broker.mqtt_address.port) as stream,
        trio.open_nursery() as nursery,
    ):

        async def drip() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                for byte in bytes(1000):
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.02)

        await stream.send_all(b"\x10\xff\x7f")  # a CONNECT of 16 KiB
        nursery.start_soon(drip)
        with trio.fail_after(DEADLINE_S), contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()


def test_wrong_use_is_refused() -> None:
    engine = Engine()
    assert engine.enter(7, "192.0.2.1") == (0, 0), "without limits all are let in"
    assert engine.gate_counts() == []
    with pytest.raises(ValueError, match="ipv4_bits is 33"):
        engine.limit_connections([(0, 0)], ipv4_bits=33)
    engine.limit_connections([(1, 0)])
    with pytest.raises(RuntimeError):
        engine.limit_connections([(1, 0)])
    for call in (engine.enter, engine.leave, engine.listen):
        with pytest.raises(ValueError, match="listener_id is 1"):
            call(1, "192.0.2.1") if call == engine.enter else call(1, 1)  # type: ignore[arg-type]
    engine.close()


def test_networks_that_owe_nothing_are_forgotten_and_those_that_do_are_kept() -> None:
    engine = Engine()
    engine.limit_connections([(0, 0)], network_connections=1)
    kept = [engine.enter(0, f"10.9.{number}.1")[1] for number in range(100)]
    for number in range(20_000):
        reason, network = engine.enter(0, f"10.1.{number >> 8}.{number & 255}")
        assert reason == 0
        engine.leave(0, network)
    assert [engine.enter(0, f"10.9.{number}.1")[0] for number in range(100)] == [3] * 100
    for network in kept:
        engine.leave(0, network)
    assert engine.gate_counts()[0][0] == 0
    engine.close()


def test_process_without_descriptors_does_not_spin_and_goes_on_when_it_has_some(tmp_path: Path) -> None:
    script = 'ulimit -n 64; exec "$0" -m rookery.api.cli serve --mqtt 127.0.0.1:0 --api 127.0.0.1:0 --config "$1"'
    file = tmp_path / "rookery.toml"
    file.write_text('[listeners.web]\nkind = "ws"\nbind = "127.0.0.1:0"\n', encoding="utf-8")
    with run_process("bash", "-c", script, sys.executable, str(file)) as process, ExitStack() as stack:
        addresses = process.stdout.find(parse_ready, deadline_s=20)
        assert addresses is not None, process
        _ask_for_health(addresses["api"])  # The last that takes descriptors at the start.
        clients = [stack.enter_context(_connect(addresses["mqtt"])) for _ in range(70)]
        wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == 64)
        browsers = [stack.enter_context(_connect(addresses["web"])) for _ in range(3)]
        process.stderr.expect("accept_failed")
        before_s, start_s = _cpu_s(process.pid), time.monotonic()
        # Nobody answers for as long as this takes: the last ones wait to be accepted.
        clients[-1].settimeout(0.5)
        clients[-1].sendall(CONNECT)
        with pytest.raises(TimeoutError):
            clients[-1].recv(1)
        assert (_cpu_s(process.pid) - before_s) / (time.monotonic() - start_s) < 0.3
        for client in clients[:-1]:
            client.close()
        clients[-1].settimeout(DEADLINE_S)
        assert clients[-1].recv(1) == b"\x20"
        browsers[-1].sendall(b"nonsense\r\n\r\n")
        assert browsers[-1].recv(12) == b"HTTP/1.1 400"
        process.popen.terminate()
        assert process.wait(20) == 0


def _connect(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=DEADLINE_S)


def _ask_for_health(address: Address) -> None:
    with _connect(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
