"""So many requests a second for each caller: what nobody used of a second may be used at once."""

from collections import OrderedDict

import trio

CALLERS_LIMIT = 10_000  # remembered; the one longest silent goes first, and has a whole second's worth then


class RateLimit:
    """The requests of all callers. rate: a second, of each; 0 = no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._paid_until: OrderedDict[str, float] = OrderedDict()  # caller -> when all his requests are paid for

    def take(self, caller: str) -> float:
        """Take one request: 0 if it is allowed, else the seconds after which one will be."""
        if self._rate <= 0:
            return 0.0
        now = trio.current_time()
        burst_s = max(1.0, 1.0 / self._rate)
        paid_until = max(self._paid_until.get(caller, float("-inf")), now - burst_s)
        due = paid_until + 1.0 / self._rate
        if due > now + 1e-9:
            return due - now
        self._paid_until[caller] = due
        self._paid_until.move_to_end(caller)
        if len(self._paid_until) > CALLERS_LIMIT:
            self._paid_until.popitem(last=False)
        return 0.0
