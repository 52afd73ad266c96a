"""The rules file: what it means, and that whatever is wrong in it is refused with file, line and reason."""

from pathlib import Path

import pytest

from rookery.core.permissions.rule import EVERY_ACTION, Action, Effect, Rule
from rookery.server.permissions.rules_file import RulesFileError, parse_rules, read_rules

RULE = '[[rules]]\neffect = "allow"\naction = "all"\nfilter = "a/#"\n'


def test_rules_come_in_their_order_with_all_their_keys() -> None:
    text = RULE + (
        '[[rules]]\neffect = "allow"\naction = ["publish", "subscribe"]\nfilter = "%t/%u/%c"\ntenant = "t"\n'
        'user = "u"\nclient = "c"\nmax_qos = 1\nretain = false\n'
    )
    assert parse_rules(text, "x") == [
        Rule(effect=Effect.ALLOW, actions=EVERY_ACTION, topic_filter="a/#"),
        Rule(
            effect=Effect.ALLOW,
            actions=frozenset([Action.PUBLISH, Action.SUBSCRIBE]),
            topic_filter="%t/%u/%c",
            tenant_id="t",
            user_id="u",
            client_id="c",
            max_qos=1,
            retain=False,
        ),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "rules.toml: no [[rules]]; nobody could do anything"),
        ("# nothing\n", "rules.toml: no [[rules]]; nobody could do anything"),
        ("rules = []\n", "rules.toml: no [[rules]]; nobody could do anything"),
        (RULE + "topic read #\n", "rules.toml:5: Expected '=' after a key in a key/value pair"),
        ("[acl]\n" + RULE, "rules.toml: unknown key acl; known is rules"),
        (RULE + RULE.replace("allow", "alow"), "rules.toml:5: effect is 'alow', it must be one of allow, deny"),
        (RULE + RULE.replace("all", "read"), "rules.toml:5: effect is 'readow', it must be one of allow, deny"),
        (RULE.replace('"all"', '"read"'), "rules.toml:1: action is 'read', it must be one or several of publish, "),
        (RULE.replace('"all"', "[]"), "rules.toml:1: a rule names at least one action"),
        (RULE.replace('"all"', "[1]"), "rules.toml:1: action is 1, it must be one or several of"),
        (RULE + "qos = 1\n", "rules.toml:1: unknown key qos"),
        (RULE.replace("filter", "filtr"), "rules.toml:1: unknown key filtr; did you mean filter?"),
        ('[[rules]]\neffect = "allow"\naction = "all"\n', "rules.toml:1: filter is missing"),
        (RULE.replace("a/#", "a#"), "rules.toml:1: topic filter 'a#': a wildcard fills a whole level"),
        (RULE.replace('"a/#"', "1"), "rules.toml:1: filter is 1, it must be text"),
        (RULE + "user = 1\n", "rules.toml:1: user is 1, it must be text"),
        (RULE + "max_qos = true\n", "rules.toml:1: max_qos is True, it must be 0, 1 or 2"),
        (RULE + "max_qos = 3\n", "rules.toml:1: max_qos is 3, it must be 0, 1 or 2"),
        (RULE + "retain = 0\n", "rules.toml:1: retain is 0, it must be true or false"),
        ("rules = [1]\n", "rules.toml: rule 1: expected a table, got 1"),
    ],
)
def test_wrong_rule_is_refused_with_file_line_and_reason(text: str, problem: str) -> None:
    with pytest.raises(RulesFileError) as raised:
        parse_rules(text, "rules.toml")
    assert str(raised.value).startswith(problem)


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "missing", tmp_path):
        with pytest.raises(RulesFileError, match=str(file)):
            read_rules(file)
    file = tmp_path / "rules.toml"
    file.write_bytes(b"\n\n# \xff\n")
    with pytest.raises(RulesFileError, match=r"rules.toml:3: not UTF-8"):
        read_rules(file)
