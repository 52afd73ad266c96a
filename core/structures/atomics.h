/* Atomic access to plain fields, for structures that one thread writes while others read.
 *
 * Loads acquire and stores release: whoever sees a pointer or an index also sees what was written before it was
 * published. On x86-64 both are ordinary moves; the builtins keep the compiler from reordering or splitting them. */

#ifndef ROOKERY_ATOMICS_H
#define ROOKERY_ATOMICS_H

#include <stdint.h>

static inline uint32_t atomic_load_u32(const uint32_t *field) { return __atomic_load_n(field, __ATOMIC_ACQUIRE); }
static inline uint64_t atomic_load_u64(const uint64_t *field) { return __atomic_load_n(field, __ATOMIC_ACQUIRE); }
static inline void *atomic_load_pointer(void *const *field) { return __atomic_load_n(field, __ATOMIC_ACQUIRE); }

static inline void atomic_store_u32(uint32_t *field, uint32_t value) { __atomic_store_n(field, value, __ATOMIC_RELEASE); }
static inline void atomic_store_u64(uint64_t *field, uint64_t value) { __atomic_store_n(field, value, __ATOMIC_RELEASE); }
static inline void atomic_store_pointer(void **field, void *value) { __atomic_store_n(field, value, __ATOMIC_RELEASE); }

/* Read, change, write as one step and as a full barrier; all return what was there before. */
static inline uint64_t atomic_add_u64(uint64_t *field, uint64_t amount) {
    return __atomic_fetch_add(field, amount, __ATOMIC_SEQ_CST);
}
static inline uint64_t atomic_subtract_u64(uint64_t *field, uint64_t amount) {
    return __atomic_fetch_sub(field, amount, __ATOMIC_SEQ_CST);
}
static inline uint32_t atomic_exchange_u32(uint32_t *field, uint32_t value) {
    return __atomic_exchange_n(field, value, __ATOMIC_SEQ_CST);
}
/* 1 if *field was expected and is value now. */
static inline int atomic_replace_u32(uint32_t *field, uint32_t expected, uint32_t value) {
    return __atomic_compare_exchange_n(field, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline int atomic_replace_u64(uint64_t *field, uint64_t expected, uint64_t value) {
    return __atomic_compare_exchange_n(field, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
static inline int atomic_replace_pointer(void **field, void *expected, void *value) {
    return __atomic_compare_exchange_n(field, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline void atomic_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#endif
