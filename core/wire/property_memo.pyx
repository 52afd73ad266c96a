"""See property_memo.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport PublishPacket


cdef bint memo_recall(
    const PropertyMemo *memo, const uint8_t *data, Py_ssize_t size, PublishPacket *packet
) noexcept nogil:
    cdef const uint8_t *block = data + 1
    cdef uint32_t number
    if memo.size == 0 or size <= memo.size or data[0] != memo.size or memcmp(block, memo.block, memo.size) != 0:
        return False
    packet.message_expiry_interval = memo.message_expiry_interval
    packet.has_message_expiry = memo.has_message_expiry
    packet.topic_alias = memo.topic_alias
    packet.payload_format_indicator = memo.payload_format_indicator
    packet.forwarded.size = memo.forwarded_size
    packet.forwarded.part_count = memo.part_count
    for number in range(memo.part_count):
        packet.forwarded.parts[number].data = block + memo.part_offsets[number]
        packet.forwarded.parts[number].size = memo.part_sizes[number]
    if memo.response_topic_size > 0:
        packet.response_topic.data = block + memo.response_topic_offset
        packet.response_topic.size = memo.response_topic_size
    return True


cdef void memo_keep(PropertyMemo *memo, const Bytes *block, const PublishPacket *packet) noexcept nogil:
    cdef uint32_t number
    memo.size = 0
    if block.size == 0 or block.size >= MEMO_SIZE:
        return
    memcpy(memo.block, block.data, block.size)
    memo.size = <uint32_t> block.size
    memo.message_expiry_interval = packet.message_expiry_interval
    memo.has_message_expiry = packet.has_message_expiry
    memo.topic_alias = packet.topic_alias
    memo.payload_format_indicator = packet.payload_format_indicator
    memo.forwarded_size = packet.forwarded.size
    memo.part_count = packet.forwarded.part_count
    for number in range(memo.part_count):
        memo.part_offsets[number] = <uint32_t> (packet.forwarded.parts[number].data - block.data)
        memo.part_sizes[number] = <uint32_t> packet.forwarded.parts[number].size
    # A Response Topic that is there has at least one character.
    memo.response_topic_size = <uint32_t> packet.response_topic.size
    if memo.response_topic_size > 0:
        memo.response_topic_offset = <uint32_t> (packet.response_topic.data - block.data)
