"""Commands for a data directory: looking into its log, repairing it, backing it up."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import click

from rookery.server.exit_code import ExitCode

DIRECTORY = click.Path(path_type=Path, file_okay=False)
_Given = ParamSpec("_Given")


class Failed(click.ClickException):
    """Ends a command, one line for each thing that is wrong."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # of this error, not of the class


def explained(command: Callable[_Given, int]) -> Callable[_Given, int]:
    """Turn what may be wrong with a data directory into the end of the command."""

    @functools.wraps(command)
    def run(*given: _Given.args, **named: _Given.kwargs) -> int:
        from rookery.core.log.errors import LogError
        from rookery.server.backup import BackupError, TargetError
        from rookery.server.data_directory import DataDirectoryError, DataDirectoryInUse, NoDataDirectory
        from rookery.server.store import StoreCorrupt, StoreError, StoreLocked

        try:
            return command(*given, **named)
        except (NoDataDirectory, TargetError) as error:
            raise Failed(str(error), ExitCode.USAGE) from error
        except (DataDirectoryInUse, StoreLocked) as error:
            raise Failed(str(error), ExitCode.UNAVAILABLE) from error
        except (LogError, BackupError, StoreCorrupt) as error:
            raise Failed(str(error), ExitCode.DATA) from error
        except (DataDirectoryError, StoreError) as error:
            raise Failed(str(error), ExitCode.PERMISSION) from error
        except OSError as error:
            raise Failed(f"{error.filename}: {error.strerror}", ExitCode.PERMISSION) from error

    return run


@click.group("log")
def log_commands() -> None:
    """Look into the durable log of a data directory."""


@log_commands.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--json", "is_json", is_flag=True, help="For programs.")
@explained
def info(directory: Path, is_json: bool) -> int:
    """Print what the log holds: segments, commits, records by kind, damage. Also while a broker runs."""
    from rookery.server.log_report import read_log_report

    report = read_log_report(directory, is_live_allowed=True)
    click.echo(json.dumps(report.to_json(), indent=2) if is_json else report.print())
    return ExitCode.OK


@log_commands.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@explained
def verify(directory: Path) -> int:
    """Read every byte of the log and end with 65 when something in it is damaged or missing; name file and offset.

    No broker may run on it. A commit at the end that was not finished is no damage: nobody was promised anything of it.
    """
    from rookery.server.log_report import read_log_report

    report = read_log_report(directory)
    if report.is_damaged:
        raise Failed("\n".join([*report.print_damage(), "`rookery repair` saves the rest"]), ExitCode.DATA)
    click.echo("\n".join([f"good: {report.print_summary()}", *report.print_torn()]))
    return ExitCode.OK


@log_commands.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@explained
def compact(directory: Path) -> int:
    """Write what is alive in the log anew and remove the rest. No broker may run on it.

    A broker does the same by itself as its log grows; this gives the space back now.
    """
    from rookery.server.compaction import compact_log

    done = compact_log(directory)
    click.echo(f"{done.bytes_before} bytes before, {done.bytes_after} bytes now")
    return ExitCode.OK


@click.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@explained
def repair(directory: Path) -> int:
    """Make a whole log of what can be read of a damaged one, and say what is lost. No broker may run on it.

    The damaged log stays, as DIR/log.damaged-TIME.
    """
    from rookery.server.repair import repair_log

    done = repair_log(directory)
    if done.set_aside is None:
        click.echo(f"nothing to repair: {done.found.print_summary()}")
        return ExitCode.OK
    for line in (*done.found.print_damage(), *done.found.print_torn()):
        click.echo(line)
    click.echo(f"saved {done.saved_records} records, lost {done.lost_bytes} bytes")
    click.echo(f"the damaged log is now {done.set_aside}")
    return ExitCode.OK


@click.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.argument("target", type=DIRECTORY)
@click.option("--link", is_flag=True, help="Hard links instead of copies of what is never written to again.")
@explained
def backup(directory: Path, target: Path, link: bool) -> int:
    """Copy the log and the admin database to a new directory, also while a broker uses them.

    Everything that was acknowledged before is in the copy, which is read again and checked.
    """
    from rookery.server.backup import back_up

    made = back_up(directory, target, is_linked=link)
    click.echo(f"backup {made.directory}: {len(made.files)} files, {made.size} bytes")
    return ExitCode.OK


@click.command()
@click.argument("source", metavar="BACKUP", type=DIRECTORY)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@explained
def restore(source: Path, directory: Path) -> int:
    """Make a data directory of a backup, which stays. DIR must be new, or hold neither log nor admin database."""
    from rookery.server.backup import restore_backup

    restored = restore_backup(source, directory)
    click.echo(f"data directory {directory}: {len(restored.files)} files, {restored.size} bytes restored")
    return ExitCode.OK
