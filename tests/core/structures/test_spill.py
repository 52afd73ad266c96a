"""Memory that lies in a file."""

import os
import re
import resource
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rookery.core.structures.spill import SpillMemory

CHUNK = 4 * 1024 * 1024
PIECE = bytes(range(256)) * 256  # 64 KiB: 63 fit into a chunk beside its head


def new_spill(directory: Path) -> tuple[SpillMemory, int]:
    """And a descriptor of the same file, to look at it."""
    with tempfile.TemporaryFile(dir=directory) as file:
        return SpillMemory(os.dup(file.fileno())), os.dup(file.fileno())


def resident_bytes(piece: int) -> int:
    """Of the mapping that the piece lies in."""
    is_it = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            is_it = int(place[1], 16) <= piece < int(place[2], 16)
        elif is_it and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the piece lies in no mapping")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_put_is_there_over_many_chunks(tmp_path: Path) -> None:
    spill, _ = new_spill(tmp_path)
    data = [number.to_bytes(4, "big") * (1 + 997 * number % 20_000) for number in range(1000)]
    pieces = [spill.put(item) for item in data]
    assert spill.chunks[0] > 5
    spill.step(1000)
    assert [spill.get(piece) for piece in pieces if piece is not None] == data
    assert all(piece is not None and piece % 16 == 0 for piece in pieces)


def test_pages_that_are_not_touched_take_no_memory(tmp_path: Path) -> None:
    spill, _ = new_spill(tmp_path)
    pieces = [spill.put(PIECE) for _ in range(200)]
    assert pieces[0] is not None
    assert resident_bytes(pieces[0]) > 200 * len(PIECE)
    spill.step(1000)
    assert resident_bytes(pieces[0]) == 0
    assert spill.get(pieces[0]) == PIECE
    assert 0 < resident_bytes(pieces[0]) < 10 * len(PIECE)


def test_pages_are_unmapped_five_times_a_second_at_most(tmp_path: Path) -> None:
    spill, _ = new_spill(tmp_path)
    piece = spill.put(PIECE)
    assert piece is not None
    spill.step(1000)
    spill.get(piece)
    spill.step(1199)
    assert resident_bytes(piece) > 0
    spill.step(1200)
    assert resident_bytes(piece) == 0


def test_no_more_than_a_quarter_of_a_gibibyte_is_mapped_however_much_is_read(tmp_path: Path) -> None:
    spill, _ = new_spill(tmp_path)
    large = bytes(4 * 1024 * 1024 - 1024)
    pieces = [spill.put(large) for _ in range(80)]
    spill.step(1000)
    assert pieces[0] is not None
    resident = []
    for piece in pieces:
        assert piece is not None
        assert spill.get(piece) == large
        resident.append(resident_bytes(pieces[0]))
    assert 200 * 1024 * 1024 < max(resident) <= 260 * 1024 * 1024
    assert resident[-1] < 100 * 1024 * 1024


def test_blocks_of_freed_chunks_go_back_to_the_file_system(tmp_path: Path) -> None:
    spill, descriptor = new_spill(tmp_path)
    pieces = [spill.put(PIECE) for _ in range(63 * 4)]
    assert os.fstat(descriptor).st_blocks * 512 >= 4 * CHUNK
    for piece in pieces[: 63 * 3]:
        assert piece is not None
        spill.free(piece)
    spill.step(1000)
    assert spill.chunks == (4, 3)
    assert os.fstat(descriptor).st_blocks * 512 <= CHUNK + 65536
    # And are asked for again.
    again = [spill.put(PIECE) for _ in range(63 * 3)]
    assert spill.chunks == (4, 0)
    assert all(piece is not None and spill.get(piece) == PIECE for piece in (*pieces[63 * 3 :], *again))


def test_a_chunk_that_is_open_but_empty_is_given_back(tmp_path: Path) -> None:
    spill, descriptor = new_spill(tmp_path)
    piece = spill.put(b"x")
    assert piece is not None
    spill.free(piece)
    spill.step(1000)
    assert spill.chunks == (1, 1)
    assert os.fstat(descriptor).st_blocks * 512 < CHUNK
    assert spill.put(b"y") is not None
    assert spill.chunks == (1, 0)


def test_pieces_are_freed_by_any_thread(tmp_path: Path) -> None:
    spill, _ = new_spill(tmp_path)
    pieces = [piece for _ in range(63 * 8) if (piece := spill.put(PIECE)) is not None]

    def free_every_fourth(first: int) -> None:
        for piece in pieces[first::4]:
            spill.free(piece)

    threads = [threading.Thread(target=free_every_fourth, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spill.step(1000)
    assert spill.chunks == (8, 8)


def test_what_is_larger_than_a_chunk_is_not_taken(tmp_path: Path) -> None:
    spill, _ = new_spill(tmp_path)
    assert spill.put(bytes(CHUNK)) is None
    assert spill.put(bytes(CHUNK - 16)) is not None


def test_a_full_file_system_is_no_signal_and_is_asked_again_after_a_second(tmp_path: Path) -> None:
    spill, _ = new_spill(tmp_path)
    with files_of_at_most(CHUNK):
        pieces = [spill.put(PIECE) for _ in range(64)]
    assert [piece is None for piece in pieces] == [False] * 63 + [True]
    assert spill.put(PIECE) is None
    spill.step(1000)
    assert spill.put(PIECE) is not None
