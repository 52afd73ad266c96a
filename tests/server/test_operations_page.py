"""docs/operations.md says what the code has: keys, settings and exit codes cannot go stale."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from rookery.core.settings import SETTINGS
from rookery.server.address import Address
from rookery.server.config import Config, PluginSection
from rookery.server.config_listeners import ListenerSection
from rookery.server.exit_code import ExitCode


def configuration_rows() -> list[str]:
    """One row per key of the configuration: path, default, meaning."""
    rows = []
    for name, field in Config.model_fields.items():
        if name in ("settings", "tenants", "scram"):
            continue
        if name == "plugins":
            rows.extend(named_rows(name, PluginSection, PluginSection(use="x")))
            continue
        if name == "listeners":
            rows.extend(named_rows(name, ListenerSection, ListenerSection(kind="ws", bind=Address("127.0.0.1", 0))))
            continue
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            defaults = section().model_dump(mode="json")
            for key, inner in section.model_fields.items():
                default = "by machine" if inner.default_factory else f"`{json.dumps(defaults[key])}`"
                rows.append(f"| `{name}.{key}` | {default} | {inner.description} |")
        else:
            rows.append(f"| `{name}` | `{json.dumps(field.default)}` | {field.description} |")
    return rows


def named_rows(name: str, section: type[BaseModel], example: BaseModel) -> list[str]:
    """One row per key of the sections that operators name: `[plugins.NAME]`."""
    defaults = example.model_dump(mode="json")
    return [
        f"| `{name}.NAME.{key}` | {'required' if field.is_required() else f'`{json.dumps(defaults[key])}`'} "
        f"| {field.description} |"
        for key, field in section.model_fields.items()
    ]


def setting_rows() -> list[str]:
    """One row per tenant setting: name, valid range, both defaults, meaning."""
    return [
        f"| `{setting.name}` | {setting.valid_range} | {json.dumps(setting.default)} | {json.dumps(setting.bifromq)} "
        f"| {setting.meaning} |"
        for setting in SETTINGS
    ]


@pytest.fixture
def page(pytestconfig: pytest.Config) -> list[str]:
    return (Path(pytestconfig.rootpath) / "docs" / "operations.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("row", [*configuration_rows(), *setting_rows()])
def test_page_has_every_key_and_setting_with_its_default(row: str, page: list[str]) -> None:
    assert row in page


def test_page_has_no_key_and_setting_that_the_code_has_not(page: list[str]) -> None:
    known = {*configuration_rows(), *setting_rows()}
    reference = page[page.index("### Keys") : page.index("## Development authenticator")]
    assert [line for line in reference if line.startswith("| `") and line not in known] == []


@pytest.mark.parametrize("code", ExitCode)
def test_page_explains_every_exit_code(code: ExitCode, page: list[str]) -> None:
    assert any(line.startswith(f"| {code.value} | ") for line in page)
