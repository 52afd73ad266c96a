"""Where the configuration comes from, and errors that an operator can act on.

A value comes from the first of these that has it; each is a source of pydantic-settings, so that a later feature adds
a field to a section of config.py and has all of them at once.

    flag          rookery serve --mqtt 127.0.0.1:2883
    environment   ROOKERY_MQTT__BIND=127.0.0.1:2883        sections and keys in any letter case, `__` between them
    file          [mqtt]
                  bind = "127.0.0.1:2883"
    default       of the caller, else of the field

Every error is found before one is reported, each with the path of its key and the place that the value came from.
The values themselves appear in a message only where the message is ours: pydantic's are asked to leave them out,
because one may be a secret that stands under the wrong key.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from rookery.core.settings import SETTINGS_BY_NAME, SettingError

from .config import Config, TenantSection
from .config_fields import Contradiction, KeyPath

ENVIRONMENT_PREFIX = "ROOKERY_"
ENVIRONMENT_DELIMITER = "__"
FILE_VARIABLE = "ROOKERY_CONFIG"
FILES = (Path("rookery.toml"), Path("/etc/rookery/rookery.toml"))  # The first that exists is read.

Values = dict[str, Any]  # nested: section -> key -> value

_SETTING_SPELLINGS = {name.lower(): name for name in SETTINGS_BY_NAME}


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong, where it stands and where it came from."""

    path: KeyPath  # empty for the file as a whole
    message: str
    origin: str = ""  # `flag --mqtt`, `environment ROOKERY_MQTT__BIND`, `file rookery.toml`; empty when not known

    def __str__(self) -> str:
        origin = f" ({self.origin})" if self.origin else ""
        return f"{'.'.join(self.path)}: {self.message}{origin}" if self.path else f"{self.message}{origin}"


class ConfigError(Exception):
    """The configuration cannot be used; problems holds all reasons."""

    def __init__(self, *problems: ConfigProblem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class ConfigUnreadable(ConfigError):
    """The operating system did not let us read the file."""


class EnvironmentSource(PydanticBaseSettingsSource):
    """ROOKERY_SECTION__KEY variables. Names of tenants and users keep their letter case, settings get BifroMQ's."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self.values: Values = {}
        self.origins: dict[KeyPath, str] = {}
        self.problems: list[ConfigProblem] = []
        for name, text in sorted(environment.items()):
            if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() != FILE_VARIABLE:
                self._read(name, text)

    def _read(self, name: str, text: str) -> None:
        first, *rest = name[len(ENVIRONMENT_PREFIX) :].split(ENVIRONMENT_DELIMITER)
        section = first.lower()
        # Without the delimiter it may be meant for another tool that shares the prefix.
        if not rest and section != "insecure":
            return
        origin = f"environment {name}"
        if section not in self.settings_cls.model_fields:
            message = f"unknown section{_suggest(section, self.settings_cls.model_fields)}"
            self.problems.append(ConfigProblem((section,), message, origin))
            return
        path: KeyPath
        if section == "scram":
            path = (section, *rest)
        elif section == "tenants":
            path = (section, rest[0], *(part.lower() for part in rest[1:2]), *rest[2:])
        else:
            path = (section, *(part.lower() for part in rest))
        if (path[0] == "settings" or path[2:3] == ("settings",)) and path[-1] != "settings":
            path = (*path[:-1], _SETTING_SPELLINGS.get(path[-1].lower(), path[-1]))
        *parents, key = path
        table = self.values
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                self.problems.append(ConfigProblem(path, "is set both as a value and as a section", origin))
                return
        table[key] = text
        self.origins[path] = origin

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self.values.get(field_name), field_name, False

    def __call__(self) -> Values:
        return self.values


class FileSource(TomlConfigSettingsSource):
    """One TOML file. Raises ConfigError for one that cannot be read or is not TOML, with the line where known."""

    def _read_file(self, file_path: Any) -> Values:
        try:
            return tomllib.loads(file_path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise ConfigUnreadable(ConfigProblem((), f"{file_path}: {error.strerror or error}")) from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(ConfigProblem((), f"{file_path}:{line}: not UTF-8")) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(ConfigProblem((), _place_toml_error(file_path, str(error)))) from error


def _place_toml_error(file_path: Path, text: str) -> str:
    """`FILE:LINE: what is wrong`; the parser states the line at the end of its text."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", text, re.DOTALL)
    return f"{file_path}:{found[2]}: {found[1]}" if found else f"{file_path}: {text}"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration together with where each value that is not a default came from."""

    config: Config
    origins: Mapping[KeyPath, str]
    file: Path | None

    def print(self) -> str:
        """The effective configuration as TOML, each value with its place in a comment. Secrets are masked."""
        return "".join(self._print_lines())

    def _print_lines(self) -> Iterator[str]:
        yield f"# {self.file or 'no configuration file'}\n"
        sections: Values = self.config.model_dump(mode="json")
        tenants = sections.pop("tenants")
        listeners = sections.pop("listeners")
        tables: dict[KeyPath, Values] = {(): {}}
        for key, value in sections.items():
            if isinstance(value, dict):
                tables[(key,)] = value
            else:
                tables[()][key] = value
        for name in sorted(listeners):
            tables["listeners", name] = listeners[name]
        for tenant_id in sorted(tenants):
            tables["tenants", tenant_id, "settings"] = tenants[tenant_id]["settings"]
        for path, table in tables.items():
            if path:
                yield f"\n[{'.'.join(map(_print_key, path))}]\n"
            for key, value in table.items():
                text = json.dumps(value, ensure_ascii=False)
                yield f"{_print_key(key)} = {text}  # {self._print_origin((*path, key))}\n"

    def _print_origin(self, path: KeyPath) -> str:
        profile = self.origins.get(("settings", "profile")) if path[0] == "settings" else None
        return self.origins.get(path) or (f"profile of {profile}" if profile else "default")


def _print_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def find_file(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The configuration file to read: the given one, that of ROOKERY_CONFIG, or the first of FILES that exists."""
    if file is not None:
        return file
    if environment.get(FILE_VARIABLE):
        return Path(environment[FILE_VARIABLE])
    return next((candidate for candidate in FILES if candidate.is_file()), None)


