"""Rules in one word: allow("a/#"), deny("a/b", Action.PUBLISH)."""

from typing import Any

from rookery.core.permissions.rule import EVERY_ACTION, Action, Effect, Rule


def allow(topic_filter: str, *actions: Action, **fields: Any) -> Rule:
    """A rule that allows these actions, all without any; fields are those of Rule."""
    return Rule(effect=Effect.ALLOW, actions=frozenset(actions) or EVERY_ACTION, topic_filter=topic_filter, **fields)


def deny(topic_filter: str, *actions: Action, **fields: Any) -> Rule:
    """A rule that denies these actions, all without any; fields are those of Rule."""
    return Rule(effect=Effect.DENY, actions=frozenset(actions) or EVERY_ACTION, topic_filter=topic_filter, **fields)
