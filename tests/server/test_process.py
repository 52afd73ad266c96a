"""`rookery serve` as an operator sees it: what it prints, how it refuses, how it ends."""

import importlib.metadata
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trio

from support.mqtt_client import connect, open_connection
from support.process import (
    READY_DEADLINE_S,
    STOP_DEADLINE_S,
    BrokerProcess,
    Process,
    rookery_command,
    rookery_only,
    run_process,
    start_rookery,
)

pytestmark = rookery_only

SERVER_SHUTTING_DOWN = 0x8B
LOOPBACK = ("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data", "memory")

both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


@pytest.fixture
def occupied() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def run_to_the_end(*arguments: str) -> Process:
    """`rookery ...`, which is expected to end by itself."""
    with run_process(*rookery_command(*arguments)) as process:
        process.wait(READY_DEADLINE_S)
        return process


def expect_one_line_refusal(process: Process, *mentions: str) -> None:
    """Not started: an exit code that scripts see and, behind what the log says, one line for a person."""
    assert process.popen.returncode > 0, process
    assert process.stdout.lines == []
    assert "Traceback" not in str(process.stderr)
    (line,) = (line for line in process.stderr.lines if line.startswith("rookery: "))
    assert line == process.stderr.lines[-1]
    for mention in mentions:
        assert mention in line


def test_ready_line_is_the_first_and_names_where_it_listens(broker_process: BrokerProcess) -> None:
    (line,) = broker_process.process.stdout.lines
    pattern = r"ready mqtt=127\.0\.0\.1:(\d+) api=127\.0\.0\.1:(\d+)"
    match = re.fullmatch(pattern, line)
    assert match is not None, line
    assert 0 not in map(int, match.groups())


async def test_both_listeners_answer_once_it_is_ready(broker_process: BrokerProcess) -> None:
    async with connect(broker_process.mqtt, client_id="first") as client:
        await client.ping()
    async with httpx.AsyncClient(base_url=f"http://{broker_process.api}") as http:
        response = await http.get("/no such path")
    assert response.status_code in {401, 404}


@pytest.mark.parametrize("option", ["--mqtt", "--api"])
def test_port_in_use_is_one_clear_line(occupied: str, option: str) -> None:
    expect_one_line_refusal(run_to_the_end("serve", *LOOPBACK, option, occupied), occupied, "in use")


@pytest.mark.parametrize("option", ["--mqtt", "--api"])
def test_open_address_without_insecure_is_refused(option: str) -> None:
    """Without a configured authenticator everybody is let in, which must not happen to a network by accident."""
    expect_one_line_refusal(run_to_the_end("serve", *LOOPBACK, option, "0.0.0.0:0"), "0.0.0.0", "--insecure")


def test_open_address_with_insecure_is_served() -> None:
    with start_rookery(*LOOPBACK, "--mqtt", "0.0.0.0:0", "--insecure") as broker:
        assert broker.mqtt.host == "0.0.0.0"
        broker.stop()


def test_unknown_option_is_a_usage_error() -> None:
    process = run_to_the_end("serve", "--no-such-option")
    assert process.popen.returncode == 2
    assert "--no-such-option" in process.stderr.lines[-1]


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", ":::1"])
def test_wrong_address_is_an_error_that_names_its_option(address: str) -> None:
    process = run_to_the_end("serve", *LOOPBACK, "--mqtt", address)
    assert process.popen.returncode > 0
    assert "--mqtt" in process.stderr.lines[-1]
    assert "Traceback" not in str(process.stderr)


def missing(path: Path) -> None:
    """Leave it so."""


def directory(path: Path) -> None:
    path.mkdir()


def not_toml(path: Path) -> None:
    path.write_text("this is not [TOML\n")


def not_utf_8(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("make", [missing, directory, not_toml, not_utf_8])
def test_unreadable_config_file_is_an_error_that_names_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "rookery.toml"
    make(path)
    process = run_to_the_end("serve", "--config", str(path))
    assert process.popen.returncode > 0
    assert process.stdout.lines == []
    assert str(path) in str(process.stderr)
    assert "Traceback" not in str(process.stderr)


def test_unknown_setting_in_the_config_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rookery.toml"
    path.write_text("no_such_setting = 1\n")
    process = run_to_the_end("serve", *LOOPBACK, "--config", str(path))
    assert process.popen.returncode > 0
    assert "no_such_setting" in str(process.stderr)
    assert "Traceback" not in str(process.stderr)


def test_version_is_that_of_the_package() -> None:
    process = run_to_the_end("--version")
    assert process.popen.returncode == 0
    assert importlib.metadata.version("rookery") in str(process.stdout)


@both_signals
async def test_clients_are_told_that_the_server_shuts_down(
    broker_process: BrokerProcess, number: signal.Signals
) -> None:
    async with (
        connect(broker_process.mqtt, version=5, client_id="new") as new,
        connect(broker_process.mqtt, version=4, client_id="old") as old,
    ):
        began_at_s = time.monotonic()
        broker_process.process.signal(number)
        farewell = await new.expect_closed()
        assert farewell is not None
        assert farewell.reason_code == SERVER_SHUTTING_DOWN
        assert await old.expect_closed() is None
        assert await trio.to_thread.run_sync(broker_process.process.wait) == 0
        assert time.monotonic() - began_at_s < STOP_DEADLINE_S


@both_signals
async def test_silent_connections_do_not_hold_the_end_up(broker_process: BrokerProcess, number: signal.Signals) -> None:
    """Neither one that has sent no CONNECT nor one that reads nothing of what it gets."""
    async with (
        open_connection(broker_process.mqtt),
        connect(broker_process.mqtt, client_id="deaf") as deaf,
        connect(broker_process.mqtt, client_id="writer") as writer,
        await trio.open_tcp_stream(*broker_process.api),
    ):
        await deaf.subscribe("a")
        for _ in range(100):
            await writer.publish("a", bytes(100_000))
        await writer.ping()
        broker_process.process.signal(number)
        assert await trio.to_thread.run_sync(broker_process.process.wait) == 0


def test_second_signal_never_ends_in_a_traceback() -> None:
    """It ends the process at once, unless the first one has already done so; at the very end the system does it."""
    with start_rookery(*LOOPBACK) as broker:
        for _ in range(2):
            broker.process.signal(signal.SIGTERM)
        assert broker.process.wait() in {0, 128 + signal.SIGTERM, -signal.SIGTERM}
        assert "Traceback" not in str(broker.process.stderr)


def test_end_leaves_the_port_free_for_the_next_start(broker_process: BrokerProcess) -> None:
    address = str(broker_process.mqtt)
    broker_process.stop()
    with start_rookery(*LOOPBACK, "--mqtt", address) as broker:
        assert str(broker.mqtt) == address
        broker.stop()
