"""The segment files of a data folder: which there are, and what their headers say."""

import itertools
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from rookery.core.log.errors import LogDamagedError, LogError, LogTooNewError
from rookery.core.structures.checksum import checksum

HEADER_SIZE = 64
VERSION = 1

HEADER = struct.Struct("<8sIIQQQQ")
_MAGIC = b"RKYLOG\r\n"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the log."""

    path: Path
    number: int
    log_id: int
    first_position: int
    created_ms: int  # Unix time
    size: int  # bytes of the file


def list_segments(folder: Path) -> list[Segment]:
    """All segments of a folder, oldest first.

    A last file that was being made when the process ended, without any record yet, is removed. Raises LogDamagedError
    for a header that is not whole, segments of different logs, and gaps; LogTooNewError for a later format.
    """
    segments: list[Segment] = []
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".log")
    for path in paths:
        segment = read_segment(path)
        if segment is not None:
            segments.append(segment)
        elif path is paths[-1]:
            path.unlink()
        else:
            raise LogDamagedError(f"{path}: the header is damaged, and later segments follow")
    for before, segment in itertools.pairwise(segments):
        if segment.log_id != before.log_id:
            raise LogDamagedError(f"{segment.path}: belongs to another log than {before.path.name}")
        if segment.first_position < before.first_position:
            raise LogDamagedError(f"{segment.path}: begins before {before.path.name} does")
    return segments


def read_segment(path: Path) -> Segment | None:
    """What its header says; None when the file was never begun. Raises as list_segments does."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_SIZE)
            behind = file.read(HEADER_SIZE)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}") from error
    if len(header) < HEADER_SIZE or not any(header):
        if any(behind):
            raise LogDamagedError(f"{path}: the header is missing")
        return None
    magic, version, check, log_id, number, first_position, created_ms = HEADER.unpack_from(header)
    if magic == _MAGIC and version > VERSION:
        raise LogTooNewError(f"{path}: has format {version}, this version of Rookery reads up to {VERSION}")
    if magic != _MAGIC or check != checksum(header[:12] + bytes(4) + header[16:]) or version == 0:
        if any(behind):
            raise LogDamagedError(f"{path}: the header is damaged")
        return None
    return Segment(path, number, log_id, first_position, created_ms, size)
