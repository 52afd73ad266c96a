"""`python -m rookery.bench`: compare brokers, or measure the load generator itself."""

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

import click

from . import compare, plots, sweeps
from .brokers import LAUNCHERS, on_cpus
from .measure import Times, measure_ceiling
from .plan import Traffic
from .scenarios import SCENARIOS

QUICK_ROUNDS = 2
QUICK_SECONDS = 1.0
# The ceiling: pairs and window. With one pair a round trip limits, with many the generator.
CEILINGS = ((1, 1000), (1, 4000), (100, 100), (100, 0))


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Alternating rounds.")
@click.option("--scenario", "names", multiple=True, metavar="NAME", help="Only this case (repeat for more).")
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="Measured time of a round.")
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS:g} s: to look, not to quote.")
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    default=("mosquitto", "rookery"),
    show_default=True,
    metavar="NAME",
    help=f"{', '.join(LAUNCHERS)}, or one that runs: HOST:PORT or HOST:PORT@PID. Two are compared, the first is the "
    "reference; one alone is measured.",
)
@click.option("--broker-cpu", type=int, multiple=True, metavar="CPU", help="Where brokers run (repeat for more).")
@click.option("--load-cpu", type=int, metavar="CPU", help="Where the generator runs.")
@click.option("--username", help="For brokers that ask who we are.")
@click.option("--password", help="For brokers that ask who we are.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all rounds here, too."
)
@click.option(
    "--report",
    "report_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Sweep load, connections, subscriptions and shards, too, and write tables, plots and all figures here.",
)
@click.option("--list", "is_listing", is_flag=True, help="Name the cases with their goals and stop.")
@click.option("--ceiling", "is_ceiling", is_flag=True, help="Measure the generator against a peer that only copies.")
def main(
    rounds: int,
    names: tuple[str, ...],
    seconds: float,
    quick: bool,
    brokers: tuple[str, ...],
    broker_cpu: tuple[int, ...],
    load_cpu: int | None,
    username: str | None,
    password: str | None,
    json_file: Path | None,
    report_folder: Path | None,
    is_listing: bool,
    is_ceiling: bool,
) -> None:
    """Compare MQTT brokers, side by side, in alternating rounds, and print a Markdown table.

    Ends with code 1 if a run was invalid: lost, doubled or reordered messages, or a broker that failed.
    """
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise click.BadParameter(f"no case {', '.join(unknown)}; --list names them", param_hint="--scenario")
    if len(brokers) > 2:
        raise click.BadParameter("one broker is measured, two are compared", param_hint="--broker")
    scenarios = [SCENARIOS[name] for name in names] or list(SCENARIOS.values())
    if is_listing:
        for scenario in scenarios:
            click.echo(f"{scenario.name:24} {', '.join(compare.describe(goal) for goal in scenario.goals)}")
        return
    if quick:
        rounds, seconds = min(rounds, QUICK_ROUNDS), min(seconds, QUICK_SECONDS)
    times = Times(seconds=seconds, warm_up_s=max(0.3, min(1.0, seconds / 2)))
    chosen = compare.Place.choose()
    place = compare.Place(broker_cpu or chosen.broker_cpus, chosen.load_cpu if load_cpu is None else load_cpu)
    # Brokers inherit it.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if is_ceiling:
        print_ceiling(times, place)
        return
    cases = compare.compare(
        scenarios,
        brokers,
        rounds=rounds,
        times=times,
        place=place,
        credentials={"username": username, "password": password},
        tell=lambda text: click.echo(text, err=True),
    )
    machine = compare.facts(brokers, place)
    told = [f"- {what}: {fact}" for what, fact in machine.items()]
    told += [f"- waited for a CPU that others had: {compare.disturbance(cases)}"]
    told += [f"- rounds: {rounds} of {seconds:g} s, medians\n", compare.table(cases, brokers)]
    text = "\n".join(told)
    click.echo(text)
    rows = compare.as_json(cases, brokers, machine) + "\n"
    if json_file:
        json_file.write_text(rows)
    if report_folder:
        report_folder.mkdir(parents=True, exist_ok=True)
        (report_folder / "rounds.json").write_text(rows)
        (report_folder / "comparison.md").write_text(text + "\n")
        write_sweeps(report_folder, brokers, place, times)
    if any(case.failures for case in cases):
        sys.exit(1)


def write_sweeps(folder: Path, names: tuple[str, ...], place: compare.Place, times: Times) -> None:
    """Sweep, and write sweeps.md, sweeps.json and the plots; without matplotlib there are no plots, which is told."""
    found = sweeps.sweep(names, place, times, lambda text: click.echo(text, err=True))
    (folder / "sweeps.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
    try:
        drawn = plots.write_plots(found, folder)
    except plots.NoPlots as error:
        click.echo(str(error), err=True)
        drawn = []
    text = "\n\n".join([sweeps.tables(found), *(f"![{path.stem}]({path.name})" for path in drawn)])
    (folder / "sweeps.md").write_text(text + "\n")
    click.echo(f"\n{text}\n\nwritten to {folder}")


def print_ceiling(times: Times, place: compare.Place) -> None:
    """What the generator reaches when the peer does nothing but copy."""
    click.echo("| pairs | window | messages/s | p50 ms | p99 ms | generator busy | waited for a CPU |")
    click.echo("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with on_cpus((place.load_cpu,) if place.load_cpu is not None else None):
        for pairs, window in CEILINGS:
            cpu = place.broker_cpus[0] if place.broker_cpus else None
            figures = measure_ceiling(pairs, Traffic(window=window), times, cpu=cpu)
            click.echo(
                f"| {pairs} | {window or 'none'} | {compare.amount(figures.rate)} | {compare.number(figures.p50_ms)} "
                f"| {compare.number(figures.p99_ms)} | {compare.number(figures.load_percent)} % "
                f"| {compare.number(figures.load_wait_percent)} % |"
            )


if __name__ == "__main__":
    main(prog_name="python -m rookery.bench")
