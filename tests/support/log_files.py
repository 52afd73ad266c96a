"""Files of the durable log, as tests change them."""

from pathlib import Path
from typing import Final

from rookery.core.structures.checksum import checksum

LAST_MARK_SIZE: Final = 26  # what a process that stops in order writes last; one that is killed does not


def make_newer(path: Path, version: int = 2) -> None:
    """A segment as a later version might write it."""
    content = bytearray(path.read_bytes())
    content[8:16] = version.to_bytes(4, "little") + bytes(4)
    content[12:16] = checksum(bytes(content[:64])).to_bytes(4, "little")
    path.write_bytes(content)
