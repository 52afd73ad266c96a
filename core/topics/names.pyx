"""The checks of topic names and topic filters, and their Python face.

Both functions run for packets of strangers, check_topic for every PUBLISH: it looks at eight bytes at a time and knows
after one pass whether anything is wrong. Which thing it is, is found out by a second, slow pass that only wrong topics
take (and those with a level that may be too long).
"""

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memchr, memcmp

from typing import NamedTuple

from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport load_tail, load_word

cdef enum:
    NUL = 0
    SHARE_PREFIX_SIZE = 7           # $share/
    SHARE_ORDERED_PREFIX_SIZE = 8   # $oshare/


# byte in all eight places of a word.
cdef inline uint64_t every_byte(uint64_t byte) noexcept nogil:
    return 0x0101010101010101ULL * byte


# Not 0 if a byte of word is 0.
cdef inline uint64_t has_zero_byte(uint64_t word) noexcept nogil:
    return (word - every_byte(0x01)) & ~word & every_byte(0x80)


# How many bytes of word are 0. Exact for each byte, which has_zero_byte is not behind the first one.
cdef inline int count_zero_bytes(uint64_t word) noexcept nogil:
    cdef uint64_t marks = ~(((word & every_byte(0x7F)) + every_byte(0x7F)) | word | every_byte(0x7F))
    return <int> ((marks >> 7) * every_byte(0x01) >> 56)


cdef TopicError check_topic(const uint8_t *topic, Py_ssize_t size, const TopicLimits *limits) noexcept nogil:
    cdef const uint8_t *place = topic
    cdef Py_ssize_t left = size
    cdef Py_ssize_t level_count = 1
    cdef uint64_t wrong = 0
    cdef uint64_t word
    if size == 0:
        return TOPIC_EMPTY  # [MQTT-4.7.3-1]
    if size > limits.topic_size_maximum:
        return TOPIC_TOO_LONG
    while left > 0:
        # The last word is filled up with a letter that means nothing.
        word = load_word(place) if left >= 8 else load_tail(place, left) | every_byte(0x61) << (8 * left)
        # The two wildcards differ in one bit, which is masked out.
        wrong |= has_zero_byte(word) | has_zero_byte((word & every_byte(0xF7)) ^ every_byte(MULTI_LEVEL))
        level_count += count_zero_bytes(word ^ every_byte(LEVEL_SEPARATOR))
        place += 8
        left -= 8
    if wrong:
        # [MQTT-4.7.3-2], [MQTT-4.7.0-1]
        return TOPIC_HAS_NUL if memchr(topic, NUL, size) != NULL else TOPIC_HAS_WILDCARD
    # Nobody could subscribe to such a topic: its filter would be taken for a shared subscription.
    if topic[0] == SYSTEM_MARK and share_kind_of(topic, size) != SHARE_NONE:
        return TOPIC_SHARE_INVALID
    if level_count > limits.level_count_maximum:
        return TOPIC_TOO_MANY_LEVELS
    if size > limits.level_size_maximum and longest_level(topic, size) > limits.level_size_maximum:
        return TOPIC_LEVEL_TOO_LONG
    return TOPIC_OK


cdef TopicError parse_topic_filter(
    const uint8_t *topic_filter, Py_ssize_t size, const TopicLimits *limits, ParsedFilter *parsed
) noexcept nogil:
    cdef Bytes inner = Bytes(data=topic_filter, size=size)
    cdef Bytes share_name = Bytes(data=topic_filter, size=0)
    cdef TopicError error
    parsed.share_kind = share_kind_of(topic_filter, size)
    parsed.has_wildcard = False
    parsed.topic_filter = inner
    parsed.share_name = share_name
    if parsed.share_kind != SHARE_NONE:
        error = split_share(parsed.share_kind, &inner, &share_name)
        if error != TOPIC_OK:
            return error
        parsed.topic_filter = inner
        parsed.share_name = share_name
    return check_filter(inner.data, inner.size, limits, &parsed.has_wildcard)


