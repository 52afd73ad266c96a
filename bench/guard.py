"""`python -m rookery.bench.guard`: has a change made the path of a message longer?

Counts the instructions of decode, match and deliver in this checkout and in the commit before, and ends with code 1
when one of them rose by more than RISE_PERCENT_MAX. The commit before is HEAD where files that are built have been
changed since, and else its parent; it is built in a worktree of its own that is removed again.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from .instructions import CannotCount, count_instructions

# What a rise may be. Two builds of one source differed by at most 0.1 %; two instructions more on the shortest of the
# paths, the encoder, are 1 %: a branch that a feature needs passes, a call or a copy more does not.
RISE_PERCENT_MAX = 2.0

ROOT = Path(__file__).resolve().parent.parent
BUILT = ("*.pyx", "*.pxd", "*.h", "setup.py")
# All that hot_paths.py imports, and what that imports.
MODULES = "core,bench/cases_wire,bench/topic_loops"


@dataclass(frozen=True)
class Change:
    """One path before and after; None where a checkout does not have it."""

    path: str
    before: float | None
    after: float | None

    @property
    def percent(self) -> float | None:
        """By how much it rose; negative when it fell."""
        if self.before is None or self.after is None:
            return None
        return 100 * (self.after / self.before - 1)

    def is_too_much(self, bound_percent: float) -> bool:
        """Whether the path rose by more than the bound, or is no longer counted, which would hide a rise."""
        return self.after is None or (self.percent is not None and self.percent > bound_percent)


def compare_counts(before: Mapping[str, float], after: Mapping[str, float]) -> list[Change]:
    """One change for each path of either, in the order of the newer one."""
    return [Change(path, before.get(path), after.get(path)) for path in dict.fromkeys([*after, *before])]


def table(changes: list[Change], bound_percent: float) -> str:
    """Instructions per operation as a Markdown table."""
    lines = ["| path | before | after | change | |", "|---|---:|---:|---:|---|"]
    for change in changes:
        before, after = ("-" if value is None else f"{value:.1f}" for value in (change.before, change.after))
        percent = "-" if change.percent is None else f"{change.percent:+.2f} %"
        verdict = "TOO MUCH" if change.is_too_much(bound_percent) else "new" if change.before is None else ""
        lines.append(f"| {change.path} | {before} | {after} | {percent} | {verdict} |")
    return "\n".join(lines)


def _git(*arguments: str) -> str:
    ended = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise CannotCount(f"git {' '.join(arguments)}: {ended.stderr.strip()}")
    return ended.stdout.strip()


def commit_before() -> str:
    """HEAD if built files differ from it, else its parent."""
    is_changed = bool(_git("status", "--porcelain", "--", *BUILT))
    return _git("rev-parse", "--verify", "HEAD" if is_changed else "HEAD^")


@contextmanager
def built(commit: str) -> Iterator[Path]:
    """A checkout of a commit, compiled in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rookery-guard-") as folder:
        checkout = Path(folder, "checkout")
        _git("worktree", "add", "--quiet", "--detach", str(checkout), commit)
        try:
            _compile(checkout)
            yield checkout
        finally:
            _git("worktree", "remove", "--force", str(checkout))


def _compile(checkout: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace", "--parallel", str(os.cpu_count() or 1)],
        cwd=checkout,
        env={**os.environ, "ROOKERY_MODULES": MODULES},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ended.returncode:
        raise CannotCount(f"{checkout} could not be built:\n{ended.stdout[-2000:]}")


@click.command()
@click.option("--against", metavar="COMMIT", help="Compare with this commit.  [default: the one before]")
@click.option("--bound", type=click.FloatRange(0), default=RISE_PERCENT_MAX, show_default=True, metavar="PERCENT")
def main(against: str | None, bound: float) -> None:
    """Fail when decode, match or deliver takes more instructions than in the commit before."""
    try:
        commit = _git("rev-parse", "--verify", f"{against}^{{commit}}") if against else commit_before()
        # First the short part, which tells what is missing.
        after = count_instructions(ROOT)
        click.echo(f"building {commit[:12]} ...", err=True)
        with built(commit) as checkout:
            before = count_instructions(checkout)
    except CannotCount as error:
        raise click.ClickException(str(error)) from error
    changes = compare_counts(before, after)
    click.echo(f"Instructions per operation, {commit[:12]} and this checkout; at most {bound:g} % more:\n")
    click.echo(table(changes, bound))
    risen = [change.path for change in changes if change.is_too_much(bound)]
    if risen:
        click.echo(f"\nToo much: {'; '.join(risen)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
