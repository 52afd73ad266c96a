"""`python -m rookery.bench.afterwards`: what a busy time leaves behind in the memory of the broker.

Runs scenarios one after the other, each against a broker that has just been started, and reads its resident memory
before, at the end of the busy time, and for so many seconds after everybody has gone.
"""

import time
from dataclasses import dataclass

import click

from .brokers import Broker, on_cpus, rookery
from .measure import Times, measure
from .scenarios import SCENARIOS, Scenario

MIB = 2**20
DEFAULT_SCENARIOS = ("fanout-1000-q1", "replay-queued-q1", "retained-100k", "filters-100k")


@dataclass(frozen=True)
class Afterwards:
    """Bytes of resident memory; later: seconds after the end of the busy time, and what was left then."""

    before: int
    busy: int
    later: dict[float, int]


def resident(broker: Broker) -> int:
    """Resident memory of a broker that was started here, bytes."""
    found = broker.resident_bytes()
    assert found is not None
    return found


def measure_afterwards(scenario: Scenario, broker: Broker, times: Times, looks_s: tuple[float, ...]) -> Afterwards:
    """Run a scenario and look at the memory of the broker at these seconds after its end, in rising order."""
    before = resident(broker)
    figures = measure(scenario, broker, times)
    assert figures.resident_bytes is not None
    ended = time.monotonic()
    later = {}
    for look_s in looks_s:
        time.sleep(max(0.0, ended + look_s - time.monotonic()))
        later[look_s] = resident(broker)
    return Afterwards(before, int(figures.resident_bytes), later)


@click.command()
@click.option(
    "--scenario",
    "names",
    type=click.Choice(sorted(SCENARIOS)),
    multiple=True,
    default=DEFAULT_SCENARIOS,
    metavar="NAME",
)
@click.option(
    "--look", "looks_s", type=float, multiple=True, default=(1, 10, 130), show_default=True, metavar="SECONDS"
)
@click.option("--broker-cpu", type=int, multiple=True, metavar="CPU", help="Where the broker runs (repeat for more).")
@click.option("--load-cpu", type=int, multiple=True, metavar="CPU", help="Where the generator runs.")
def main(
    names: tuple[str, ...], looks_s: tuple[float, ...], broker_cpu: tuple[int, ...], load_cpu: tuple[int, ...]
) -> None:
    """Print a Markdown table, in MiB above what the broker had before."""
    looks_s = tuple(sorted(looks_s))
    click.echo("| case | before | busy | " + " | ".join(f"{look_s:g} s later" for look_s in looks_s) + " |")
    click.echo("|---|---:|---:|" + "---:|" * len(looks_s))
    for name in names:
        with rookery(broker_cpu) as broker, on_cpus(load_cpu):
            found = measure_afterwards(SCENARIOS[name], broker, Times(seconds=1, warm_up_s=0.3), looks_s)
        cells = [found.before / MIB, *((value - found.before) / MIB for value in (found.busy, *found.later.values()))]
        click.echo(f"| {name} | {cells[0]:.1f} | " + " | ".join(f"{cell:+.1f}" for cell in cells[1:]) + " |")


if __name__ == "__main__":
    main()
