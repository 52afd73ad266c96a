"""A compiled set of rules says what its plain twin says, and whoever asks cannot widen it by his name."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rookery.core.permissions.rule import EVERY_ACTION, Action, Effect, InvalidRule, Rule
from rookery.core.permissions.rule_set import Granted, Permissions
from support import plain_permissions
from support.permission_rules import allow, deny

NAMES = ("a", "b", "$s", "a/b", "+", "#", "", "a+")
words = st.sampled_from(["a", "b", "", "$s", "+", "%u", "%c", "%t", "a%c"])
rule_filters = (
    st.lists(words, min_size=1, max_size=3)
    .map("/".join)
    .filter(bool)
    .flatmap(lambda text: st.sampled_from([text, f"{text}/#" if text.count("/") < 2 else text]))
)
rule_filters = st.one_of(rule_filters, st.sampled_from(["#", "+/#", "+/+", "$s/#"]))
asked_words = st.sampled_from(["a", "b", "", "$s", "+", "aa"])
asked_filters = (
    st.lists(asked_words, min_size=1, max_size=3)
    .map("/".join)
    .filter(bool)
    .flatmap(lambda text: st.sampled_from([text, f"{text}/#" if text.count("/") < 2 else text]))
)
asked_filters = st.one_of(asked_filters, st.sampled_from(["#", "+/#"]))
topics = st.sampled_from(sorted(plain_permissions.TOPICS))
names = st.sampled_from(NAMES)
actions = st.sets(st.sampled_from(Action), min_size=1).map(frozenset)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    effect = draw(st.sampled_from(Effect))
    named = draw(actions)
    is_limited = effect is Effect.ALLOW
    return Rule(
        effect=effect,
        actions=named,
        topic_filter=draw(rule_filters),
        tenant_id=draw(st.one_of(st.none(), names)),
        user_id=draw(st.one_of(st.none(), names)),
        client_id=draw(st.one_of(st.none(), names)),
        max_qos=draw(st.integers(0, 2)) if is_limited else 2,
        retain=draw(st.booleans()) if is_limited and Action.PUBLISH in named else True,
    )


def may(
    given_rules: Sequence[Rule], action: Action, text: str, *, user: str = "u", client: str = "c", tenant: str = "t"
) -> bool:
    found = Permissions(given_rules).check(action, text, tenant_id=tenant, user_id=user, client_id=client)
    return found is not None


@settings(max_examples=400, deadline=None)
@given(st.lists(rules(), max_size=6), st.sampled_from(Effect), st.data(), names, names, names)
def test_set_says_what_its_twin_says(
    given_rules: list[Rule], default: Effect, data: st.DataObject, tenant: str, user: str, client: str
) -> None:
    permissions = Permissions(given_rules, default=default)
    for action in Action:
        for text in data.draw(st.lists(topics if action is Action.PUBLISH else asked_filters, min_size=1, max_size=4)):
            found = permissions.check(action, text, tenant_id=tenant, user_id=user, client_id=client)
            expected = plain_permissions.check(
                given_rules, default, action, text, tenant=tenant, user=user, client=client
            )
            if action is Action.PUBLISH:
                assert found == expected
            elif action is Action.SUBSCRIBE:
                assert (found and found.max_qos) == (expected and expected.max_qos)
            else:
                assert (found is None) == (expected is None)


@settings(max_examples=300, deadline=None)
@given(st.lists(rules(), max_size=6), st.sampled_from(Effect), asked_filters, names, names)
def test_every_topic_of_an_allowed_filter_is_allowed_by_itself(
    given_rules: list[Rule], default: Effect, topic_filter: str, user: str, client: str
) -> None:
    permissions = Permissions(given_rules, default=default)
    granted = permissions.check(Action.SUBSCRIBE, topic_filter, user_id=user, client_id=client)
    if granted is not None:
        for topic in plain_permissions.topics_of_filter(topic_filter):
            alone = permissions.check(Action.SUBSCRIBE, topic, user_id=user, client_id=client)
            assert alone is not None
            assert alone.max_qos >= granted.max_qos


@given(st.lists(rules(), min_size=1, max_size=6), topics, st.text(st.sampled_from("ab/+#$"), max_size=4))
@example([allow("dev/%c/#")], "dev/a/x", "#")
def test_name_gives_its_bearer_no_topic_that_a_plain_name_cannot_have(
    given_rules: list[Rule], topic: str, name: str
) -> None:
    # A name that could stand for several levels or for a wildcard is never allowed what no plain name is.
    unrestricted = [
        Rule(
            effect=rule.effect,
            actions=rule.actions,
            topic_filter=rule.topic_filter,
            max_qos=rule.max_qos,
            retain=rule.retain,
        )
        for rule in given_rules
        if rule.effect is Effect.ALLOW
    ]
    if set(name) & set("/+#") and may(unrestricted, Action.PUBLISH, topic, user=name, client=name):
        plain = [rule for rule in unrestricted if "%u" not in rule.topic_filter and "%c" not in rule.topic_filter]
        assert may(plain, Action.PUBLISH, topic)


def test_first_rule_that_matches_decides() -> None:
    given_rules = [allow("a/b"), deny("a/+"), allow("a/#", max_qos=1)]
    check = Permissions(given_rules).check
    assert check(Action.PUBLISH, "a/b") == Granted(2, True)
    assert check(Action.PUBLISH, "a/c") is None
    assert check(Action.PUBLISH, "a/c/d") == Granted(1, True)
    assert check(Action.PUBLISH, "b") is None


def test_filter_must_be_covered_and_clear_of_earlier_denials() -> None:
    given_rules = [deny("a/secret/#"), allow("a/#")]
    assert may(given_rules, Action.SUBSCRIBE, "a/b/+")
    assert not may(given_rules, Action.SUBSCRIBE, "a/#")
    assert not may(given_rules, Action.SUBSCRIBE, "a/+/x")
    assert not may(given_rules, Action.SUBSCRIBE, "#")
    assert not may([allow("a/b")], Action.SUBSCRIBE, "a/+")


@pytest.mark.parametrize("name", ["#", "+", "a/b", "", "a/#", "+/a"])
def test_placeholder_takes_no_name_that_is_more_than_a_level(name: str) -> None:
    assert not may(
        [allow("dev/%c/#")], Action.PUBLISH, f"dev/{name}/x".replace("+", "p").replace("#", "p"), client=name
    )
    assert not may([allow("dev/%c/#")], Action.SUBSCRIBE, "dev/#", client=name)
    assert not may([allow("dev/%c/#")], Action.SUBSCRIBE, "dev/+/x", client=name)


def test_denial_with_a_placeholder_is_not_escaped_by_a_name() -> None:
    given_rules = [deny("dev/%c/secret"), allow("dev/#")]
    assert not may(given_rules, Action.PUBLISH, "dev/a/b/secret", client="a/b")
    assert not may(given_rules, Action.PUBLISH, "dev/x", client="+")
    assert may(given_rules, Action.PUBLISH, "dev/a/public", client="a")


def test_name_does_not_reach_server_topics() -> None:
    assert not may([allow("%c/#")], Action.SUBSCRIBE, "$SYS/#", client="$SYS")
    assert may([allow("x/%c/#")], Action.SUBSCRIBE, "x/$SYS/#", client="$SYS")


def test_leading_wildcard_reaches_server_topics_only_to_deny() -> None:
    assert not may([allow("#")], Action.SUBSCRIBE, "$SYS/#")
    assert may([allow("#")], Action.SUBSCRIBE, "#")
    assert not may([deny("+/x"), allow("$SYS/#")], Action.PUBLISH, "$SYS/x")


def test_percent_signs_are_written_twice() -> None:
    assert may([allow("%%/%%u/%c%%")], Action.PUBLISH, "%/%u/c%")


def test_rules_for_others_do_not_count() -> None:
    given_rules = [
        deny("#", user_id="mallory"),
        allow("#", client_id="c"),
        allow("x", user_id="u", client_id="d"),
        allow("y", tenant_id="red"),
    ]
    assert may(given_rules, Action.PUBLISH, "x", user="u", client="c")
    assert not may(given_rules, Action.PUBLISH, "x", user="mallory", client="c")
    assert may(given_rules, Action.PUBLISH, "x", user="u", client="d")
    assert not may(given_rules, Action.PUBLISH, "x", user="v", client="d")
    assert may(given_rules, Action.PUBLISH, "y", tenant="red", client="d")
    assert not may(given_rules, Action.PUBLISH, "y", tenant="blue", client="d")


def test_unsubscribing_is_allowed_unless_a_rule_denies_it() -> None:
    assert may([], Action.UNSUBSCRIBE, "a/#")
    assert may([deny("a/#", Action.SUBSCRIBE)], Action.UNSUBSCRIBE, "a/#")
    assert not may([deny("a/#", Action.UNSUBSCRIBE)], Action.UNSUBSCRIBE, "a/b")


def test_no_rule_at_all_allows_nothing() -> None:
    assert not may([], Action.PUBLISH, "a")
    assert not may([], Action.SUBSCRIBE, "a")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"topic_filter": "a/#/b"}, "# is the last one"),
        ({"topic_filter": ""}, "empty"),
        ({"topic_filter": "a/%x"}, "'%x'; known are %u, %c, %t and %%"),
        ({"topic_filter": "a%"}, "'%'; known are"),
        ({"topic_filter": "a/%c+"}, "a wildcard fills a whole level"),
        ({"topic_filter": "$share/g/a"}, "the filter inside $share"),
        ({"topic_filter": "/".join("a" * 129)}, "129 levels, the limit is 128"),
        ({"actions": frozenset()}, "at least one action"),
        ({"max_qos": 3}, "max_qos is 3, it must be 0, 1 or 2"),
        ({"effect": Effect.DENY, "max_qos": 1}, "limit what a rule allows"),
        ({"effect": Effect.DENY, "retain": False}, "limit what a rule allows"),
        ({"actions": frozenset([Action.SUBSCRIBE]), "retain": False}, "retain limits publications"),
        ({"client_id": "x" * 65536}, "client_id has 65536 bytes, the limit is 65535"),
    ],
)
def test_rule_that_says_nothing_sensible_is_refused(fields: dict[str, object], problem: str) -> None:
    given_fields = {"effect": Effect.ALLOW, "actions": EVERY_ACTION, "topic_filter": "a"} | fields
    with pytest.raises(InvalidRule) as raised:
        Rule(**given_fields)  # type: ignore[arg-type]
    assert problem in str(raised.value)


def test_one_set_serves_all_users_in_a_few_hundred_bytes_a_rule() -> None:
    permissions = Permissions([allow(f"site/%t/device/%c/channel-{number}/#") for number in range(100)])
    assert permissions.memory_bytes < 100 * 400


def test_replaced_permissions_can_neither_be_replaced_nor_replace() -> None:
    first, second = Permissions(), Permissions()
    first.replace_by(second)
    assert first.is_replaced
    for left, right in ((first, second), (second, first), (second, second)):
        with pytest.raises(ValueError, match="were replaced"):
            left.replace_by(right)
