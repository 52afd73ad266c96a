"""Atomic access to plain fields, for structures that one thread writes while others read: see atomics.h."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "atomics.h" nogil:
    # Loads acquire, stores release.
    uint32_t atomic_load_u32(const uint32_t *field)
    uint64_t atomic_load_u64(const uint64_t *field)
    void *atomic_load_pointer(void **field)
    void atomic_store_u32(uint32_t *field, uint32_t value)
    void atomic_store_u64(uint64_t *field, uint64_t value)
    void atomic_store_pointer(void **field, void *value)
    # One step and a full barrier; they return what was there before.
    uint64_t atomic_add_u64(uint64_t *field, uint64_t amount)
    uint64_t atomic_subtract_u64(uint64_t *field, uint64_t amount)
    uint32_t atomic_exchange_u32(uint32_t *field, uint32_t value)
    bint atomic_replace_u32(uint32_t *field, uint32_t expected, uint32_t value)  # was it the expected one?
    bint atomic_replace_u64(uint64_t *field, uint64_t expected, uint64_t value)
    bint atomic_replace_pointer(void **field, void *expected, void *value)
    void atomic_fence()

cdef extern from * nogil:
    void prefetch "__builtin_prefetch" (const void *address)
