"""What a run of the load generator yields, and how it fails."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """What happened since the run began; two of them are subtracted to get an interval."""

    time_ns: int
    # Messages that publishers sent, and deliveries that subscribers got of them (each counted once).
    sent: int
    due: int
    delivered: int
    # QoS 1 messages that came again with DUP set, which the standard allows.
    redelivered: int
    # CONNACKs and PINGRESPs.
    connects: int
    pings: int
    # System calls of the generator, to see how well it batches.
    receives: int
    sends: int
    waits: int
    # Time that it spent waiting for the broker: where there is none, the generator is the limit.
    idle_ns: int
    # When something last arrived.
    last_receive_ns: int

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(
            **{
                name: getattr(self, name) - getattr(earlier, name)
                for name in self.__dataclass_fields__
                if name != "last_receive_ns"
            },
            last_receive_ns=self.last_receive_ns,
        )


class LoadError(Exception):
    """The run could not go on: the broker refused, closed a connection, or said something that is not MQTT."""


class InvalidRun(Exception):
    """Messages were lost, doubled, reordered or damaged, so the run has no result.

    problems names each kind with its count; what is 0 is not in it.
    """

    def __init__(self, problems: dict[str, int], delivered: int) -> None:
        self.problems = problems
        self.delivered = delivered
        found = ", ".join(f"{count} {name}" for name, count in problems.items())
        super().__init__(f"{found} (of {delivered} delivered)")
