"""The segment files of a data folder: which there are, and what their headers say."""

import itertools
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rookery.core.log.errors import LogDamagedError, LogError, LogTooNewError
from rookery.core.structures.checksum import checksum

HEADER_SIZE = 64
VERSION = 1

HEADER = struct.Struct("<8sIIQQQQ")
_MAGIC = b"RKYLOG\r\n"
_BLOCK_SIZE = 1 << 20


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
            size = os.fstat(file.fileno()).st_size
            if len(header) < HEADER_SIZE or not _is_whole(header):
                if not _has_more(file):
                    return None
                raise LogDamagedError(f"{path}: the header is {'damaged' if any(header) else 'missing'}")
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}") from error
    _, version, _, log_id, number, first_position, created_ms = HEADER.unpack_from(header)
    if version > VERSION:
        raise LogTooNewError(f"{path}: has format {version}, this version of Rookery reads up to {VERSION}")
    return Segment(path, number, log_id, first_position, created_ms, size)


def _is_whole(header: bytes) -> bool:
    """Magic, version and checksum are where they are in every version, and so is what the checksum covers."""
    magic, version, check, *_ = HEADER.unpack_from(header)
    return bool(magic == _MAGIC and version > 0 and check == checksum(header[:12] + bytes(4) + header[16:]))


def _has_more(file: BinaryIO) -> bool:
    """Does anything but zeros follow? The header is on the disk before the first record is written, so a file that was
    never begun has nothing, and one whose first block is lost has something."""
    return any(any(block) for block in iter(lambda: file.read(_BLOCK_SIZE), b""))
