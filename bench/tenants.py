"""What a tenant costs in memory, beyond its clients.

    python -m rookery.bench.tenants

As many clients with a subscription each are connected to two brokers: here all are of one tenant, there each ten have a
tenant of their own. The difference of resident memory is what the tenants cost. As many came before them, after whom
Python has as much memory in reserve as it takes to let that many in. What a tenant finds in that reserve does not show
there, so the same is done in this process with clients without sockets, where the allocator counts exactly.
"""

import contextlib
import ctypes
import resource
import socket
from collections.abc import Iterator
from statistics import median

import click

from rookery.core.engine import Engine
from rookery.core.events import ConnectRequested

from .brokers import Broker, on_cpus, rookery
from .measure import SPARE_DESCRIPTORS
from .noise import connect, subscribe

CLIENTS_EACH = 10
_ANSWERS_SIZE = 4 + 5  # CONNACK and SUBACK of 3.1.1


@contextlib.contextmanager
def connected(broker: Broker, count: int, clients_each: int, prefix: str) -> Iterator[None]:
    """So many clients, clients_each of a tenant, that have their answers."""
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(count):
            connection = stack.enter_context(socket.create_connection((broker.host, broker.port)))
            tenant, client = divmod(number, clients_each)
            connection.sendall(connect(f"{prefix}{tenant}/user", f"client{client}") + subscribe("a/b"))
            connections.append(connection)
        for connection in connections:
            missing = _ANSWERS_SIZE
            while missing:
                missing -= len(connection.recv(missing)) or missing
        yield


def resident_bytes(count: int, clients_each: int, cpu: int) -> int:
    """Resident memory that so many clients add to a fresh broker."""
    with rookery([cpu]) as broker:
        with connected(broker, count, clients_each, "first"):
            before = broker.resident_bytes()  # What is allocated once is there.
            with connected(broker, count, clients_each, "second"):
                after = broker.resident_bytes()
        if before is None or after is None:
            raise RuntimeError("the broker's memory cannot be seen")
        return after - before


class _HeapInfo(ctypes.Structure):
    """struct mallinfo2 of the C library."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def allocated_bytes(count: int, clients_each: int) -> int:
    """What the shard of a new engine allocates for so many clients with a subscription each."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _HeapInfo
    engine = Engine(shard_count=1)
    before = library.mallinfo2()
    for number in range(count):
        tenant, client = divmod(number, clients_each)
        link = engine.connect_memory(0)
        engine.feed(link, connect(f"tenant{tenant:06d}/user", f"client{client:06d}"))
        engine.turn(0, 1000)
        for event in engine.take_events(0):
            if isinstance(event, ConnectRequested):
                engine.admit(event.connection, tenant_id=f"tenant{tenant:06d}", user_id="user")
        engine.feed(link, subscribe("a/b"))
        engine.turn(0, 1000)
        if len(engine.collect(link)) != _ANSWERS_SIZE:
            raise RuntimeError(f"client {number} was not let in")
    after = library.mallinfo2()
    engine.close()
    return int(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd)


@click.command()
@click.option("--tenants", default=950, show_default=True, help="With ten clients each, after as many others.")
@click.option("--rounds", default=5, show_default=True, help="Medians of so many: what Python leaves behind varies.")
@click.option("--broker-cpu", default=0, show_default=True)
@click.option("--load-cpu", default=1, show_default=True)
def main(tenants: int, rounds: int, broker_cpu: int, load_cpu: int) -> None:
    """Measure what a tenant costs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = tenants * CLIENTS_EACH
    if 2 * count + SPARE_DESCRIPTORS > most:
        raise click.UsageError(f"{most} open files are allowed, {2 * count + SPARE_DESCRIPTORS} are needed")
    with on_cpus([load_cpu]):
        pairs = [
            (resident_bytes(count, count, broker_cpu), resident_bytes(count, CLIENTS_EACH, broker_cpu))
            for _ in range(rounds)
        ]
    together, apart = (median(column) for column in zip(*pairs, strict=True))
    click.echo(f"{count} clients of one tenant: {together / count:.0f} bytes a client")
    click.echo(f"{count} clients of {tenants} tenants: {apart / count:.0f} bytes a client")
    costs = sorted((each_apart - each_together) / tenants for each_together, each_apart in pairs)
    click.echo(f"a tenant: {median(costs):.0f} bytes of resident memory, {costs[0]:.0f} to {costs[-1]:.0f}")
    allocated = (allocated_bytes(count, CLIENTS_EACH) - allocated_bytes(count, count)) / tenants
    click.echo(f"a tenant: {allocated:.0f} bytes allocated by a shard")


if __name__ == "__main__":
    main(prog_name="python -m rookery.bench.tenants")
