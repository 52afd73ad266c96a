import os
from dataclasses import dataclass
from pathlib import Path

from rookery.core.log.durable_log import DurableLog

@dataclass(frozen=True, slots=True)
class Hole:
    path: Path
    offset: int
    size: int

@dataclass(frozen=True, slots=True)
class SegmentFindings:
    path: Path
    number: int
    first_position: int
    created_ms: int
    size: int
    commits: int
    records: int
    counts: dict[int, int]
    bytes: dict[int, int]
    end_offset: int
    holes: tuple[Hole, ...]
    hole_count: int
    lost_bytes: int
    torn_bytes: int
    complaint: str
    @property
    def is_damaged(self) -> bool: ...
    @property
    def first_bad_offset(self) -> int | None: ...

def inspect_log(folder: str | os.PathLike[str], *, is_live: bool = False) -> list[SegmentFindings]: ...
def measure_segment(path: str | os.PathLike[str]) -> tuple[int, bool]: ...
def copy_log(folder: str | os.PathLike[str], log: DurableLog) -> list[SegmentFindings]: ...
