"""docs/permissions.md: its example is a rules file, and its table says what the rules say."""

import re
from pathlib import Path

import pytest

from rookery.core.permissions.rule import Action
from rookery.core.permissions.rule_set import Permissions
from rookery.server.permissions.rules_file import parse_rules

PAGE = (Path(__file__).parents[3] / "docs" / "permissions.md").read_text(encoding="utf-8")


def example() -> Permissions:
    found = re.search(r"<!-- rules.toml -->\n```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return Permissions(parse_rules(found[1], "docs/permissions.md"))


def rows() -> list[tuple[str, ...]]:
    """tenant, user, client, action, topic or topic filter, verdict."""
    table = PAGE.split("<!-- verdicts -->\n")[1].split("\n\n")[0]
    return [tuple(cell.strip(" `") for cell in line.split("|")[1:-1]) for line in table.splitlines()[2:]]


@pytest.mark.parametrize(("tenant", "user", "client", "action", "text", "verdict"), rows())
def test_page_says_what_the_rules_say(
    tenant: str, user: str, client: str, action: str, text: str, verdict: str
) -> None:
    granted = example().check(Action(action), text, tenant_id=tenant, user_id=user, client_id=client)
    if granted is None:
        said = "denied"
    elif action != "publish" or (granted.max_qos, granted.retain) == (2, True):
        said = "allowed"
    else:
        said = f"allowed, QoS {granted.max_qos}, {'' if granted.retain else 'not '}retained"
    assert said == verdict


def test_table_has_rows_of_every_action() -> None:
    assert {row[3] for row in rows()} == set(Action)
