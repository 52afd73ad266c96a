"""Memory that was freed and that the allocator has kept, given back to the system.

After a burst much of what the process has is free, in pieces between others, and glibc gives back only what lies at
the end of a heap. A look now and then tells how much that is; giving it back takes milliseconds in a thread of its own,
and is worth it where it is much. Without glibc nothing is known and nothing done.
"""

import ctypes
from pathlib import Path

import trio

from .log import get_logger

LOOK_S = 15.0  # between two looks
SPARE_BYTES = 16 * 1024 * 1024  # so much may stay
SPARE_PART = 0.125  # of what is in use may stay, where that is more: it will be needed again

_STATUS = Path("/proc/self/status")

_log = get_logger(__name__)


class _Heap(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",  # bytes in pieces that have a mapping of their own
            "usmblks",
            "fsmblks",
            "uordblks",  # bytes in use in all heaps
            "fordblks",
            "keepcost",
        )
    )


class SpareMemory:
    """What the allocator keeps, beyond what there was at the first look or after the last giving back."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._look = getattr(library, "mallinfo2", None)
        self._trim = getattr(library, "malloc_trim", None)
        self.is_known = self._look is not None and self._trim is not None and _STATUS.exists()
        if self._look is not None:
            self._look.restype = _Heap
        self._settled_bytes = self._spare()[0] if self.is_known else 0

    def excess_bytes(self) -> int:
        """How much should be given back; 0 = it is not worth it."""
        if not self.is_known:
            return 0
        spare, used = self._spare()
        self._settled_bytes = min(self._settled_bytes, spare)
        excess = spare - self._settled_bytes
        return excess if excess > max(SPARE_BYTES, SPARE_PART * used) else 0

    def give_back(self) -> None:
        """Give back all that can be. Blocks; whoever allocates in the same heap waits meanwhile."""
        if self._trim is not None:
            self._trim(0)
            self._settled_bytes = self._spare()[0]

    async def watch(self) -> None:
        """Until it is cancelled."""
        while self.is_known:
            await trio.sleep(LOOK_S)
            before = self.excess_bytes()
            if before:
                await trio.to_thread.run_sync(self.give_back)
                _log.debug("memory_given_back", bytes=before - self.excess_bytes())

    def _spare(self) -> tuple[int, int]:
        """Resident bytes that nobody has asked the allocator for, and bytes that somebody has."""
        heap = self._look() if self._look is not None else _Heap()
        used = int(heap.uordblks) + int(heap.hblkhd)
        return max(0, _resident_bytes() - used), used


def _resident_bytes() -> int:
    """Of memory that is of no file."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