cdef const char *describe_topic_error(TopicError error) noexcept nogil:
    if error == TOPIC_OK:
        return "the topic is fine"
    if error == TOPIC_EMPTY:
        return "the topic is empty"
    if error == TOPIC_TOO_LONG:
        return "the topic is too long"
    if error == TOPIC_TOO_MANY_LEVELS:
        return "the topic has too many levels"
    if error == TOPIC_LEVEL_TOO_LONG:
        return "a level of the topic is too long"
    if error == TOPIC_HAS_WILDCARD:
        return "a topic name has no wildcards"
    if error == TOPIC_WILDCARD_MISPLACED:
        return "a wildcard fills a whole level, and # is the last one"
    if error == TOPIC_HAS_NUL:
        return "the topic has a NUL character"
    return "a shared subscription is $share/{share_name}/{topic_filter}"


cdef ShareKind share_kind_of(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """What the first level says; a share without anything behind its first level is one, too (an invalid one)."""
    if size >= SHARE_PREFIX_SIZE - 1 and memcmp(text, b"$share", SHARE_PREFIX_SIZE - 1) == 0:
        if size == SHARE_PREFIX_SIZE - 1 or text[SHARE_PREFIX_SIZE - 1] == LEVEL_SEPARATOR:
            return SHARE_UNORDERED
    if size >= SHARE_ORDERED_PREFIX_SIZE - 1 and memcmp(text, b"$oshare", SHARE_ORDERED_PREFIX_SIZE - 1) == 0:
        if size == SHARE_ORDERED_PREFIX_SIZE - 1 or text[SHARE_ORDERED_PREFIX_SIZE - 1] == LEVEL_SEPARATOR:
            return SHARE_ORDERED
    return SHARE_NONE


cdef TopicError split_share(ShareKind kind, Bytes *inner, Bytes *share_name) noexcept nogil:
    """Take prefix and name off inner."""
    cdef Py_ssize_t prefix_size = SHARE_PREFIX_SIZE if kind == SHARE_UNORDERED else SHARE_ORDERED_PREFIX_SIZE
    cdef Py_ssize_t index
    cdef const uint8_t *slash
    if inner.size <= prefix_size:
        return TOPIC_SHARE_INVALID
    inner.data += prefix_size
    inner.size -= prefix_size
    slash = <const uint8_t *> memchr(inner.data, LEVEL_SEPARATOR, inner.size)
    # A name of at least one character [MQTT-4.8.2-1], a slash, and a topic filter behind it [MQTT-4.8.2-2].
    if slash == NULL or slash == inner.data or slash == inner.data + inner.size - 1:
        return TOPIC_SHARE_INVALID
    share_name.data = inner.data
    share_name.size = slash - inner.data
    for index in range(share_name.size):
        if share_name.data[index] in (SINGLE_LEVEL, MULTI_LEVEL):  # [MQTT-4.8.2-2]
            return TOPIC_SHARE_INVALID
        if share_name.data[index] == NUL:
            return TOPIC_HAS_NUL
    inner.data = slash + 1
    inner.size -= share_name.size + 1
    # A share of a share would be taken for another one as soon as its inner filter is read from a list.
    return TOPIC_OK if share_kind_of(inner.data, inner.size) == SHARE_NONE else TOPIC_SHARE_INVALID


cdef TopicError check_filter(
    const uint8_t *topic_filter, Py_ssize_t size, const TopicLimits *limits, bint *has_wildcard
) noexcept nogil:
    cdef Py_ssize_t level_count = 1
    cdef Py_ssize_t index
    cdef uint8_t byte
    cdef bint is_misplaced = False
    has_wildcard[0] = False
    if size == 0:
        return TOPIC_EMPTY  # [MQTT-4.7.3-1]
    if size > limits.topic_size_maximum:
        return TOPIC_TOO_LONG
    for index in range(size):
        byte = topic_filter[index]
        if byte == NUL:
            return TOPIC_HAS_NUL
        if byte == LEVEL_SEPARATOR:
            level_count += 1
        elif byte == SINGLE_LEVEL or byte == MULTI_LEVEL:
            has_wildcard[0] = True
            # Alone in its level, and # in the last one [MQTT-4.7.1-1], [MQTT-4.7.1-2].
            if index > 0 and topic_filter[index - 1] != LEVEL_SEPARATOR:
                is_misplaced = True
            if index + 1 < size and (byte == MULTI_LEVEL or topic_filter[index + 1] != LEVEL_SEPARATOR):
                is_misplaced = True
    if is_misplaced:
        return TOPIC_WILDCARD_MISPLACED
    if level_count > limits.level_count_maximum:
        return TOPIC_TOO_MANY_LEVELS
    if size > limits.level_size_maximum and longest_level(topic_filter, size) > limits.level_size_maximum:
        return TOPIC_LEVEL_TOO_LONG
    return TOPIC_OK


cdef Py_ssize_t longest_level(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """Bytes of the longest level."""
    cdef Py_ssize_t longest = 0
    cdef Py_ssize_t begin = 0
    cdef Py_ssize_t index
    for index in range(size):
        if text[index] == LEVEL_SEPARATOR:
            longest = max(longest, index - begin)
            begin = index + 1
    return max(longest, size - begin)


class InvalidTopic(ValueError):
    """A topic or topic filter that the standard or a limit does not allow; the text names value and limit."""


class ParsedTopicFilter(NamedTuple):
    """A topic filter taken apart: `$share/{share_name}/{topic_filter}`, or topic_filter alone."""

    topic_filter: str  # what is matched against topics
    share_name: str | None
    is_ordered: bool   # $oshare
    has_wildcard: bool


cdef class TopicRules:
    """What one tenant allows of topics: checks text that comes from Python by the rules that packets are checked by."""

    cdef TopicLimits limits

    def __cinit__(
        self, *, uint16_t topic_size_maximum=65535, uint16_t level_count_maximum=128, uint16_t level_size_maximum=65535
    ):
        self.limits.topic_size_maximum = topic_size_maximum
        self.limits.level_count_maximum = level_count_maximum
        self.limits.level_size_maximum = level_size_maximum

    def check_topic(self, str topic not None):
        """The UTF-8 of a topic name that may be published to; else InvalidTopic."""
        cdef bytes encoded = encode_topic(topic)
        cdef TopicError error = check_topic(<const uint8_t *> encoded, len(encoded), &self.limits)
        if error != TOPIC_OK:
            raise InvalidTopic(self.describe(error, encoded))
        return encoded

    def parse_topic_filter(self, str topic_filter not None):
        """The parts of a topic filter that may be subscribed to; else InvalidTopic."""
        cdef bytes encoded = encode_topic(topic_filter)
        cdef ParsedFilter parsed
        cdef TopicError error = parse_topic_filter(<const uint8_t *> encoded, len(encoded), &self.limits, &parsed)
        cdef bytes inner = parsed.topic_filter.data[:parsed.topic_filter.size]
        if error != TOPIC_OK:
            raise InvalidTopic(self.describe(error, inner))
        return ParsedTopicFilter(
            inner.decode(),
            parsed.share_name.data[:parsed.share_name.size].decode() if parsed.share_kind != SHARE_NONE else None,
            parsed.share_kind == SHARE_ORDERED,
            bool(parsed.has_wildcard),
        )

    cdef str describe(self, TopicError error, bytes topic):
        if error == TOPIC_TOO_LONG:
            return f"topic has {len(topic)} bytes, the limit is {self.limits.topic_size_maximum}"
        if error == TOPIC_TOO_MANY_LEVELS:
            return f"topic has {topic.count(b'/') + 1} levels, the limit is {self.limits.level_count_maximum}"
        if error == TOPIC_LEVEL_TOO_LONG:
            longest = longest_level(<const uint8_t *> topic, len(topic))
            return f"topic has a level of {longest} bytes, the limit is {self.limits.level_size_maximum}"
        return describe_topic_error(error).decode()


cdef bytes encode_topic(str topic):
    try:
        return topic.encode()
    except UnicodeEncodeError as error:
        raise InvalidTopic(f"the topic has a surrogate at character {error.start}") from None  # [MQTT-1.5.4-1]
