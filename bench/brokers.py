"""Brokers under measurement: start them on a CPU of their own, and read what they cost.

Each broker is a context manager that yields a Broker: where it listens, and how much CPU time and memory its process
uses. It is started afresh for each run, on a free port, with the configuration that is fastest for it.
"""

import contextlib
import getpass
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from .plan import Transport
from .tls import write_certificate

START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 10
# A free port may be taken by somebody else before the broker has it.
PORT_ATTEMPTS = 5

MOSQUITTO_CONFIG = """\
listener {port} 127.0.0.1
# Nobody authenticates in any of the brokers.
allow_anonymous true
# Nothing goes to disk in any of the brokers: the disk would be measured instead.
persistence false
# No bound, since a dropped message makes the run invalid. The defaults (1000 queued, 20 in flight) drop.
max_queued_messages 0
# As many as there are packet identifiers. "No bound" (0) makes it use an identifier again that is still in use.
max_inflight_messages 65535
# As all brokers here: without it small packets wait for Nagle's algorithm.
set_tcp_nodelay true
# Not another user: the kernel forgets to end a process with its parent when it changes its identity.
user {user}
# Its statistics on $SYS and its log cost a little, so it is relieved of them.
sys_interval 0
log_type none
"""


class BrokerError(Exception):
    """A broker did not start, or is gone."""


@dataclass(frozen=True)
class Broker:
    """A broker that accepts connections, and its process if that is known."""

    name: str
    host: str
    port: int
    pid: int | None = None
    # Where it listens for other transports than TCP, if it was asked to.
    ports: Mapping[Transport, int] = field(default_factory=dict)

    def port_of(self, transport: Transport) -> int:
        """Raises BrokerError where it does not listen."""
        if transport is not Transport.TCP and transport not in self.ports:
            raise BrokerError(f"{self.name} does not listen for {transport}")
        return self.ports.get(transport, self.port)

    def cpu_ns(self) -> int | None:
        """CPU time that all threads of the process have used, those that ended included."""
        if self.pid is None:
            return None
        # The CPU clock of another process, as clock_getcpuclockid(3) composes it: exact, where /proc/PID/stat counts
        # ticks of 10 ms and /proc/PID/task/*/schedstat forgets threads that have ended.
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def waited_ns(self) -> int | None:
        """Time that its threads were ready to run while somebody else had the CPU: disturbance from outside."""
        return waited_ns(self.pid) if self.pid is not None else None

    def resident_bytes(self) -> int | None:
        """Resident memory; from smaps_rollup, because the counter of /proc/PID/status lags per thread."""
        if self.pid is None:
            return None
        try:
            text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
            found = re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)
        except OSError:
            text = Path(f"/proc/{self.pid}/status").read_text()
            found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
        return int(found[1]) * 1024 if found else None


def waited_ns(pid: int) -> int:
    """Time that the threads of a process have waited for a CPU; the second number of schedstat."""
    waited = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            waited += int(path.read_text().split()[1])
    return waited


