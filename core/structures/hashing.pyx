"""SipHash with one round per word and three at the end, over words that may lie at any address."""

from libc.stdint cimport uint8_t, uint64_t


cdef struct SipState:
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d


cdef inline uint64_t rotate_left(uint64_t word, int count) noexcept nogil:
    return word << count | word >> (64 - count)


cdef inline void sip_round(SipState *state) noexcept nogil:
    state.a += state.b
    state.b = rotate_left(state.b, 13) ^ state.a
    state.a = rotate_left(state.a, 32)
    state.c += state.d
    state.d = rotate_left(state.d, 16) ^ state.c
    state.a += state.d
    state.d = rotate_left(state.d, 21) ^ state.a
    state.c += state.b
    state.b = rotate_left(state.b, 17) ^ state.c
    state.c = rotate_left(state.c, 32)


cdef inline void sip_word(SipState *state, uint64_t word) noexcept nogil:
    state.d ^= word
    sip_round(state)
    state.a ^= word


cdef uint64_t hash_bytes(const HashKey *key, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef SipState state
    cdef const uint8_t *end = data + (size & ~<Py_ssize_t> 7)
    state.a = key.first ^ 0x736F6D6570736575ULL  # the constants spell "somepseudorandomlygeneratedbytes"
    state.b = key.second ^ 0x646F72616E646F6DULL
    state.c = key.first ^ 0x6C7967656E657261ULL
    state.d = key.second ^ 0x7465646279746573ULL
    while data != end:
        sip_word(&state, load_word(data))
        data += 8
    # The last word ends in the size, so that a text and the same text with NULs behind it differ.
    sip_word(&state, load_tail(data, size & 7) | <uint64_t> size << 56)
    state.c ^= 0xFF
    sip_round(&state)
    sip_round(&state)
    sip_round(&state)
    return state.a ^ state.b ^ state.c ^ state.d


cdef int parse_hash_key(bytes key, HashKey *out) except -1:
    """A HashKey of 16 bytes, as random.randbytes or os.urandom give them."""
    if len(key) != 16:
        raise ValueError(f"a hash key has 16 bytes, not {len(key)}")
    out.first = load_word(<const uint8_t *> key)
    out.second = load_word(<const uint8_t *> key + 8)
    return 0


def siphash13(bytes key not None, bytes data not None):
    """SipHash-1-3 of data under a key of 16 bytes, as an unsigned 64-bit number."""
    cdef HashKey parsed
    parse_hash_key(key, &parsed)
    return hash_bytes(&parsed, <const uint8_t *> data, len(data))
