from collections.abc import Sequence
from typing import NamedTuple

from rookery.core.permissions.rule import Action, Effect, Rule

class Granted(NamedTuple):
    """An action that is allowed, and how far."""

    max_qos: int
    retain: bool  # of a publication

class Permissions:
    """An immutable, compiled list of rules: compiled once, given to as many Engine.admit as one likes.

    default decides where no rule does. disconnects: a publication that is denied ends the connection of a 5.0 client
    with 0x87; without it QoS 1 and 2 are answered with 0x87 and QoS 0 is dropped. A 3.x client is disconnected in
    either case, for it cannot be told otherwise. Raises InvalidRule for more than a million rules.

    What a list of rules allows is defined in rule_set.pxd and in docs/permissions.md.
    """

    def __init__(
        self, rules: Sequence[Rule] = (), *, default: Effect = Effect.DENY, disconnects: bool = False
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def rules(self) -> tuple[Rule, ...]: ...
    @property
    def default(self) -> Effect: ...
    @property
    def disconnects(self) -> bool: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def identity(self) -> int:
        """What Verdicts.rules_identity tells of the rules of a session; another's when these are gone."""

    @property
    def is_replaced(self) -> bool: ...
    def replace_by(self, successor: Permissions) -> None: ...
    def check(
        self, action: Action, text: str, *, tenant_id: str = "", user_id: str = "", client_id: str = ""
    ) -> Granted | None:
        """What the rules say about an action on a checked topic (publish) or topic filter; None = denied."""
