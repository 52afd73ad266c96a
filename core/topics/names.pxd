"""Topic names and topic filters as text: what is allowed, and how $share is taken apart [MQTT5 4.7, 4.8.2]."""

from libc.stdint cimport uint8_t, uint16_t
from rookery.core.structures.bytes cimport Bytes


cdef enum:
    LEVEL_SEPARATOR = 0x2F   # /
    SINGLE_LEVEL = 0x2B      # +
    MULTI_LEVEL = 0x23       # #
    SYSTEM_MARK = 0x24       # $ at the beginning: no leading wildcard matches [MQTT-4.7.2-1]

cdef struct TopicLimits:
    uint16_t topic_size_maximum   # bytes, 1 to 65535
    uint16_t level_count_maximum  # levels, at least 1
    uint16_t level_size_maximum   # bytes of one level

cdef enum TopicError:
    TOPIC_OK = 0
    TOPIC_EMPTY = 1            # [MQTT-4.7.3-1]
    TOPIC_TOO_LONG = 2
    TOPIC_TOO_MANY_LEVELS = 3
    TOPIC_LEVEL_TOO_LONG = 4
    TOPIC_HAS_WILDCARD = 5     # a topic name with + or # [MQTT-3.3.2-2]
    TOPIC_WILDCARD_MISPLACED = 6  # [MQTT-4.7.1-1], [MQTT-4.7.1-2]
    TOPIC_HAS_NUL = 7          # [MQTT-4.7.3-2]
    TOPIC_SHARE_INVALID = 8    # $share without name or filter, a name with / + or # [MQTT-4.8.2-1, -2]

cdef enum ShareKind:
    SHARE_NONE = 0
    SHARE_UNORDERED = 1  # $share/{share_name}/{topic_filter}
    SHARE_ORDERED = 2    # $oshare/{share_name}/{topic_filter}

cdef struct ParsedFilter:
    ShareKind share_kind
    Bytes share_name      # empty without share
    Bytes topic_filter    # what is matched against topics
    bint has_wildcard


# UTF-8 has been checked by the decoder (or the caller). Where several things are wrong, the first in the order empty,
# too long, NUL, wildcard, share, levels is told. A topic that begins with $share/ or $oshare/ is TOPIC_SHARE_INVALID:
# nobody could subscribe to it. 10 ns for 25 bytes.
cdef TopicError check_topic(const uint8_t *topic, Py_ssize_t size, const TopicLimits *limits) noexcept nogil
# Checks and takes apart; after an error parsed.topic_filter is the part that is wrong. The limits count the inner topic
# filter, without the share prefix. A share within a share is TOPIC_SHARE_INVALID.
cdef TopicError parse_topic_filter(
    const uint8_t *topic_filter, Py_ssize_t size, const TopicLimits *limits, ParsedFilter *parsed) noexcept nogil
# What is wrong, as a static sentence for logs and reason strings.
cdef const char *describe_topic_error(TopicError error) noexcept nogil