def load_config(
    file: Path | None = None,
    flags: Mapping[KeyPath, object] | None = None,
    flag_names: Mapping[KeyPath, str] | None = None,
    environment: Mapping[str, str] = os.environ,
    defaults: Mapping[KeyPath, object] | None = None,
) -> LoadedConfig:
    """Read flags, environment and file, in this order of precedence.

    flags maps key paths to values that were given on the command line, flag_names the same paths to the flags' names
    for messages; defaults has values that take the place of the fields' own defaults. Raises ConfigError with
    everything that is wrong; ConfigUnreadable for a file that cannot be read.
    """
    chosen = find_file(file, environment)
    if chosen is not None and not chosen.is_file():
        # pydantic-settings takes a missing file for an empty one.
        _explain_missing(chosen)
    flag_source = InitSettingsSource(Config, _nest(flags or {}))
    environment_source = EnvironmentSource(Config, environment)
    file_source = FileSource(Config, chosen)
    default_source = InitSettingsSource(Config, _nest(defaults or {}))
    origins = dict.fromkeys(_flatten(file_source()), f"file {chosen}")
    origins |= environment_source.origins
    origins |= {path: f"flag {(flag_names or {}).get(path, '.'.join(path))}" for path in flags or {}}
    problems = list(environment_source.problems)

    class Located(Config):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return flag_source, environment_source, file_source, default_source

    try:
        config = Located()
    except ValidationError as error:
        problems.extend(_explain(error, origins))
    if problems:
        raise ConfigError(*problems)
    return LoadedConfig(config, origins, chosen)


def _explain_missing(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigUnreadable(ConfigProblem((), f"{file}: {error.strerror or error}")) from error


def _nest(flat: Mapping[KeyPath, object]) -> Values:
    nested: Values = {}
    for (*parents, key), value in flat.items():
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[key] = value
    return nested


def _flatten(nested: Mapping[str, Any], parents: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _flatten(value, (*parents, key))
        else:
            yield (*parents, key)


def _explain(error: ValidationError, origins: Mapping[KeyPath, str]) -> Iterator[ConfigProblem]:
    """The problems behind a ValidationError of Config, in our words."""
    for detail in error.errors(include_url=False, include_input=False):
        path = tuple(map(str, detail["loc"]))
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, SettingError):
            inner = [((*path, problem.name), problem.message) for problem in cause.problems]
        elif isinstance(cause, Contradiction):
            inner = [((*path, *relative), message) for relative, message in cause.problems]
        elif detail["type"] == "extra_forbidden":
            inner = [(path, f"unknown key{_suggest(path[-1], _known_keys(path[:-1]))}")]
        else:
            inner = [(path, str(cause) if cause is not None else detail["msg"])]
        for inner_path, message in inner:
            yield ConfigProblem(inner_path, message, _origin_of(inner_path, origins))


def _origin_of(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Where the value at path came from, or any value below it; letter case does not count."""
    lowered = tuple(part.lower() for part in path)
    for candidate, origin in origins.items():
        if tuple(part.lower() for part in candidate)[: len(lowered)] == lowered:
            return origin
    return ""


def _known_keys(section: KeyPath) -> list[str]:
    """What may stand in a section: of keys and of sections alike."""
    model: type[BaseModel] = Config
    for name in section:
        if model is Config and name == "tenants":
            return list(TenantSection.model_fields)
        field = model.model_fields.get(name)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def _suggest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
