/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78): by the processor where it can, else by eight tables. */

#ifndef ROOKERY_CRC32C_H
#define ROOKERY_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint32_t crc32c_tables[8][256];

static void crc32c_make_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (0x82F63B78u & (0u - (value & 1)));
        crc32c_tables[0][byte] = value;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int table = 1; table < 8; table++) {
            uint32_t before = crc32c_tables[table - 1][byte];
            crc32c_tables[table][byte] = (before >> 8) ^ crc32c_tables[0][before & 0xFF];
        }
}

static uint32_t crc32c_by_table(uint32_t crc, const uint8_t *data, size_t size) {
    crc = ~crc;
    while (size >= 8) {
        crc ^= (uint32_t) data[0] | (uint32_t) data[1] << 8 | (uint32_t) data[2] << 16 | (uint32_t) data[3] << 24;
        crc = crc32c_tables[7][crc & 0xFF] ^ crc32c_tables[6][crc >> 8 & 0xFF] ^ crc32c_tables[5][crc >> 16 & 0xFF]
            ^ crc32c_tables[4][crc >> 24] ^ crc32c_tables[3][data[4]] ^ crc32c_tables[2][data[5]]
            ^ crc32c_tables[1][data[6]] ^ crc32c_tables[0][data[7]];
        data += 8;
        size -= 8;
    }
    while (size-- > 0)
        crc = (crc >> 8) ^ crc32c_tables[0][(crc ^ *data++) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)
#include <immintrin.h>
#define CRC32C_HAS_INSTRUCTION 1
static int crc32c_can_instruct(void) { return __builtin_cpu_supports("sse4.2") != 0; }
__attribute__((target("sse4.2")))
static uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t *data, size_t size) {
    uint64_t value = ~crc;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        value = _mm_crc32_u64(value, word);
        data += 8;
        size -= 8;
    }
    while (size-- > 0)
        value = _mm_crc32_u8((uint32_t) value, *data++);
    return ~(uint32_t) value;
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define CRC32C_HAS_INSTRUCTION 1
static int crc32c_can_instruct(void) { return 1; }
static uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t *data, size_t size) {
    uint32_t value = ~crc;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        value = __crc32cd(value, word);
        data += 8;
        size -= 8;
    }
    while (size-- > 0)
        value = __crc32cb(value, *data++);
    return ~value;
}
#else
static int crc32c_can_instruct(void) { return 0; }
static uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t *data, size_t size) {
    return crc32c_by_table(crc, data, size);
}
#endif

#endif
