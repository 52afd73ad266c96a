"""The properties of MQTT 5.0: one table that says everything about each, one walk that obeys it [2.2.2].

A decoder names the place that it stands at; the walk answers with the values that were there. Nothing is allocated.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport ForwardedProperties


cdef enum PropertyPlace:  # bits: where a client may send a property
    NOWHERE = 0
    IN_CONNECT = 1
    IN_WILL = 2
    IN_PUBLISH = 4
    IN_ACKNOWLEDGEMENT = 8  # PUBACK, PUBREC, PUBREL, PUBCOMP
    IN_SUBSCRIBE = 16
    IN_UNSUBSCRIBE = 32
    IN_DISCONNECT = 64
    IN_AUTH = 128


cdef enum PropertyType:  # [2.2.2.2]
    UNASSIGNED = 0
    ONE_BYTE = 1
    TWO_BYTES = 2
    FOUR_BYTES = 4  # up to here the number is the size in bytes
    VARIABLE = 5
    BINARY = 6
    STRING = 7
    TOPIC = 8        # a string that is used as a topic name
    STRING_PAIR = 9


cdef enum:
    PROPERTY_ID_COUNT = 0x2B  # one more than the highest identifier that is assigned


cdef struct Property:
    uint32_t number      # of the numeric types
    Bytes value          # of the others; of a pair its name
    Bytes pair_value     # of a pair
    uint8_t identifier   # PropertyId


cdef struct PropertyValues:
    uint64_t seen        # bit n = property n is there; only then the fields below mean anything
    uint32_t numbers[PROPERTY_ID_COUNT]  # by identifier
    Bytes values[PROPERTY_ID_COUNT]      # by identifier; borrowed from the packet


# Walk a property block, without its length, and check every rule that concerns a single property or its repetition.
# REASON_SUCCESS, or what the peer is told and *detail. forwarded may be NULL; else it gets the parts of the block
# that go to subscribers, in wire form.
cdef int walk_properties(
    const uint8_t *data, Py_ssize_t size, uint16_t place, PropertyValues *values, ForwardedProperties *forwarded,
    const char **detail) noexcept nogil

# Take the next property off the front of a block that walk_properties has checked; 0 when there is none left.
cdef bint next_property(Bytes *rest, Property *item) noexcept nogil


# Borrows the bytes from start to end, if there are any; at most FORWARDED_PARTS_MAXIMUM times.
cdef inline void add_part(ForwardedProperties *forwarded, const uint8_t *start, const uint8_t *end) noexcept nogil:
    if end > start:
        forwarded.parts[forwarded.part_count].data = start
        forwarded.parts[forwarded.part_count].size = end - start
        forwarded.part_count += 1
        forwarded.size += <uint32_t> (end - start)


# Only the parts that there are: mostly none, or one.
cdef inline void copy_forwarded(ForwardedProperties *forwarded, const ForwardedProperties *other) noexcept nogil:
    cdef uint32_t number
    forwarded.part_count = other.part_count
    forwarded.size = other.size
    for number in range(other.part_count):
        forwarded.parts[number] = other.parts[number]


cdef inline bint has_property(const PropertyValues *values, uint8_t identifier) noexcept nogil:
    return (values.seen >> identifier) & 1


cdef inline uint32_t number_or(const PropertyValues *values, uint8_t identifier, uint32_t absent) noexcept nogil:
    return values.numbers[identifier] if has_property(values, identifier) else absent


# data == NULL when the property is absent.
cdef inline Bytes bytes_of(const PropertyValues *values, uint8_t identifier) noexcept nogil:
    cdef Bytes nothing
    if has_property(values, identifier):
        return values.values[identifier]
    nothing.data = NULL
    nothing.size = 0
    return nothing
