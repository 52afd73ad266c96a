"""Memory in a file, as far as tests need it."""

class SpillMemory:
    """Pieces of bytes in the empty file behind a descriptor, which it takes over."""

    def __init__(self, descriptor: int) -> None: ...
    def put(self, data: bytes) -> int | None:
        """A handle of the copy; None when it is too large or the file system has no room."""

    def get(self, piece: int) -> bytes: ...
    def free(self, piece: int) -> None:
        """From any thread."""

    def step(self, now_ms: int) -> None: ...
    @property
    def chunks(self) -> tuple[int, int]:
        """How many were ever opened, and how many of these are free and have no blocks of the file."""
