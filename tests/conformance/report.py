"""Which test proves which statement, and docs/conformance.md, which is made from it.

python -m conformance.report        writes docs/conformance.md (make conformance)
"""

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from conformance.statements import MQTT_3_1_1, MQTT_5, STATEMENTS, Party, Statement

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conformance.md"
TITLES = {MQTT_5: "MQTT 5.0", MQTT_3_1_1: "MQTT 3.1.1"}
_PREFIX = re.compile(r"(mqtt5|mqtt311)_(\d+)_(\d+)_(\d+)_(\d+)(?:_|$)")

Proofs = Mapping[str, tuple[str, ...]]  # test_prefix of a statement -> "test_file.py::test_name", sorted


def prefixes_of(test_name: str) -> tuple[str, ...]:
    """The statements that the name of a test begins with, as Statement.test_prefix spells them."""
    prefixes = []
    rest = test_name.removeprefix("test_")
    while match := _PREFIX.match(rest):
        prefixes.append(match[0].removesuffix("_"))
        rest = rest[match.end() :]
    return tuple(prefixes)


def named_tests(folder: Path = HERE) -> list[str]:
    """Every test function of a folder, as `test_file.py::test_name`."""
    return [
        f"{path.name}::{node.name}"
        for path in sorted(folder.glob("test_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def proofs_in(names: Iterable[str]) -> Proofs:
    """The tests of each statement that a name begins with."""
    proofs: dict[str, list[str]] = {}
    for name in names:
        for prefix in prefixes_of(name.partition("::")[2]):
            proofs.setdefault(prefix, []).append(name)
    return {prefix: tuple(sorted(tests)) for prefix, tests in proofs.items()}


def problems(statements: Iterable[Statement], proofs: Proofs) -> list[str]:
    """What is wrong between statements and tests, a sentence each."""
    found = []
    known = {statement.test_prefix: statement for statement in statements}
    for prefix, statement in known.items():
        if statement.reason is not None and prefix in proofs:
            found.append(f"{prefix} has a reason to have no test, and {proofs[prefix][0]}")
        elif statement.reason is None and prefix not in proofs and statement.binds is not Party.CLIENT:
            found.append(f"{prefix} has neither a test nor a reason: {statement.meaning}")
    found.extend(
        f"{tests[0]} names {prefix}, which is no statement" for prefix, tests in proofs.items() if prefix not in known
    )
    return found


def _proof(statement: Statement, proofs: Proofs) -> str:
    tests = proofs.get(statement.test_prefix)
    if tests:
        files = {name.partition("::")[0] for name in tests}
        return ", ".join(f"[{file}](../tests/conformance/{file})" for file in sorted(files))
    return statement.reason or ("binds clients only" if statement.binds is Party.CLIENT else "**none yet**")


def _summary(statements: list[Statement], proofs: Proofs) -> str:
    tested = sum(statement.test_prefix in proofs for statement in statements)
    reasoned = sum(statement.reason is not None for statement in statements)
    client_only = sum(
        statement.binds is Party.CLIENT and statement.reason is None and statement.test_prefix not in proofs
        for statement in statements
    )
    return (
        f"{len(statements)} statements: {tested} tested, {reasoned} without a test for a reason, "
        f"{client_only} that bind clients only, {len(statements) - tested - reasoned - client_only} without a test yet."
    )


def render(statements: Iterable[Statement], proofs: Proofs) -> str:
    """The page."""
    lines = [
        "# Conformance",
        "",
        "Every normative statement of the two standards, by its identifier, and the tests that hold Rookery to it.",
        "The tests of a statement carry its identifier in their names: `[MQTT-3.3.1-6]` of 5.0 is",
        "`test_mqtt5_3_3_1_6_...`, of 3.1.1 `test_mqtt311_3_3_1_6_...`. The wording is short and ours; the standards",
        "have the full sentences. MQTT 3.1 has no numbered statements: it is tested with 3.1.1.",
        "",
        "This page is made by `make conformance`; a test fails when it is not current.",
    ]
    chosen = list(statements)
    for standard, title in TITLES.items():
        own = [statement for statement in chosen if statement.standard == standard]
        lines += [
            "",
            f"## {title}",
            "",
            _summary(own, proofs),
            "",
            "| statement | binds | meaning | proof |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| MQTT-{statement.number} | {statement.binds} | {statement.meaning} | {_proof(statement, proofs)} |"
            for statement in own
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(STATEMENTS, proofs_in(named_tests())), encoding="utf-8")
