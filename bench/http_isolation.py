"""What HTTP at full rate does to MQTT: a calm tenant's latency alone, and while the API is kept busy.

    python -m rookery.bench.http_isolation

The broker has one CPU for everything. The calm tenant's clients trickle messages to each other on a schedule; another
process sends the next request on each of its connections as soon as it has the answer. The generator of MQTT goes first
on the other CPU; it mostly sleeps. Runs alone and beside HTTP take turns, and the medians of their p99 are compared.

The first row is the control: a loop that does nothing, on the broker's CPU and as nice as the thread of its API. What
it costs MQTT is the kernel's doing. With --apart that thread has the generator's CPU and the shard its own.

Other work on the machine is in all figures. The least p99 of all rounds is the nearest to what the broker does itself.
"""

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator

import click

from rookery.server.scheduling import SHARD_SLICE_NS, set_slice

from .brokers import on_cpus, rookery
from .http_load import BATCH, CONNECTIONS, HEALTH, PUBLISH, Connection, free_port, make_sessions, request_of
from .isolation import Calm, go_first, watch

ROUNDS = 3
YIELDING = 15  # The generator of MQTT, which mostly sleeps, goes first.
LINES = b'{"topic":"a/b","payload":"hello","qos":0}\n' * BATCH

REQUESTS = {  # name -> the request, and over how many connections it is sent
    "GET /healthz": (HEALTH, CONNECTIONS),
    "POST /pub": (PUBLISH, CONNECTIONS),
    f"batches of {BATCH}": (
        request_of("POST", "/v1/tenants/acme/publish/batch", LINES, "application/x-ndjson"),
        2,
    ),
    "pages of 1000 sessions": (request_of("GET", "/v1/tenants/acme/sessions?limit=1000"), 2),
    "explain": (request_of("GET", "/v1/tenants/acme/explain?topic=a/b&user_id=u&client_id=c1"), CONNECTIONS),
}


CONTROL = "a busy loop"
_LOOP = """
import os, sys
from rookery.server.scheduling import set_slice
set_slice(0)
os.sched_setaffinity(0, [int(sys.argv[1])])
os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[2]))
print(flush=True)
while True:
    pass
"""


@contextlib.contextmanager
def busy_loop(cpu: int, niceness: int) -> Iterator[list[int]]:
    """Another process that never sleeps while the block runs; the list is that of answers, of which it has none."""
    with subprocess.Popen([sys.executable, "-c", _LOOP, str(cpu), str(niceness)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield [0]
        finally:
            process.kill()


def hit(port: int, name: str) -> int:
    """Send the request without a pause until standard input ends; how many answers there were."""
    os.nice(YIELDING)
    set_slice(0)
    request, connection_count = REQUESTS[name]
    is_over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        is_over.set()

    connections = [Connection(port) for _ in range(connection_count)]
    for connection in connections:
        connection.ask(request)
    print("ready", flush=True)
    threading.Thread(target=wait_for_end, daemon=True).start()
    count = 0
    for connection in connections:
        connection.send(request)
    while not is_over.is_set():
        for connection in connections:
            connection.receive()
            connection.send(request)
        count += len(connections)
    for connection in connections:
        connection.receive()
        connection.close()
    return count


@contextlib.contextmanager
def hits(port: int, name: str) -> Iterator[list[int]]:
    """Another process that hits the API while the block runs; then the list has how many answers it got."""
    command = [sys.executable, "-m", "rookery.bench.http_isolation", "--hit", name, "--port", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{name}: the requests could not be sent")
        count: list[int] = []
        try:
            yield count
        finally:
            count.append(int(process.communicate()[0] or 0))


def _row(name: str, answers: float, runs: list[Calm], alone_p99_ms: float) -> str:
    p50_ms, p99_ms, max_ms = (
        statistics.median(getattr(run, figure) for run in runs) for figure in ("p50_ms", "p99_ms", "max_ms")
    )
    least_ms = min(run.p99_ms for run in runs)
    figures = f"{p50_ms:.2f} | {p99_ms:.2f} | {least_ms:.2f} | {max_ms:.1f} | {p99_ms / alone_p99_ms:.2f}"
    return f"| {name} | {answers:.0f} | {figures} |"


@click.command()
@click.option(
    "--request", "names", multiple=True, type=click.Choice([CONTROL, *REQUESTS]), help="Only this (repeatable)."
)
@click.option("--clients", default=100, show_default=True, help="Of the calm tenant.")
@click.option("--rate", default=1000, show_default=True, help="Messages per second of the calm tenant.")
@click.option("--seconds", default=3.0, show_default=True, help="Measured time of each run.")
@click.option("--sessions", type=click.IntRange(1), default=10_000, show_default=True, help="In the list.")
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True, help="Of each, in turn.")
@click.option("--apart", is_flag=True, help="Give the thread of the API the generator's CPU.")
@click.option("--hit", "hit_name", default="", hidden=True)
@click.option("--port", default=0, hidden=True)
def main(
    names: tuple[str, ...],
    clients: int,
    rate: int,
    seconds: float,
    sessions: int,
    rounds: int,
    apart: bool,
    hit_name: str,
    port: int,
) -> None:
    """Measure what HTTP at full rate does to the latency of MQTT."""
    if hit_name:
        click.echo(hit(port, hit_name))
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cpus = sorted(os.sched_getaffinity(0))
    port = free_port()
    with rookery(cpus[-1:], ("--api", f"127.0.0.1:{port}")) as broker, on_cpus(cpus[:1]):
        make_sessions(broker, sessions)
        if broker.pid is None:
            raise RuntimeError("the broker's process is not known")
        if apart:
            os.sched_setaffinity(broker.pid, cpus[:1])  # The main thread alone: it has the number of the process.
        niceness = os.getpriority(os.PRIO_PROCESS, broker.pid)
        click.echo("| beside it | answers/s | p50 ms | p99 ms | least p99 ms | max ms | p99 by that alone |")
        click.echo("|---|---:|---:|---:|---:|---:|---:|")
        for name in names or (CONTROL, *REQUESTS):
            alone, beside, answers = [], [], []
            for _ in range(rounds):
                alone.append(watch(broker, clients, rate, seconds))
                with busy_loop(cpus[-1], niceness) if name == CONTROL else hits(port, name) as count:
                    beside.append(watch(broker, clients, rate, seconds))
                answers.append(count[0] / seconds)
            alone_p99_ms = statistics.median(run.p99_ms for run in alone)
            click.echo(_row("nothing", 0, alone, alone_p99_ms))
            click.echo(_row(name, statistics.median(answers), beside, alone_p99_ms))


if __name__ == "__main__":
    if "--hit" not in sys.argv:
        go_first()
        set_slice(SHARD_SLICE_NS)  # The requests of the other process must not hold the measuring one up.
    main(prog_name="python -m rookery.bench.http_isolation")
