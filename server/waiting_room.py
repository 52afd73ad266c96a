"""Who waits for a decision about his CONNECT: a bounded number, of which no tenant can take the others' part.

Nobody has a fixed share, so one tenant alone may fill the room. When it is full and somebody comes of whom fewer are
inside, whoever has most of them gives up the place that was taken last.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

import trio

from rookery.core.events import ConnectRequested

from .auth.penalties import network_of

TENANTS_LIMIT = 100_000  # that are known; the one from which nobody was let in for longest is forgotten


@dataclass(slots=True, eq=False)
class Place:
    """Of one who waits."""

    flow: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # around what decides about him
    is_given_up: bool = False  # for somebody of another flow


class WaitingRoom:
    """The places, by flow."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[str, list[Place]] = {}  # in the order in which they came; no list is empty
        self.count = 0

    def enter(self, flow: str) -> Place | None:
        """A place; None when there is none, and nobody has more than this flow."""
        if self.count >= self._limit:
            most = max(self._places, key=lambda other: len(self._places[other]))
            if len(self._places[most]) <= len(self._places.get(flow, ())) + 1:
                return None
            self._give_up(self._places[most][-1])
        return self.add(flow)

    def add(self, flow: str) -> Place:
        """A place, also when the room is full."""
        place = Place(flow)
        self._places.setdefault(flow, []).append(place)
        self.count += 1
        return place

    def leave(self, place: Place) -> None:
        """It is decided about, or given up already."""
        if not place.is_given_up:
            self._take_out(place)

    def _give_up(self, place: Place) -> None:
        self._take_out(place)
        place.is_given_up = True
        place.scope.cancel()

    def _take_out(self, place: Place) -> None:
        places = self._places[place.flow]
        places.remove(place)
        if not places:
            del self._places[place.flow]
        self.count -= 1


class LoginFlows:
    """To whom the wait of a client is charged: to his tenant where it is one, else to his address.

    A tenant is one once somebody was let in to it: whoever makes up names of tenants does not get a turn for each.
    """

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, None] = OrderedDict()

    def flow_of(self, request: ConnectRequested) -> str:
        """Tenant or network; a network is never spelled like a tenant that is known."""
        tenant_id = request.tenant_id or (request.tenant_and_user or "").partition("/")[0]
        return tenant_id if tenant_id in self._tenants else f"\0{network_of(request.peer)}"

    def know(self, tenant_id: str) -> None:
        """Somebody was let in."""
        self._tenants[tenant_id] = None
        self._tenants.move_to_end(tenant_id)
        if len(self._tenants) > TENANTS_LIMIT:
            self._tenants.popitem(last=False)
