class Ledger:
    """The books of one flow: what its lanes (subscribers) have seen of it."""

    def __init__(self, lane_count: int) -> None: ...
    def see_next(self, lane: int, sequence: int, is_redelivery: bool = False) -> bool:
        """Enter a message of a flow that goes to each; True if this lane had not seen it."""

    def see_one_of(self, lane: int, sequence: int, is_ordered: bool = True, is_redelivery: bool = False) -> bool:
        """Enter a message of a flow that is parted among its lanes; True if no lane had seen it."""

    @property
    def floor(self) -> int:
        """Every sequence number below this was seen by some lane (flows that are parted)."""

    @property
    def counts(self) -> dict[str, int]:
        """What went wrong so far, by name."""
