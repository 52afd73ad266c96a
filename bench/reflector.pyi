from types import TracebackType

class Reflector:
    """Joins client pairs + i of a load to its client i, on a thread of its own: a peer that only copies.

    As a context manager it serves one load of the plan `pairs(count)` at QoS 0, and waits for its thread at the end:
    close the load first.
    """

    port: int

    def __init__(self, pairs: int, *, cpu: int | None = None) -> None:
        """cpu: where its thread runs; None: anywhere."""

    def __enter__(self) -> Reflector: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
