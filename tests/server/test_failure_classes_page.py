"""docs/failure-classes.md names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs/failure-classes.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_test_that_the_page_names_exists(file: str, name: str) -> None:
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{file} has no {name}"


def test_each_class_has_a_test() -> None:
    rows = [
        line
        for line in (ROOT / "docs/failure-classes.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith(("| class |", "| input |"))
    ]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []
