"""LastVerdict: what the rules said about the topic that a session published to last.

Most clients publish to one topic, thousands of times: it is compared instead of walked. The memory is made with the
first publication and goes with the rules; a RuleSet never changes, so nothing remembered can be out of date. (A table
of more topics was tried and left: it is hardly faster than RuleTree, and clients could make it grow.)
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp
from rookery.core.structures.bytes cimport Bytes

cdef enum:
    VERDICT_TOPIC_SIZE = 120     # bytes of a topic that is remembered; longer ones are walked each time


cdef struct LastVerdict:         # two cache lines
    uint32_t size                # bytes of the topic
    uint32_t verdict
    uint8_t topic[120]           # VERDICT_TOPIC_SIZE


cdef inline bint is_last_topic(const LastVerdict *last, Bytes topic) noexcept nogil:
    return last != NULL and last.size == topic.size and memcmp(last.topic, topic.data, topic.size) == 0


# Returns verdict. Where there is no memory, or the topic is long, it is not remembered.
cdef uint8_t remember_verdict(LastVerdict **last, Bytes topic, uint8_t verdict) noexcept nogil
