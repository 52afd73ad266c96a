"""The command line, and the place where the process is put together.

Nothing heavy is imported before it is known that something will be served: `--help`, `--version` and a mistyped option
answer at once.
"""

import importlib.metadata
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rookery.server.exit_code import ExitCode

from .data_commands import backup, log_commands, repair, restore
from .key_commands import api_key

if TYPE_CHECKING:
    from rookery.server.address import Address
    from rookery.server.broker import Broker
    from rookery.server.config_sources import LoadedConfig

_FLAGS = {  # option -> key path of the configuration
    "--mqtt": ("mqtt", "bind"),
    "--api": ("api", "bind"),
    "--data": ("data", "dir"),
    "--shards": ("shards", "count"),
    "--insecure": ("insecure",),
    "--log-level": ("log", "level"),
}


def _version() -> str:
    versions = {}
    for package in ("rookery", "trio"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "(not installed)"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"rookery {versions['rookery']} (Python {python}, trio {versions['trio']})"


def _print_version(context: click.Context, parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(_version())
        context.exit()


def _configuration_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `serve` and `check` share; each overrides one key of the configuration."""
    for option in reversed(
        (
            click.option("--config", "-c", type=click.Path(path_type=Path), help="Configuration file (TOML)."),
            click.option("--mqtt", metavar="HOST:PORT", help="Address of MQTT over TCP; port 0 takes a free one."),
            click.option("--api", metavar="HOST:PORT", help="Address of the HTTP API; port 0 takes a free one."),
            click.option("--data", metavar="DIR", help="Directory of durable data, or 'memory'; else the user's own."),
            click.option("--shards", type=int, metavar="N", help="Threads that carry messages."),
            click.option("--insecure", is_flag=True, help="Let other machines in without authentication."),
            click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
        )
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it.")
def rookery() -> None:
    """Rookery: an MQTT broker for many tenants."""


@rookery.command()
@_configuration_options
def serve(config: Path | None, **options: Any) -> int:
    """Run the broker until SIGTERM or SIGINT."""
    loaded = _load(config, options)

    from rookery.server.log import configure_log
    from rookery.server.serve import run

    configure_log(loaded.config.log.level, loaded.config.log.format)
    return run(loaded.config, _open_front, {"version": _version(), "config_file": str(loaded.file or "none")})


@rookery.command()
@_configuration_options
def check(config: Path | None, **options: Any) -> int:
    """Print the configuration that would be in force, with the place each value comes from."""
    loaded = _load(config, options)

    from rookery.server.auth.key_set import KeySetError
    from rookery.server.auth.opening import check_jwt
    from rookery.server.auth.password_file import PasswordFileError, read_passwords
    from rookery.server.permissions import RulesFileError, check_permissions
    from rookery.server.store import StoreError, check_store

    try:
        check_store(loaded.config.data.directory)
        check_permissions(loaded.config.permissions)
        if "password-file" in loaded.config.authentication.chain:
            read_passwords(Path(loaded.config.authentication.password_file))
        if "jwt" in loaded.config.authentication.chain:
            check_jwt(loaded.config.jwt)
    except (RulesFileError, PasswordFileError, KeySetError, StoreError) as error:
        raise UnusableConfig(str(error)) from error
    click.echo(loaded.print(), nl=False)
    return 0


@rookery.command("scram-credential")
@click.option("--iterations", type=int, metavar="N", help="What guessing costs, and the client; at least 4096.")
def scram_credential(iterations: int | None) -> int:
    """Print the line of section [scram] for a password, which is asked for or is the first line of standard input."""
    from rookery.server.auth.scram import DEFAULT_ITERATIONS, ScramCredential

    password = _ask_for_password()
    try:
        credential = ScramCredential.of_password(
            password, iterations=DEFAULT_ITERATIONS if iterations is None else iterations
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(credential.print())
    return 0


@rookery.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("username", metavar="TENANT/USER")
@click.option("--remove", is_flag=True, help="Take the user out.")
def passwd(file: Path, username: str, remove: bool) -> int:
    """Set the password of a user in a password file, which is made if there is none.

    The password is asked for, or is the first line of standard input. A broker that runs reads the file at SIGHUP.
    """
    from rookery.server.auth.password_file import PasswordFileError, edit_passwords
    from rookery.server.auth.passwords import hash_password

    try:
        edit_passwords(file, {username: None if remove else hash_password(_ask_for_password())})
    except KeyError:
        raise click.UsageError(f"{file} has no user {username}") from None
    except (PasswordFileError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    return 0


def _ask_for_password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return password
    return sys.stdin.readline().rstrip("\r\n")


rookery.add_command(log_commands)
rookery.add_command(repair)
rookery.add_command(backup)
rookery.add_command(restore)
rookery.add_command(api_key)


class UnusableConfig(click.ClickException):
    """Ends a command with the problems of the configuration."""

    exit_code = ExitCode.CONFIG


class DeniedConfigFile(click.ClickException):
    """Ends a command because the configuration file is somebody else's."""

    exit_code = ExitCode.PERMISSION


def _load(file: Path | None, options: dict[str, Any]) -> "LoadedConfig":
    """The configuration, or an exit with all of its problems, one a line."""
    from rookery.server.config_sources import ConfigError, load_config
    from rookery.server.data_directory import user_directory

    given = {flag: options[flag.removeprefix("--").replace("-", "_")] for flag in _FLAGS}
    flags = {_FLAGS[flag]: value for flag, value in given.items() if value is not None and value is not False}
    own = user_directory(os.environ)
    defaults = {} if own is None else {_FLAGS["--data"]: str(own)}
    try:
        return load_config(file, flags, {path: flag for flag, path in _FLAGS.items()}, defaults=defaults)
    except ConfigError as error:
        failure = DeniedConfigFile if isinstance(error.__cause__, PermissionError) else UnusableConfig
        raise failure("\n".join(map(str, error.problems))) from error


@asynccontextmanager
async def _open_front(broker: "Broker", listener: socket.socket) -> AsyncIterator["Address"]:
    """The HTTP side of the process."""
    from rookery.server.listeners import address_of

    from .app import create_app
    from .http_server import open_http_server
    from .key_ring import KeyRing, check_keys

    section = broker.config.api
    keys = KeyRing(broker.store.api_keys, section.admin_key.get_secret_value())
    await check_keys(keys, broker.config)
    app = create_app(broker, section, keys)
    async with open_http_server(app, section, listener, broker.tls_contexts.get("api")):
        yield address_of(listener)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; what to tell the caller of the process. Errors are one line each, without a traceback."""
    try:
        return int(rookery.main(args=arguments, prog_name="rookery", standalone_mode=False) or ExitCode.OK)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        for line in error.format_message().splitlines():
            click.echo(f"rookery: {line}", err=True)
        return error.exit_code
    except click.Abort:
        return ExitCode.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
