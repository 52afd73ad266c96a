"""See last_verdict.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from rookery.core.structures.bytes cimport Bytes


cdef uint8_t remember_verdict(LastVerdict **last, Bytes topic, uint8_t verdict) noexcept nogil:
    if topic.size > VERDICT_TOPIC_SIZE:
        return verdict
    if last[0] == NULL:
        last[0] = <LastVerdict *> malloc(sizeof(LastVerdict))
        if last[0] == NULL:
            return verdict
    last[0].size = <uint32_t> topic.size
    last[0].verdict = verdict
    memcpy(last[0].topic, topic.data, topic.size)
    return verdict
