"""The process: its listeners, plugins, log level, audit log, and backups of its data directory."""

import logging
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import trio
from pydantic import Field
from quart import Blueprint, Response, jsonify
from quart_schema import document_querystring, document_request, document_response, tag_blueprint

from rookery.api.answers import RequestRefused
from rookery.api.key_ring import KeyRing
from rookery.api.problems import InvalidFields
from rookery.api.rights import Right, needs
from rookery.server.admin_data import restore_admin_data
from rookery.server.backup import BackupError, TargetError, back_up
from rookery.server.broker import Broker
from rookery.server.config_listeners import ApiSection
from rookery.server.data_directory import DataDirectoryError
from rookery.server.store import AuditEntry

from .reading import NAME_LENGTH_MAXIMUM, Model, PageQuery, encode_cursor, expect_no_body, read_json, read_query

LEVELS = ("debug", "info", "warning", "error")
NAME_OF_BACKUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER_SIZE = 8


class Listener(Model):
    """Where clients come in."""

    name: str
    kind: str
    address: str
    handshakes: int | None = Field(description="under way; null where the shards accept by themselves")
    admitted: int | None
    failed: int | None
    turned_away: int | None


class ListenerList(Model):
    """All listeners."""

    items: list[Listener]
    next: None


class Plugin(Model):
    """How a plugin is doing."""

    name: str
    points: list[str] = Field(description="what it serves")
    is_open: bool = Field(description="the breaker: it is not called at present")
    calls: int
    failures: int
    timeouts: int
    rejected: int
    events_dropped: int


class PluginList(Model):
    """All plugins."""

    items: list[Plugin]
    next: None


class LogLevel(Model):
    """What goes to the log at least."""

    level: Literal["debug", "info", "warning", "error"]


class AuditQuery(PageQuery):
    """Which entries."""

    tenant_id: str = Field(default="", max_length=NAME_LENGTH_MAXIMUM, description="about this tenant only")


class Entry(Model):
    """Something that was changed, or refused."""

    entry_id: int
    at_s: int = Field(description="seconds of the epoch")
    actor: str
    action: str
    tenant_id: str | None
    target: str
    detail: dict[str, Any]


class EntryPage(Model):
    """A page of the audit log, the newest first."""

    items: list[Entry]
    next: str | None = Field(description="cursor of the next page; null behind the last")


class NewBackup(Model):
    """What it is to be called."""

    name: str = Field(default="", max_length=100, description="of the folder; empty = by the time")


class StatedBackup(Model):
    """A backup that is whole; `rookery restore` puts it back."""

    directory: str
    files: int
    bytes: int
    created_at_ms: int


class RestoredRows(Model):
    """How many there are now of each."""

    users: int
    rules: int
    settings: int = Field(description="of tenants, each counted")
    api_keys: int
    bans: int


