"""Several authenticators in order: each admits, refuses, or leaves the client to the next.

What the last one leaves is refused, with the words of a wrong password: the answer does not tell who exists. An
authenticator that fails ends the chain, too; the next is not asked, because it may know less than the broken one did.

That an admission holds for others (Admitted.remember_s) counts only when everybody who was asked before would leave the
same CONNECT again: a service or a plugin may know the client by then.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Protocol

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode

from .authenticator import Admitted, Authenticator, Decision, Refused
from .development import DevelopmentAuthenticator

BAD_CREDENTIALS = Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "wrong user name or password")


class NotMine(Enum):
    """The answer of an authenticator that does not know the client: the next one is asked."""

    NOT_MINE = "not mine"


NOT_MINE = NotMine.NOT_MINE


class Link(Protocol):
    """An authenticator that may leave the client to the next. Every Authenticator is one.

    One that can often decide at once has a method decide, too, as ImmediateAuthenticator has it, or NOT_MINE. One that
    leaves the same listener, user name and password again until it is reloaded or its users change has an attribute
    leaves_lastingly that is true.
    """

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        """As that of Authenticator, or NOT_MINE."""
        ...


class Chain:
    """An authenticator that asks others in order. Decides at once for as long as those that it asks do."""

    def __init__(self, links: Sequence[Link]) -> None:
        if not links:
            raise ValueError("a chain of no authenticators would admit nobody")
        leave = [bool(getattr(link, "leaves_lastingly", False)) for link in links]
        # Each with whether all before it would leave the same client to it another time.
        self._links = tuple((link, all(leave[:place])) for place, link in enumerate(links))

    def decide(self, request: ConnectRequested) -> Decision | None:
        """See ImmediateAuthenticator."""
        for link, may_last in self._links:
            answer = _decide(link, request)
            if not isinstance(answer, NotMine):
                return answer if may_last or answer is None else _for_one(answer)
        return BAD_CREDENTIALS

    async def authenticate(self, request: ConnectRequested) -> Decision:
        """See Authenticator."""
        for link, may_last in self._links:
            answer = _decide(link, request)
            if answer is None:
                answer = await link.authenticate(request)
            if not isinstance(answer, NotMine):
                return answer if may_last else _for_one(answer)
        return BAD_CREDENTIALS


def _for_one(decision: Decision) -> Decision:
    """The same, but it holds for nobody else."""
    return replace(decision, remember_s=0.0) if isinstance(decision, Admitted) else decision


def _decide(link: Link, request: ConnectRequested) -> Decision | NotMine | None:
    decide = getattr(link, "decide", None)
    answer: Decision | NotMine | None = None if decide is None else decide(request)
    return answer


def chain_of(links: Sequence[Link]) -> Authenticator:
    """The chain of these; development alone needs no chain, which spares each CONNECT a call."""
    only = links[0] if len(links) == 1 else None
    return only if isinstance(only, DevelopmentAuthenticator) else Chain(links)
