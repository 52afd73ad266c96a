"""hash_bytes is SipHash-1-3: compared with a plain twin, and with the hash that CPython itself uses."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.core.structures.hashing import siphash13

MASK = 2**64 - 1
CPYTHON_PROGRAM = "print(*(hash(bytes(range(size))) for size in range(1, 64)))"


def rotate_left(word: int, count: int) -> int:
    return (word << count | word >> (64 - count)) & MASK


def sip_round(a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    a = (a + b) & MASK
    b = rotate_left(b, 13) ^ a
    a = rotate_left(a, 32)
    c = (c + d) & MASK
    d = rotate_left(d, 16) ^ c
    a = (a + d) & MASK
    d = rotate_left(d, 21) ^ a
    c = (c + b) & MASK
    b = rotate_left(b, 17) ^ c
    return a, b, rotate_left(c, 32), d


def siphash13_twin(key: bytes, data: bytes) -> int:
    first, second = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = (
        first ^ 0x736F6D6570736575,
        second ^ 0x646F72616E646F6D,
        first ^ 0x6C7967656E657261,
        second ^ 0x7465646279746573,
    )
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for index in range(0, len(padded), 8):
        word = int.from_bytes(padded[index : index + 8], "little")
        a, b, c, d = sip_round(*state[:3], state[3] ^ word)
        state = (a ^ word, b, c, d)
    a, b, c, d = state
    a, b, c, d = sip_round(*sip_round(*sip_round(a, b, c ^ 0xFF, d)))
    return a ^ b ^ c ^ d


@given(key=st.binary(min_size=16, max_size=16), data=st.binary(max_size=300))
def test_hash_is_that_of_the_twin(key: bytes, data: bytes) -> None:
    assert siphash13(key, data) == siphash13_twin(key, data)


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this CPython hashes in another way")
def test_hash_is_that_of_cpython_under_the_zero_key() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    output = subprocess.run(
        [sys.executable, "-c", CPYTHON_PROGRAM], env=environment, capture_output=True, check=True
    ).stdout
    expected = [int(number) & MASK for number in output.split()]
    assert [siphash13(bytes(16), bytes(range(size))) for size in range(1, 64)] == expected


def test_trailing_nul_bytes_count() -> None:
    key = bytes(range(16))
    assert len({siphash13(key, bytes(size)) for size in range(40)}) == 40


def test_key_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        siphash13(bytes(15), b"")
