"""The plain twin of RuleSet: topic filters are the sets of the topics that they match, in a small world of topics."""

import itertools
import re
from functools import lru_cache

from rookery.core.permissions.rule import Action, Effect, Rule
from rookery.core.permissions.rule_set import Granted

# "z" stands in no rule: what a wildcard matches beyond the words of the rules. One level more than any filter has.
WORDS = ("a", "b", "", "$s", "z", "aa", "ab", "a$s")
DEPTH = 4
TOPICS = frozenset(
    "/".join(levels)
    for depth in range(1, DEPTH + 1)
    for levels in itertools.product(WORDS, repeat=depth)
    if levels != ("",)
)


@lru_cache(maxsize=4096)
def topics_of_filter(topic_filter: str) -> frozenset[str]:
    """What a subscription to it gets."""
    pattern = _pattern([_level_pattern(level, {}) for level in topic_filter.split("/")])
    hides_system = topic_filter[0] in "+#"
    return frozenset(
        topic for topic in TOPICS if pattern.fullmatch(topic) and not (hides_system and topic.startswith("$"))
    )


@lru_cache(maxsize=4096)
def topics_of_rule(topic_filter: str, is_deny: bool, tenant: str, user: str, client: str) -> frozenset[str]:
    """What a rule is about when this client asks."""
    names = {"%t": tenant, "%u": user, "%c": client}
    levels: list[str] = []
    least_depth = 1
    for index, level in enumerate(topic_filter.split("/")):
        used = [found for found in re.findall("%.", level) if found != "%%"]
        if any(not _can_stand(names[name], index == 0 and level.startswith(name)) for name in used):
            if not is_deny:
                return frozenset()
            levels.append(_level_pattern("#", names))
            least_depth = index + 1
            break
        levels.append(_level_pattern(level, names))
    pattern = _pattern(levels)
    hides_system = not is_deny and topic_filter[0] in "+#"
    return frozenset(
        topic
        for topic in TOPICS
        if pattern.fullmatch(topic)
        and topic.count("/") + 1 >= least_depth
        and not (hides_system and topic.startswith("$"))
    )


def check(
    rules: list[Rule], default: Effect, action: Action, text: str, *, tenant: str, user: str, client: str
) -> Granted | None:
    """What Permissions(rules, default=default).check says."""
    asked = frozenset([text]) if action is Action.PUBLISH else topics_of_filter(text)
    max_qos = 2
    for rule in rules:
        selected = ((rule.tenant_id, tenant), (rule.user_id, user), (rule.client_id, client))
        if action not in rule.actions or any(wanted not in (None, name) for wanted, name in selected):
            continue
        about = topics_of_rule(rule.topic_filter, rule.effect is Effect.DENY, tenant, user, client)
        if not about & asked:
            continue
        if rule.effect is Effect.DENY:
            return None
        max_qos = min(max_qos, rule.max_qos)
        if asked <= about:
            return Granted(max_qos, rule.retain)
    if action is Action.UNSUBSCRIBE:
        return Granted(0, False)
    return Granted(max_qos, True) if default is Effect.ALLOW else None


def _can_stand(name: str, is_at_front: bool) -> bool:
    return bool(name) and not set(name) & set("/+#") and not (is_at_front and name.startswith("$"))


def _level_pattern(level: str, names: dict[str, str]) -> str:
    if level == "+":
        return "/[^/]*"
    if level == "#":
        return "(/.*)?"
    return "/" + re.escape(re.sub("%.", lambda found: names.get(found[0], "%"), level))


def _pattern(levels: list[str]) -> re.Pattern[str]:
    # A slash in front of every level, and so of the topic: "#" alone is no special case then.
    return re.compile("(?<!.)" + "".join(levels).removeprefix("/") if levels[0] != "(/.*)?" else ".*")