def create_server(broker: Broker, section: ApiSection, keys: KeyRing) -> Blueprint:
    """The resource."""
    resource = Blueprint("v1_server", __name__, url_prefix="/v1")
    tag_blueprint(resource, ["server"])

    @resource.get("/listeners")
    @needs(Right.READ)
    @document_response(ListenerList)
    async def listeners() -> Response:
        """List where clients come in."""
        items: list[dict[str, Any]] = [_describe_listener("mqtt", "tcp", str(broker.mqtt_address), None)]
        for name, address in broker.addresses.items():
            entrance = broker.entrances.get(name)
            items.append(_describe_listener(name, broker.config.listeners[name].kind, str(address), entrance))
        return jsonify({"items": items, "next": None})

    @resource.get("/plugins")
    @needs(Right.READ)
    @document_response(PluginList)
    async def plugins() -> Response:
        """List the plugins and how they are doing."""
        items = [
            {
                "name": state.name,
                "points": list(state.points),
                "is_open": state.is_open,
                "calls": state.counters.calls,
                "failures": state.counters.failures,
                "timeouts": state.counters.timeouts,
                "rejected": state.counters.rejected,
                "events_dropped": state.events_dropped,
            }
            for state in broker.plugins.states
        ]
        return jsonify({"items": items, "next": None})

    @resource.get("/log-level")
    @needs(Right.READ)
    @document_response(LogLevel)
    async def log_level() -> Response:
        """Show what goes to the log at least."""
        return jsonify({"level": _level()})

    @resource.put("/log-level")
    @needs(Right.WRITE)
    @document_request(LogLevel)
    @document_response(LogLevel)
    async def put_log_level() -> Response:
        """Change what goes to the log at least, until the process ends."""
        given = await read_json(LogLevel, section)
        logging.getLogger().setLevel(given.level.upper())
        return jsonify({"level": given.level})

    @resource.get("/audit")
    @needs(Right.READ)
    @document_querystring(AuditQuery)
    @document_response(EntryPage)
    async def audit() -> Response:
        """List what was changed over HTTP, and by whom, the newest first."""
        query = read_query(AuditQuery)
        if query.place and len(query.place) != _NUMBER_SIZE:
            raise InvalidFields([("query.cursor", "expected one that the list before gave")])
        before = min(int.from_bytes(query.place, "big"), 2**63 - 1) if query.place else None
        found = await broker.store.audit.page(tenant_id=query.tenant_id or None, before=before, limit=query.limit)
        place = found[-1].entry_id.to_bytes(_NUMBER_SIZE, "big") if len(found) == query.limit else b""
        return jsonify({"items": [_describe_entry(entry) for entry in found], "next": encode_cursor(place)})

    @resource.post("/backups")
    @needs(Right.WRITE)
    @document_request(NewBackup)
    @document_response(StatedBackup)
    async def make_backup() -> Response:
        """Copy the durable log and the admin database to a new folder of `api.backup_dir`, and check the copy."""
        given = await read_json(NewBackup, section)
        directory = broker.config.data.directory
        if directory is None or not section.backup_dir:
            raise RequestRefused(409, "there is nothing to back up without data.dir, nor where without api.backup_dir")
        name = given.name or datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        if not NAME_OF_BACKUP.fullmatch(name):
            raise InvalidFields([("body.name", "expected letters, digits, and . _ - behind the first, 100 at most")])
        target = Path(section.backup_dir) / name
        try:
            made = await trio.to_thread.run_sync(back_up, directory, target)
        except TargetError as error:
            raise RequestRefused(409, f"there is a backup {name} already") from error
        except (DataDirectoryError, OSError) as error:
            raise RequestRefused(503, str(error)) from error
        return jsonify(
            {
                "directory": str(made.directory),
                "files": len(made.files),
                "bytes": made.size,
                "created_at_ms": made.created_ms,
            }
        )

    @resource.post("/backups/<name:name>/restore")
    @needs(Right.WRITE)
    @document_response(RestoredRows)
    async def restore(name: str) -> Response:
        """Put users, rules, settings of tenants, API keys and bans back as a backup has them, at once in force.

        What is not in the backup goes, also the caller's own key. The audit log goes on. Sessions and messages stay:
        `rookery restore` puts them back, with no broker on the directory.
        """
        await expect_no_body(section)
        if not section.backup_dir:
            raise RequestRefused(409, "there are no backups without api.backup_dir")
        backup = trio.Path(section.backup_dir) / name
        if not NAME_OF_BACKUP.fullmatch(name) or not await backup.is_dir():
            raise RequestRefused(404, "there is no backup of this name in api.backup_dir")
        try:
            counts = await restore_admin_data(broker, Path(backup))
        except BackupError as error:
            raise RequestRefused(409, str(error)) from error
        except DataDirectoryError as error:
            raise RequestRefused(503, str(error)) from error
        finally:
            keys.forget()
        return jsonify(counts)

    return resource


def _describe_listener(name: str, kind: str, address: str, entrance: Any) -> dict[str, Any]:
    counts = None if entrance is None else entrance.counts
    return {
        "name": name,
        "kind": kind,
        "address": address,
        "handshakes": None if entrance is None else entrance.in_work_count,
        "admitted": None if counts is None else counts.admitted,
        "failed": None if counts is None else counts.failed,
        "turned_away": None if counts is None else counts.turned_away,
    }


def _level() -> str:
    level = logging.getLogger().getEffectiveLevel()
    return next((name for name in reversed(LEVELS) if level >= getattr(logging, name.upper())), LEVELS[0])


def _describe_entry(entry: AuditEntry) -> dict[str, Any]:
    return {
        "entry_id": entry.entry_id,
        "at_s": entry.at_s,
        "actor": entry.actor,
        "action": entry.action,
        "tenant_id": entry.tenant_id,
        "target": entry.target,
        "detail": dict(entry.detail),
    }
