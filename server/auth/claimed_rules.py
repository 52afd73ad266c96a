"""Rules that come with a client: in a claim of its token, in the answer of a service. Compiled once per list."""

import json
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from rookery.core.permissions.rule import Effect, InvalidRule, Rule
from rookery.core.permissions.rule_set import Permissions
from rookery.server.permissions.rules_file import parse_rule

RULES_MAXIMUM = 1000  # that one client may bring
SETS_REMEMBERED = 10_000  # lists that were compiled; the one not asked for longest goes first


class InvalidRules(ValueError):
    """Rules that cannot be used; which, and why."""


class ClaimedRules:
    """Compiles lists of rules, and remembers those that came before: many clients bring the same."""

    def __init__(self, *, default: Effect, disconnects: bool) -> None:
        self._default = default  # where none of them decides
        self._disconnects = disconnects
        self._compiled: OrderedDict[Hashable, Permissions] = OrderedDict()

    def __len__(self) -> int:
        return len(self._compiled)

    def compile(self, rules: object) -> Permissions:
        """The rules of a JSON array, each as in the rules file; an empty one allows what the default does.

        Raises InvalidRules.
        """
        if not isinstance(rules, list):
            raise InvalidRules("they are no array")
        if len(rules) > RULES_MAXIMUM:
            raise InvalidRules(f"{len(rules)} rules, the limit is {RULES_MAXIMUM}")
        key = json.dumps(rules, sort_keys=True)
        found = self._recall(key)
        if found is not None:
            return found
        parsed = []
        for number, rule in enumerate(rules, start=1):
            try:
                parsed.append(parse_rule(rule))
            except (InvalidRule, UnicodeEncodeError) as error:
                raise InvalidRules(f"rule {number}: {error}") from None
        return self._compile(key, parsed)

    def compile_rules(self, rules: Sequence[Rule]) -> Permissions:
        """As compile, for rules that are rules already. Raises InvalidRules."""
        key = tuple(rules)
        if len(key) > RULES_MAXIMUM:
            raise InvalidRules(f"{len(key)} rules, the limit is {RULES_MAXIMUM}")
        return self._recall(key) or self._compile(key, key)

    def _recall(self, key: Hashable) -> Permissions | None:
        found = self._compiled.get(key)
        if found is not None:
            self._compiled.move_to_end(key)
        return found

    def _compile(self, key: Hashable, rules: Sequence[Rule]) -> Permissions:
        compiled = self._compiled[key] = Permissions(rules, default=self._default, disconnects=self._disconnects)
        if len(self._compiled) > SETS_REMEMBERED:
            self._compiled.popitem(last=False)
        return compiled
