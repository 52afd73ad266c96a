"""What a tenant costs in memory, beyond its clients.

    python -m rookery.bench.tenants

As many clients with a subscription each are connected to two brokers: here all are of one tenant, there each ten have a
tenant of their own. The difference of resident memory is what the tenants cost.
"""

import contextlib
import resource
import socket
from collections.abc import Iterator
from statistics import median

import click

from .brokers import Broker, on_cpus, rookery
from .measure import SPARE_DESCRIPTORS
from .noise import connect, subscribe

CLIENTS_EACH = 10
_ANSWERS_SIZE = 4 + 5  # CONNACK and SUBACK of 3.1.1


@contextlib.contextmanager
def connected(broker: Broker, count: int, clients_each: int) -> Iterator[None]:
    """So many clients, clients_each of a tenant, that have their answers."""
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(count):
            connection = stack.enter_context(socket.create_connection((broker.host, broker.port)))
            tenant, client = divmod(number, clients_each)
            connection.sendall(connect(f"tenant{tenant}/user", f"client{client}") + subscribe("a/b"))
            connections.append(connection)
        for connection in connections:
            missing = _ANSWERS_SIZE
            while missing:
                missing -= len(connection.recv(missing)) or missing
        yield


def resident_bytes(count: int, clients_each: int, cpu: int) -> int:
    """Resident memory that so many clients add to a fresh broker."""
    with rookery([cpu]) as broker:
        with connected(broker, CLIENTS_EACH, CLIENTS_EACH):
            before = broker.resident_bytes()  # What is allocated once is there.
        with connected(broker, count, clients_each):
            after = broker.resident_bytes()
        if before is None or after is None:
            raise RuntimeError("the broker's memory cannot be seen")
        return after - before


@click.command()
@click.option("--tenants", default=1900, show_default=True, help="With ten clients each.")
@click.option("--rounds", default=5, show_default=True, help="Medians of so many: what Python leaves behind varies.")
@click.option("--broker-cpu", default=0, show_default=True)
@click.option("--load-cpu", default=1, show_default=True)
def main(tenants: int, rounds: int, broker_cpu: int, load_cpu: int) -> None:
    """Measure what a tenant costs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = tenants * CLIENTS_EACH
    if count + SPARE_DESCRIPTORS > most:
        raise click.UsageError(f"{most} open files are allowed, {count + SPARE_DESCRIPTORS} are needed")
    with on_cpus([load_cpu]):
        pairs = [
            (resident_bytes(count, count, broker_cpu), resident_bytes(count, CLIENTS_EACH, broker_cpu))
            for _ in range(rounds)
        ]
    together, apart = (median(column) for column in zip(*pairs, strict=True))
    click.echo(f"{count} clients of one tenant: {together / count:.0f} bytes a client")
    click.echo(f"{count} clients of {tenants} tenants: {apart / count:.0f} bytes a client")
    costs = sorted((each_apart - each_together) / tenants for each_together, each_apart in pairs)
    click.echo(f"a tenant: {median(costs):.0f} bytes, {costs[0]:.0f} to {costs[-1]:.0f}")


if __name__ == "__main__":
    main(prog_name="python -m rookery.bench.tenants")
