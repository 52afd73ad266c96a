"""Rule: one line of what somebody may do, as configurations and plugins write it.

rookery.core.permissions.rule_set compiles sequences of rules; what a sequence allows is defined there.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from rookery.core.topics.names import InvalidTopic, TopicRules

PLACEHOLDERS = "%u, %c, %t and %%"
QOS_MAXIMUM = 2
LEVELS_MAXIMUM = 128  # of a rule's topic filter
_ID_SIZE_MAXIMUM = 65535  # bytes: the longest string that MQTT carries

_PLACEHOLDER = re.compile("%(.?)", re.DOTALL)
_TOPIC_RULES = TopicRules(level_count_maximum=LEVELS_MAXIMUM)


class InvalidRule(ValueError):
    """A rule that says nothing sensible; the text names value and limit."""


class Effect(StrEnum):
    """What a rule decides."""

    ALLOW = "allow"
    DENY = "deny"


class Action(StrEnum):
    """What a client wants to do."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"


EVERY_ACTION = frozenset(Action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Allows or denies actions on what a topic filter covers. Raises InvalidRule.

    topic_filter has wildcards as in a SUBSCRIBE, and %u (user), %c (client identifier), %t (tenant) anywhere in a
    level; %% is a percent sign. The prefix of a shared subscription does not belong to it.
    """

    effect: Effect
    actions: frozenset[Action]
    topic_filter: str
    tenant_id: str | None = None  # the rule is for this tenant alone; None = for all
    user_id: str | None = None  # the rule is for this user alone; None = for all
    client_id: str | None = None  # the rule is for this client identifier alone; None = for all
    max_qos: int = QOS_MAXIMUM  # of a rule that allows: higher publications are denied, higher subscriptions lowered
    retain: bool = True  # of a rule that allows publishing: also with the RETAIN flag

    def __post_init__(self) -> None:
        if not self.actions:
            raise InvalidRule("a rule names at least one action")
        if not 0 <= self.max_qos <= QOS_MAXIMUM:
            raise InvalidRule(f"max_qos is {self.max_qos}, it must be 0, 1 or 2")
        if self.effect is Effect.DENY and (self.max_qos != QOS_MAXIMUM or not self.retain):
            raise InvalidRule("max_qos and retain limit what a rule allows; this one denies")
        if not self.retain and Action.PUBLISH not in self.actions:
            raise InvalidRule("retain limits publications; this rule is about others")
        for name in ("tenant_id", "user_id", "client_id"):
            value = getattr(self, name)
            if value is not None and len(value.encode()) > _ID_SIZE_MAXIMUM:
                raise InvalidRule(f"{name} has {len(value.encode())} bytes, the limit is {_ID_SIZE_MAXIMUM}")
        for found in _PLACEHOLDER.finditer(self.topic_filter):
            if found[1] not in ("u", "c", "t", "%"):
                raise InvalidRule(f"topic filter {self.topic_filter!r} has {found[0]!r}; known are {PLACEHOLDERS}")
        try:
            parsed = _TOPIC_RULES.parse_topic_filter(self.topic_filter)
        except InvalidTopic as error:
            raise InvalidRule(f"topic filter {self.topic_filter!r}: {error}") from None
        if parsed.share_name is not None:
            raise InvalidRule(
                f"topic filter {self.topic_filter!r}: a rule is about the filter inside $share or $oshare"
            )