@contextlib.contextmanager
def on_cpus(cpus: Sequence[int] | None) -> Iterator[None]:
    """Run on these CPUs; what is started meanwhile stays there with all its threads."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def mosquitto(
    cpus: Sequence[int] | None = None, transport: Transport = Transport.TCP, *, template: str | None = None
) -> Iterator[Broker]:
    """mosquitto on a free port of 127.0.0.1, and on another one for TLS if that is the transport.

    template is another configuration, with places for the port and the user.
    """
    if transport is Transport.WEBSOCKET:
        raise BrokerError("Debian's mosquitto speaks no WebSocket")
    program = _find_mosquitto()
    with tempfile.TemporaryDirectory(prefix="bench-mosquitto-") as folder, contextlib.ExitStack() as stack:
        config = Path(folder) / "mosquitto.conf"
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = _free_port()
            text = (template or MOSQUITTO_CONFIG).format(port=port, user=getpass.getuser())
            ports: dict[Transport, int] = {}
            if transport is Transport.TLS:
                ports[transport] = _free_port()
                certificate, key = write_certificate(Path(folder))
                text += f"listener {ports[transport]} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n"
            config.write_text(text)
            process = stack.enter_context(_started([program, "-c", str(config)], cpus))
            try:
                _await_port(process, port)
                break
            except BrokerError:
                if attempt == PORT_ATTEMPTS:
                    raise
        yield Broker("mosquitto", "127.0.0.1", port, process.pid, ports)


@contextlib.contextmanager
def rookery(
    cpus: Sequence[int] | None = None,
    options: Sequence[str] = (),
    *,
    transport: Transport = Transport.TCP,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Broker]:
    """Rookery on a free port of 127.0.0.1, started as users start it; options of `rookery serve` overrule ours."""
    with tempfile.TemporaryDirectory(prefix="bench-rookery-") as folder:
        if transport is not Transport.TCP:
            options = (*_listener_options(Path(folder), transport), *options)
        with _rookery(cpus, transport, options, timeout_s) as broker:
            yield broker


def _listener_options(folder: Path, transport: Transport) -> tuple[str, ...]:
    """A configuration with a listener of the name of the transport."""
    lines = [f"[listeners.{transport}]", 'bind = "127.0.0.1:0"']
    if transport is Transport.TLS:
        certificate, key = write_certificate(folder)
        lines += ['kind = "tls"', f'certificate_files = ["{certificate}"]', f'key_files = ["{key}"]']
    else:
        lines += ['kind = "ws"']
    file = folder / "rookery.toml"
    file.write_text("\n".join(lines) + "\n")
    return ("--config", str(file))


@contextlib.contextmanager
def _rookery(
    cpus: Sequence[int] | None, transport: Transport, options: Sequence[str], timeout_s: float
) -> Iterator[Broker]:
    command = [
        *(sys.executable, "-m", "rookery.api.cli", "serve"),
        *("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data", "memory"),
        *options,
    ]
    with _started(command, cpus) as process:
        ready = _read_line(process, timeout_s)
        found = re.fullmatch(r"ready mqtt=(\S+):(\d+) api=\S+(?: \w+=\S+:(\d+))?", ready.strip())
        if not found:
            raise BrokerError(f"rookery said {ready!r} instead of where it listens{_last_words(process)}")
        ports = {transport: int(found[3])} if found[3] else {}
        yield Broker("rookery", found[1], int(found[2]), process.pid, ports)


@contextlib.contextmanager
def running(address: str) -> Iterator[Broker]:
    """A broker that runs already: HOST:PORT, or HOST:PORT@PID to have its CPU time and memory, too."""
    place, _, pid = address.partition("@")
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or (pid and not pid.isdigit()):
        raise BrokerError(f"{address!r} is neither a known broker nor HOST:PORT nor HOST:PORT@PID")
    if pid and not Path(f"/proc/{pid}").exists():
        raise BrokerError(f"no process {pid}")
    yield Broker(place, host, int(port), int(pid) if pid else None)


LAUNCHERS: dict[str, Callable[[Sequence[int] | None, Transport], contextlib.AbstractContextManager[Broker]]] = {
    "mosquitto": mosquitto,
    "rookery": lambda cpus, transport: rookery(cpus, transport=transport),
}


def launch(
    name: str, cpus: Sequence[int] | None = None, transport: Transport = Transport.TCP
) -> contextlib.AbstractContextManager[Broker]:
    """The broker of this name, started on these CPUs, or the one that runs at this address."""
    launcher = LAUNCHERS.get(name)
    return launcher(cpus, transport) if launcher else running(name)


def version(name: str) -> str:
    """What the broker says about its version."""
    if name == "mosquitto":
        # mosquitto ends with an error code after its help.
        told = subprocess.run([_find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
        return told.partition("\n")[0].removeprefix("mosquitto version ").strip()
    if name == "rookery":
        try:
            return metadata.version("rookery")
        except metadata.PackageNotFoundError:
            return "not installed"
    return "unknown"


def _find_mosquitto() -> str:
    # Debian installs it into /usr/sbin, which is not on everybody's path.
    program = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if program is None:
        raise BrokerError("mosquitto is not installed (Debian package mosquitto)")
    return program


@contextlib.contextmanager
def _started(command: Sequence[str], cpus: Sequence[int] | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the context, or with us if killed; `_last_words` tells what it wrote to stderr."""
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "TERM", "--", *command]
    with tempfile.TemporaryFile() as complaints:
        with on_cpus(cpus):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
            )
        process.stderr = complaints
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def _last_words(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    process.stderr.seek(0)
    said = process.stderr.read().decode(errors="replace").strip()
    return f"; it complained:\n{said[-2000:]}" if said else ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until somebody accepts at this port."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BrokerError(f"{process.args!r} ended with code {process.returncode}{_last_words(process)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise BrokerError(f"{process.args!r} accepted no connection within {START_TIMEOUT_S} s{_last_words(process)}")


def _read_line(process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """The first line that the process writes."""
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        if not readable:
            raise BrokerError(f"{process.args!r} was not ready within {timeout_s} s{_last_words(process)}")
        # Unbuffered, so that select sees what is left.
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            process.wait(STOP_TIMEOUT_S)
            raise BrokerError(f"{process.args!r} ended with code {process.returncode}{_last_words(process)}")
        line += piece
    return line.decode(errors="replace")
