"""What the allocator has kept is known, and given back."""

import ctypes
import threading

import pytest

from rookery.server import spare_memory
from rookery.server.spare_memory import SPARE_BYTES, SpareMemory

MIB = 1024 * 1024
PIECE = 1024

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]


def leave_holes(size: int) -> list[int]:
    """Take so much in small pieces and free all but one of a hundred: free memory between used pieces."""
    pieces = [libc.malloc(PIECE) for _ in range(size // PIECE)]
    for piece in pieces:
        ctypes.memset(piece, 1, PIECE)
    kept = pieces[::100]
    for number, piece in enumerate(pieces):
        if number % 100:
            libc.free(piece)
    return kept


@pytest.fixture
def memory() -> SpareMemory:
    memory = SpareMemory()
    if not memory.is_known:
        pytest.skip("the allocator tells nothing")
    return memory


def test_what_is_free_between_pieces_that_are_in_use_is_given_back(memory: SpareMemory) -> None:
    assert memory.excess_bytes() == 0
    kept = leave_holes(6 * SPARE_BYTES)
    try:
        excess = memory.excess_bytes()
        assert excess > 5 * SPARE_BYTES
        resident = spare_memory._resident_bytes()
        memory.give_back()
        assert spare_memory._resident_bytes() < resident - 4 * SPARE_BYTES
        assert memory.excess_bytes() == 0
    finally:
        for piece in kept:
            libc.free(piece)


def test_what_is_used_again_and_freed_again_is_given_back_again(memory: SpareMemory) -> None:
    for _ in range(2):
        kept = leave_holes(6 * SPARE_BYTES)
        try:
            assert memory.excess_bytes() > 4 * SPARE_BYTES
            memory.give_back()
            assert memory.excess_bytes() == 0
        finally:
            for piece in kept:
                libc.free(piece)


def test_what_is_in_use_is_no_excess(memory: SpareMemory) -> None:
    pieces = [libc.malloc(PIECE) for _ in range(4 * SPARE_BYTES // PIECE)]
    for piece in pieces:
        ctypes.memset(piece, 1, PIECE)
    try:
        assert memory.excess_bytes() < SPARE_BYTES
    finally:
        for piece in pieces:
            libc.free(piece)


def test_allocator_that_tells_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    memory = SpareMemory()
    assert not memory.is_known
    assert memory.excess_bytes() == 0
    memory.give_back()


def test_heaps_of_other_threads_are_given_back_too(memory: SpareMemory) -> None:
    kept: list[int] = []
    done, may_end = threading.Event(), threading.Event()

    def shard() -> None:
        kept.extend(leave_holes(6 * SPARE_BYTES))
        done.set()
        may_end.wait()
        for piece in kept:
            libc.free(piece)

    thread = threading.Thread(target=shard)
    thread.start()
    try:
        done.wait()
        assert memory.excess_bytes() > 5 * SPARE_BYTES
        memory.give_back()
        assert memory.excess_bytes() == 0
    finally:
        may_end.set()
        thread.join()
