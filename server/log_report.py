"""What there is to say about the durable log of a data directory, read without changing anything."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rookery.core.border.journal_kinds import JOURNAL_KINDS
from rookery.core.log.inspection import Hole, SegmentFindings, inspect_log

from .data_directory import LOG_FOLDER, DataDirectoryInUse, share_directory

HOLES_SHOWN = 20  # of a report for people; --json has more


@dataclass(frozen=True, slots=True)
class LogReport:
    """The log of a data directory as it is, or was a moment ago."""

    directory: Path
    segments: tuple[SegmentFindings, ...]
    user: str | None = None  # process that writes to it meanwhile

    @property
    def is_damaged(self) -> bool:
        return any(segment.is_damaged for segment in self.segments)

    @property
    def torn(self) -> Hole | None:
        """The unfinished commit at the end, which the next start cuts off."""
        if not self.segments or self.segments[-1].torn_bytes == 0:
            return None
        last = self.segments[-1]
        return Hole(last.path, last.end_offset, last.torn_bytes)

    @property
    def records(self) -> dict[str, int]:
        """How many there are of each kind, by name."""
        return _sum_by_kind(segment.counts for segment in self.segments)

    @property
    def record_bytes(self) -> dict[str, int]:
        """What all those of a kind take of the log, by name."""
        return _sum_by_kind(segment.bytes for segment in self.segments)

    def print_summary(self) -> str:
        """One line."""
        commits = sum(segment.commits for segment in self.segments)
        records = sum(segment.records for segment in self.segments)
        size = sum(segment.size for segment in self.segments)
        return f"{len(self.segments)} segments, {size} bytes, {commits} commits, {records} records"

    def print_damage(self) -> list[str]:
        """A line for each bad place, the first ones of many; none when the log is not damaged."""
        lines = []
        for segment in self.segments:
            if segment.complaint != "":
                lines.append(f"{segment.path}: offset 0: {segment.complaint}")
            lines += [print_hole(hole) for hole in segment.holes]
        count = sum(segment.hole_count + (segment.complaint != "") for segment in self.segments)
        if count > HOLES_SHOWN:
            lines = [*lines[:HOLES_SHOWN], f"and {count - HOLES_SHOWN} more"]
        return lines

    def print_torn(self) -> list[str]:
        """A line about the end, when it is torn."""
        torn = self.torn
        if torn is None:
            return []
        return [
            f"{torn.path}: offset {torn.offset}: {torn.size} bytes of a commit that was not finished, which the next"
            " start cuts off"
        ]

    def print(self) -> str:
        """All of it, for people."""
        lines = [f"{'segment':<20} {'bytes':>12} {'position':>14} {'commits':>9} {'records':>10}  begun"]
        for segment in self.segments:
            begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(segment.created_ms / 1000))
            lines.append(
                f"{segment.path.name:<20} {segment.size:>12} {segment.first_position:>14} {segment.commits:>9}"
                f" {segment.records:>10}  {begun if segment.created_ms else '?'}"
            )
        sizes = self.record_bytes
        lines += [f"{kind:<20} {count:>12} {sizes[kind]:>14} bytes" for kind, count in self.records.items()]
        lines += [f"total: {self.print_summary()}", *self.print_damage(), *self.print_torn()]
        if self.user is not None:
            lines.append(f"process {self.user} is writing to it: figures of the last segment are of a moment ago")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        torn = self.torn
        return {
            "directory": str(self.directory),
            "in_use_by": self.user,
            "is_damaged": self.is_damaged,
            "records": self.records,
            "record_bytes": self.record_bytes,
            "torn": None if torn is None else _hole_to_json(torn),
            "segments": [
                {
                    "path": str(segment.path),
                    "number": segment.number,
                    "first_position": segment.first_position,
                    "created_ms": segment.created_ms,
                    "bytes": segment.size,
                    "commits": segment.commits,
                    "records": segment.records,
                    "complaint": segment.complaint,
                    "hole_count": segment.hole_count,
                    "holes": [_hole_to_json(hole) for hole in segment.holes],
                }
                for segment in self.segments
            ],
        }


def _sum_by_kind(parts: Iterable[dict[int, int]]) -> dict[str, int]:
    total: Counter[int] = Counter()
    for part in parts:
        total.update(part)
    return {JOURNAL_KINDS.get(kind, f"kind {kind}"): amount for kind, amount in sorted(total.items())}


def print_hole(hole: Hole) -> str:
    """One line."""
    return f"{hole.path}: offset {hole.offset}: {hole.size} bytes are damaged or missing"


def _hole_to_json(hole: Hole) -> dict[str, Any]:
    return {"path": str(hole.path), "offset": hole.offset, "bytes": hole.size}


def read_log_report(directory: Path, *, is_live_allowed: bool = False) -> LogReport:
    """Look into the log of a data directory; nothing is changed.

    While a process uses the directory: DataDirectoryInUse, or with is_live_allowed a report that leaves out what is
    wrong with the last segment, which that process is writing to. Raises DataDirectoryError and LogError.
    """
    with share_directory(directory) as user:
        if user is None:
            return LogReport(directory, tuple(inspect_log(directory / LOG_FOLDER)))
        if not is_live_allowed:
            raise DataDirectoryInUse(f"data directory {directory}: in use by process {user}")
        while True:
            try:
                return LogReport(directory, tuple(inspect_log(directory / LOG_FOLDER, is_live=True)), user)
            except FileNotFoundError:
                continue  # The oldest segment is no longer needed, and gone.
