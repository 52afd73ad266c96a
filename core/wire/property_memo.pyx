"""See property_memo.pxd."""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport PublishPacket


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
