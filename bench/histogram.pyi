class LatencyHistogram:
    """A log-linear histogram of nanoseconds, 64 buckets per power of two."""

    def record(self, value_ns: int, times: int = 1) -> None: ...
    def percentile(self, percent: float) -> int:
        """The value that percent (0 to 100) of all values do not exceed, in ns, rounded up by at most 1.6 %."""

    @property
    def count(self) -> int: ...
    @property
    def largest_ns(self) -> int: ...
