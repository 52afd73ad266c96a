"""Commands for API keys. They work on the admin database of a data directory, also while a broker uses it."""

import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rookery.server.exit_code import ExitCode

from .data_commands import DIRECTORY, explained

if TYPE_CHECKING:
    from rookery.server.store import Store

DAY_S = 86_400

_Result = TypeVar("_Result")


def _in_store(directory: Path, work: Callable[["Store"], Awaitable[_Result]]) -> _Result:
    """What work gives on the store of a data directory."""
    import trio

    from rookery.server.store import open_store

    async def run() -> _Result:
        async with open_store(directory) as store:
            return await work(store)

    return trio.run(run)


@click.group("api-key")
def api_key() -> None:
    """Make, list and revoke keys of the HTTP API."""


_DATA = click.option("--data", "directory", metavar="DIR", type=DIRECTORY, required=True, help="The data directory.")


@api_key.command()
@click.argument("name")
@_DATA
@click.option("--role", type=click.Choice(["viewer", "publisher", "admin"]), required=True, help="What the key is for.")
@click.option("--tenant", metavar="TENANT", help="The only tenant that the key is for; without it, all.")
@click.option("--days", type=click.IntRange(min=1, max=36_500), metavar="N", help="The key expires after so many days.")
@explained
def create(name: str, directory: Path, role: str, tenant: str | None, days: int | None) -> int:
    """Make a key and print it. It is shown only now: what is kept is a digest."""
    if not name.strip() or tenant == "":
        raise click.UsageError("the name of a key, and that of a tenant, may not be empty")
    expires_at_s = None if days is None else int(time.time()) + days * DAY_S

    async def make(store: "Store") -> str:
        key, _ = await store.api_keys.create(name, role=role, tenant_id=tenant, expires_at_s=expires_at_s)
        return key

    click.echo(_in_store(directory, make))
    return ExitCode.OK


@api_key.command("list")
@_DATA
@click.option("--json", "is_json", is_flag=True, help="For programs.")
@explained
def list_keys(directory: Path, is_json: bool) -> int:
    """Print all keys, the oldest first; not the keys themselves, which nobody has but their owners."""
    from rookery.server.store import ApiKey

    async def read(store: "Store") -> list[ApiKey]:
        return await store.api_keys.all()

    for key in _in_store(directory, read):
        expires = None if key.expires_at_s is None else datetime.fromtimestamp(key.expires_at_s, UTC).isoformat()
        if is_json:
            row = {"id": key.key_id, "name": key.name, "role": key.role, "tenant": key.tenant_id, "expires": expires}
            click.echo(json.dumps(row))
        else:
            state = "expired" if key.is_expired(time.time()) else f"until {expires}" if expires else "for ever"
            click.echo(f"{key.key_id}  {key.role:<9}  {key.tenant_id or '(all tenants)'}  {state}  {key.name}")
    return ExitCode.OK


@api_key.command()
@click.argument("key_id", metavar="ID")
@_DATA
@explained
def revoke(key_id: str, directory: Path) -> int:
    """Take a key away. A broker that runs refuses it after 2 seconds at the latest."""

    async def remove(store: "Store") -> bool:
        return await store.api_keys.remove(key_id)

    if not _in_store(directory, remove):
        raise click.UsageError(f"there is no key {key_id}; `rookery api-key list` shows all")
    return ExitCode.OK
