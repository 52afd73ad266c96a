import os
from dataclasses import dataclass
from pathlib import Path

SEGMENT_SIZE: int
SEGMENT_SIZE_MINIMUM: int
REFUSE_AFTER_MS: int
BACKLOG_LIMIT: int

@dataclass(frozen=True, slots=True)
class TornTail:
    path: Path
    offset: int
    size: int

@dataclass(frozen=True, slots=True)
class LogState:
    position: int
    synced_position: int
    total_bytes: int
    backlog_bytes: int
    waiting_batches: int
    segments: int
    commits: int
    syncs: int
    sync_us: int
    last_sync_us: int
    sync_failures: int
    failures: int
    last_error: int
    error: int
    failing_ms: int

class DurableLog:
    folder: Path
    refuse_after_ms: int
    lost: TornTail | None
    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        sync: str = "always",
        interval_ms: int = 100,
        segment_size: int = ...,
        refuse_after_ms: int = ...,
        backlog_limit: int = ...,
    ) -> None: ...
    def recover(self) -> list[tuple[int, int, bytes]]: ...
    def skip(self) -> None: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...
    def drop_before(self, position: int) -> None: ...
    def state(self) -> LogState: ...
    @property
    def is_holding(self) -> bool: ...
    @property
    def is_refusing(self) -> bool: ...
    def committed(self, source: int) -> int: ...
    def fail(
        self,
        error: int,
        *,
        writable_bytes: int | None = None,
        good_syncs: int | None = None,
        creation: bool = False,
    ) -> None: ...

class RecordWriter:
    def __init__(self, log: DurableLog, source: int = 0) -> None: ...
    def append(self, kind: int, body: bytes, *, goes_on: bool = False) -> None: ...
    def submit(self) -> int: ...
