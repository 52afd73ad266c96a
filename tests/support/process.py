"""A broker as a child process: Rookery, or mosquitto to check the tests themselves.

ROOKERY_TEST_BROKER=mosquitto   start mosquitto at its default settings instead. Tests of what only Rookery has carry
                                the mark rookery_only; where mosquitto breaks a promise, the test says so with
                                fails_on_mosquitto.
ROOKERY_TEST_SHARDS=3           give every Rookery three shards, also those without sockets (support.memory_broker).

Everything here is synchronous, so that one running broker serves plain tests, trio tests and asyncio clients alike.
Output is collected by one thread per pipe; every wait for it ends at a deadline.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Final, NamedTuple, TypeVar

import pytest

from .packets import MQTT_5_0, Connect, encode

BROKER: Final = os.environ.get("ROOKERY_TEST_BROKER", "rookery")
SHARDS: Final = os.environ.get("ROOKERY_TEST_SHARDS")

READY_DEADLINE_S: Final = 20.0  # Generous: a sanitizer build starts slowly, and a dead process is noticed at once.
STOP_DEADLINE_S: Final = 5.0
OUTPUT_DEADLINE_S: Final = 10.0

rookery_only = pytest.mark.skipif(BROKER != "rookery", reason=f"{BROKER} has nothing like it")

T = TypeVar("T")


def fails_on_mosquitto(reason: str, *, strict: bool = True) -> pytest.MarkDecorator:
    """Mark a test of something that mosquitto is known not to do; strict=False if it depends on the moment."""
    return pytest.mark.xfail(BROKER == "mosquitto", reason=reason, strict=strict)


class Address(NamedTuple):
    """Host and port, as sockets take them; "host:port" as text."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Output:
    """The lines that a process has written to one pipe so far."""

    def __init__(self, pipe: IO[str]) -> None:
        self.lines: list[str] = []
        self._pipe = pipe
        self._has_ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def find(self, select: Callable[[str], T | None], *, deadline_s: float = OUTPUT_DEADLINE_S) -> T | None:
        """The first result of select over all lines, past and future; None at the end of the output.

        Raises TimeoutError at the deadline.
        """
        ends_at_s = time.monotonic() + deadline_s
        seen_count = 0
        with self._changed:
            while True:
                for line in self.lines[seen_count:]:
                    result = select(line)
                    if result is not None:
                        return result
                seen_count = len(self.lines)
                if self._has_ended:
                    return None
                if not self._changed.wait(ends_at_s - time.monotonic()):
                    raise TimeoutError(f"nothing suitable within {deadline_s:g} s in: {self.lines[-20:]}")

    def expect(self, pattern: str, *, deadline_s: float = OUTPUT_DEADLINE_S) -> re.Match[str]:
        """The first line, past or future, in which pattern is found."""
        match = self.find(lambda line: re.search(pattern, line), deadline_s=deadline_s)
        if match is None:
            raise AssertionError(f"the output ended without {pattern!r}: {self.lines[-20:]}")
        return match

    def join(self) -> None:
        """Wait for the end of the output, which is the end of all processes that hold the pipe."""
        self._thread.join(STOP_DEADLINE_S)
        if self._thread.is_alive():
            raise TimeoutError("the process has ended, but something else holds its output open")

    def _collect(self) -> None:
        with self._pipe:
            for line in self._pipe:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()


