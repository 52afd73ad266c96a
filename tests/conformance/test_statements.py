"""Every statement of the standards has a test or a reason, and docs/conformance.md says which."""

from dataclasses import replace

import pytest

from conformance.report import PAGE, named_tests, prefixes_of, problems, proofs_in, render
from conformance.statements import MQTT_5, STATEMENTS, Party, Statement

ONE = Statement(MQTT_5, "3.3.1-6", Party.SERVER, "something holds", None)


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("test_mqtt5_3_3_1_6_something_holds", ("mqtt5_3_3_1_6",)),
        ("test_mqtt5_3_3_1_6_mqtt311_3_3_1_10_something_holds", ("mqtt5_3_3_1_6", "mqtt311_3_3_1_10")),
        ("test_mqtt5_3_3_1_6", ("mqtt5_3_3_1_6",)),
        ("test_something_of_mqtt5_3_3_1_6", ()),
    ],
)
def test_name_tells_the_statements_that_it_begins_with(name: str, prefixes: tuple[str, ...]) -> None:
    assert prefixes_of(name) == prefixes


def test_statement_without_test_and_reason_is_a_problem() -> None:
    (problem,) = problems([ONE], {})
    assert problem == "mqtt5_3_3_1_6 has neither a test nor a reason: something holds"
    assert problems([ONE], proofs_in(["test_a.py::test_mqtt5_3_3_1_6_holds"])) == []
    assert problems([replace(ONE, reason="it cannot be seen")], {}) == []
    assert problems([replace(ONE, binds=Party.CLIENT)], {}) == []


def test_statement_with_both_is_a_problem() -> None:
    (problem,) = problems([replace(ONE, reason="why")], proofs_in(["test_a.py::test_mqtt5_3_3_1_6_holds"]))
    assert problem == "mqtt5_3_3_1_6 has a reason to have no test, and test_a.py::test_mqtt5_3_3_1_6_holds"


def test_test_of_no_statement_is_a_problem() -> None:
    (problem,) = problems([ONE], proofs_in(["test_a.py::test_mqtt5_3_3_1_6_x", "test_a.py::test_mqtt5_9_9_9_9_x"]))
    assert problem == "test_a.py::test_mqtt5_9_9_9_9_x names mqtt5_9_9_9_9, which is no statement"


def test_identifiers_are_unique() -> None:
    assert len({statement.test_prefix for statement in STATEMENTS}) == len(STATEMENTS) > 380


def test_every_statement_has_a_test_or_a_reason() -> None:
    assert problems(STATEMENTS, proofs_in(named_tests())) == []


def test_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(STATEMENTS, proofs_in(named_tests())), "run make conformance"
