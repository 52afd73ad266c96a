"""CRC-32C: known answers, and the processor's instruction against the tables."""

import random

import pytest

from rookery.core.structures.checksum import checksum, checksum_by_table

# RFC 3720, B.4, and the check value of the polynomial.
KNOWN = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(reversed(range(32))), 0x113FDB5C),
]


@pytest.mark.parametrize(("data", "expected"), KNOWN)
def test_known_answers(data: bytes, expected: int) -> None:
    assert checksum(data) == expected
    assert checksum_by_table(data) == expected


def test_instruction_and_tables_agree_at_every_size_and_place() -> None:
    data = random.Random(1).randbytes(300)
    for size in range(100):
        for start in (0, 1, 3, 7, 8):
            piece = data[start : start + size]
            assert checksum(piece) == checksum_by_table(piece)


def test_checksum_goes_on_from_what_came_before() -> None:
    data = random.Random(2).randbytes(1000)
    for cut in (0, 1, 7, 8, 9, 500, 1000):
        assert checksum(data[cut:], checksum(data[:cut])) == checksum(data)
        assert checksum_by_table(data[cut:], checksum_by_table(data[:cut])) == checksum(data)