class Process:
    """A child process and its output. Made by run_process(), which ends it."""

    def __init__(
        self,
        *command: str,
        state_home: str,
        stdin: int | None = subprocess.DEVNULL,
        descriptors: tuple[int, ...] = (),
    ) -> None:
        self.command = command
        self.state_home = state_home
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ROOKERY_")}
        environment["XDG_STATE_HOME"] = state_home
        self.popen = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=descriptors,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.stdout = Output(self.popen.stdout)
        self.stderr = Output(self.popen.stderr)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does, and wait until it is gone."""
        self.popen.kill()
        self.wait()

    def wait(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """The exit code; minus the signal number if a signal ended the process."""
        try:
            exit_code = self.popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline_s:g} s: {self}") from None
        self.stdout.join()
        self.stderr.join()
        return exit_code

    def __str__(self) -> str:
        return f"{' '.join(self.command)}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


@contextlib.contextmanager
def run_process(
    *command: str, stdin: int | None = subprocess.DEVNULL, descriptors: tuple[int, ...] = ()
) -> Iterator[Process]:
    """A child process that does not outlive the block, with a state folder of its own, which does not either.

    It inherits descriptors, under the same numbers.
    """
    with tempfile.TemporaryDirectory() as state_home:
        process = Process(*command, state_home=state_home, stdin=stdin, descriptors=descriptors)
        try:
            yield process
        finally:
            if process.is_running:
                process.popen.kill()
            if process.popen.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.popen.stdin.close()
            process.wait()


class BrokerProcess:
    """A broker that is ready."""

    def __init__(self, process: Process, addresses: dict[str, Address]) -> None:
        self.process = process
        self.addresses = addresses
        self._is_killed = False

    @property
    def mqtt(self) -> Address:
        return self.addresses["mqtt"]

    @property
    def api(self) -> Address:
        return self.addresses["api"]

    def stop(self) -> None:
        """SIGTERM: must end with exit code 0 within STOP_DEADLINE_S. A crash before comes to light here, too."""
        if self._is_killed:
            return
        if self.process.is_running:
            self.process.signal(signal.SIGTERM)
        exit_code = self.process.wait()
        assert exit_code == 0, f"exit code {exit_code}: {self.process}"

    def kill(self) -> None:
        """SIGKILL: what the broker had not made durable is lost."""
        self._is_killed = True
        self.process.kill()


@contextlib.contextmanager
def start_broker(*arguments: str) -> Iterator[BrokerProcess]:
    """The broker under test, listening on free ports of the loopback address and keeping its data in memory.

    arguments are further options of `rookery serve`; a repeated option overrides the one given here. Leaving the
    block stops the broker and checks how it ended, unless the test has killed it; it is gone in any case.
    """
    if BROKER == "mosquitto":
        if arguments:
            pytest.skip("mosquitto does not know the options of rookery")
        starting = start_mosquitto()
    else:
        shards = () if SHARDS is None else ("--shards", SHARDS)
        loopback = ("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data", "memory")
        starting = start_rookery(*loopback, *shards, *arguments)
    with starting as broker:
        yield broker
        broker.stop()


def rookery_command(*arguments: str) -> tuple[str, ...]:
    """The command line `rookery ...`, of the interpreter that runs the tests."""
    return (sys.executable, "-m", "rookery.api.cli", *arguments)


@contextlib.contextmanager
def start_rookery(*arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[BrokerProcess]:
    """`rookery serve` with exactly these arguments, once it has said that it is ready.

    prefix is a command that becomes the one that follows it, somewhere else.
    """
    with run_process(*prefix, *rookery_command("serve", *arguments)) as process:
        addresses = process.stdout.find(parse_ready, deadline_s=READY_DEADLINE_S)
        if addresses is None:
            raise AssertionError(f"ended with exit code {process.wait()} before it was ready: {process}")
        yield BrokerProcess(process, addresses)


def parse_ready(line: str) -> dict[str, Address] | None:
    """The addresses in `ready mqtt=127.0.0.1:1883 api=[::1]:8080`; None for any other line."""
    first, *listeners = line.split(" ")
    if first != "ready":
        return None
    addresses = {}
    for listener in listeners:
        name, _, address = listener.partition("=")
        host, _, port = address.rpartition(":")
        addresses[name] = Address(address, 0) if address.startswith("/") else Address(host.strip("[]"), int(port))
    return addresses


@contextlib.contextmanager
def start_mosquitto() -> Iterator[BrokerProcess]:
    """mosquitto without a configuration file: loopback only, anonymous, nothing durable."""
    for _ in range(5):  # mosquitto takes no port 0, and a free port may be taken before mosquitto comes to it.
        address = Address("127.0.0.1", free_port())
        with run_process("mosquitto", "-p", str(address.port)) as process:
            if process.stderr.find(lambda line: True if line.endswith(" running") else None) is None:
                if "Address already in use" in str(process.stderr):
                    continue
                raise AssertionError(f"ended with exit code {process.wait()} before it was ready: {process}")
            await_answer(address)
            yield BrokerProcess(process, {"mqtt": address})
            return
    raise AssertionError("found no port for mosquitto")


def await_answer(address: Address) -> None:
    """Return when the main loop of mosquitto runs: it forgets a SIGTERM that comes between its last line and that."""
    with socket.create_connection(address, timeout=OUTPUT_DEADLINE_S) as connection:
        connection.sendall(encode(Connect(client_id="ready"), MQTT_5_0))
        assert connection.recv(1)


def free_port() -> int:
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
