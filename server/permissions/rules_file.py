"""The rules file: TOML, one `[[rules]]` table per rule, in the order in which they are tried.

    [[rules]]
    effect = "allow"                  # or "deny"
    action = ["publish", "subscribe"] # one or several of publish, subscribe, unsubscribe, or "all"
    filter = "dev/%c/#"
    tenant = "acme"                   # these three: only for this one; without them for all
    user = "alice"
    client = "sensor-1"
    max_qos = 1                       # of a rule that allows
    retain = false                    # of a rule that allows publishing

A file that says nothing is no file that allows nothing: it is refused, as is everything else that is not understood.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rookery.core.permissions.rule import EVERY_ACTION, QOS_MAXIMUM, Action, Effect, InvalidRule, Rule

_KEYS = ("effect", "action", "filter", "tenant", "user", "client", "max_qos", "retain")
_REQUIRED = ("effect", "action", "filter")
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*rules[ \t]*\]\]", re.MULTILINE)
_TOML_LINE = re.compile(r"(.*) \(at line (\d+), column \d+\)", re.DOTALL)


class RulesFileError(Exception):
    """Rules that cannot be used: `FILE:LINE: reason`, without a line where none is to blame."""


def read_rules(file: Path) -> list[Rule]:
    """The rules of a file. Raises RulesFileError; the cause is an OSError when it cannot be read."""
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise RulesFileError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RulesFileError(f"{file}:{line}: not UTF-8") from error
    return parse_rules(text, str(file))


def parse_rules(text: str, file: str) -> list[Rule]:
    """The rules of a text; file names it in errors. Raises RulesFileError for the first that is wrong."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.fullmatch(str(error))
        place, reason = (f"{file}:{found[2]}", found[1]) if found else (file, str(error))
        raise RulesFileError(f"{place}: {reason}") from error
    unknown = [key for key in tables if key != "rules"]
    if unknown:
        raise RulesFileError(f"{file}: unknown key {unknown[0]}; known is rules")
    rules = tables.get("rules")
    if not isinstance(rules, list) or not rules:
        raise RulesFileError(f"{file}: no [[rules]]; nobody could do anything")
    headers = [text.count("\n", 0, found.end()) + 1 for found in _HEADER.finditer(text)]
    parsed = []
    for index, table in enumerate(rules):
        try:
            parsed.append(parse_rule(table))
        except InvalidRule as error:
            # Tables in a row stand under headers, tables in an array have none.
            place = f"{file}:{headers[index]}" if len(headers) == len(rules) else f"{file}: rule {index + 1}"
            raise RulesFileError(f"{place}: {error}") from None
    return parsed


def parse_rule(table: object) -> Rule:
    """A rule of a table with the keys above, as TOML or JSON have it. Raises InvalidRule."""
    if not isinstance(table, dict):
        raise InvalidRule(f"expected a table, got {table!r}")
    for key in table:
        if key not in _KEYS:
            nearest = difflib.get_close_matches(key, _KEYS, n=1)
            raise InvalidRule(f"unknown key {key}{f'; did you mean {nearest[0]}?' if nearest else ''}")
    for key in _REQUIRED:
        if key not in table:
            raise InvalidRule(f"{key} is missing")
    return Rule(
        effect=_parse_effect(table["effect"]),
        actions=_parse_actions(table["action"]),
        topic_filter=_text(table, "filter") or "",
        tenant_id=_text(table, "tenant"),
        user_id=_text(table, "user"),
        client_id=_text(table, "client"),
        max_qos=_max_qos(table),
        retain=_retain(table),
    )


def _parse_effect(value: object) -> Effect:
    if not isinstance(value, str) or value not in tuple(Effect):
        raise InvalidRule(f"effect is {value!r}, it must be one of {', '.join(Effect)}")
    return Effect(value)


def _parse_actions(value: object) -> frozenset[Action]:
    if value == "all":
        return EVERY_ACTION
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name not in tuple(Action):
            raise InvalidRule(f"action is {name!r}, it must be one or several of {', '.join(Action)}, or 'all'")
    return frozenset(map(Action, names))


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRule(f"{key} is {value!r}, it must be text")
    return value


def _max_qos(table: Mapping[str, Any]) -> int:
    value = table.get("max_qos", QOS_MAXIMUM)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRule(f"max_qos is {value!r}, it must be 0, 1 or 2")
    return value


def _retain(table: Mapping[str, Any]) -> bool:
    value = table.get("retain", True)
    if not isinstance(value, bool):
        raise InvalidRule(f"retain is {value!r}, it must be true or false")
    return value
