"""What calls of a running broker raise."""


class BrokerError(Exception):
    """A call of the broker failed."""


class BrokerBusy(BrokerError):
    """The command queue of a shard is full; nothing was done, and trying again later may help."""


class BrokerLate(BrokerError):
    """A shard did not answer in time; what became of the command is not known."""


class BrokerNotDurable(BrokerError):
    """The disk fails: what was asked for is not durable now. Whether it will be is not known."""


class BrokerDiskFull(BrokerNotDurable):
    """The same, for want of space."""


class BrokerStopping(BrokerError):
    """The broker takes no more commands."""


class BatchInterrupted(BrokerError):
    """A part of a batch was published; what of the next one was is not known, and the rest was not."""

    def __init__(self, published: int) -> None:
        super().__init__(f"{published} messages were published, those behind them may not have been")
        self.published = published


class ShardFailed(BrokerError):
    """The thread of a shard ended without being told to, or did not end when it was."""
