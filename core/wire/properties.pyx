"""The property table and the walk over a property block [2.2.2].

An example, the block of a PUBLISH with expiry, content type and one user property:

    02 00 00 00 3C   03 00 01 74   26 00 01 61 00 01 62
    |- cut --------| |- forwarded: one part ----------|

What goes to subscribers goes as it came, in its order [MQTT-3.3.2-18]; only what the server itself answers for is cut
out: expiry (it counts down), will delay and topic alias (they end here). Each can be there once, and no place allows
all three, so that at most two cuts leave at most three parts.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport ForwardedProperties
from rookery.core.wire.spec cimport (
    PROPERTY_ASSIGNED_CLIENT_IDENTIFIER, PROPERTY_AUTHENTICATION_DATA, PROPERTY_AUTHENTICATION_METHOD,
    PROPERTY_CONTENT_TYPE, PROPERTY_CORRELATION_DATA, PROPERTY_MAXIMUM_PACKET_SIZE, PROPERTY_MAXIMUM_QOS,
    PROPERTY_MESSAGE_EXPIRY_INTERVAL, PROPERTY_PAYLOAD_FORMAT_INDICATOR, PROPERTY_REASON_STRING,
    PROPERTY_RECEIVE_MAXIMUM, PROPERTY_REQUEST_PROBLEM_INFORMATION, PROPERTY_REQUEST_RESPONSE_INFORMATION,
    PROPERTY_RESPONSE_INFORMATION, PROPERTY_RESPONSE_TOPIC, PROPERTY_RETAIN_AVAILABLE, PROPERTY_SERVER_KEEP_ALIVE,
    PROPERTY_SERVER_REFERENCE, PROPERTY_SESSION_EXPIRY_INTERVAL, PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE,
    PROPERTY_SUBSCRIPTION_IDENTIFIER, PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE, PROPERTY_TOPIC_ALIAS,
    PROPERTY_TOPIC_ALIAS_MAXIMUM, PROPERTY_USER_PROPERTY, PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE,
    PROPERTY_WILL_DELAY_INTERVAL, REASON_MALFORMED_PACKET, REASON_PROTOCOL_ERROR, REASON_SUCCESS,
    REASON_TOPIC_ALIAS_INVALID, SUBSCRIPTION_ID_MAXIMUM,
)
from rookery.core.wire.text cimport (
    decode_variable_integer, fail, has_wildcard, read_four_bytes, read_two_bytes, take_binary, take_string,
)


cdef enum:
    SENTENCE_SIZE = 96  # bytes of a failure's sentence with its final zero; the longest takes 70


cdef struct PropertyRule:
    uint16_t places           # PropertyPlace bits: a client may send it there
    uint16_t server_places    # the standard allows it there, but to a server only: a Protocol Error from a client
    uint8_t type              # PropertyType
    uint8_t is_forwarded      # goes to subscribers unaltered
    uint8_t may_repeat
    uint8_t range_reason      # what the peer is told if least <= number <= most does not hold
    uint32_t least
    uint32_t most
    char misplaced[SENTENCE_SIZE]      # the sentences for *detail
    char server_only[SENTENCE_SIZE]
    char repeated[SENTENCE_SIZE]
    char out_of_range[SENTENCE_SIZE]


cdef PropertyRule[PROPERTY_ID_COUNT] RULES  # by identifier; filled once, at import

_MESSAGE = IN_PUBLISH | IN_WILL
_ANYWHERE = 0xFFFF
_LONGEST = {ONE_BYTE: 0xFF, TWO_BYTES: 0xFFFF, FOUR_BYTES: 0xFFFFFFFF, VARIABLE: SUBSCRIPTION_ID_MAXIMUM}


def _define(
        int identifier, str name, int wire_type, int places, *, int server_places=0, bint is_forwarded=False,
        bint may_repeat=False, uint32_t least=0, most=None, int reason=REASON_PROTOCOL_ERROR):
    """Fill one row of RULES."""
    cdef PropertyRule *rule = &RULES[identifier]
    rule.type = wire_type
    rule.places = places
    rule.server_places = server_places
    rule.is_forwarded = is_forwarded
    rule.may_repeat = may_repeat
    rule.least = least
    rule.most = _LONGEST.get(wire_type, 0) if most is None else most
    rule.range_reason = reason
    _copy_sentence(rule.misplaced, f"{name} does not belong into this packet")
    _copy_sentence(rule.server_only, f"{name} is for a server to send")
    _copy_sentence(rule.repeated, f"{name} is there twice")
    if wire_type == TOPIC:
        _copy_sentence(rule.out_of_range, f"{name} is empty or has a wildcard")
    elif most is None:
        _copy_sentence(rule.out_of_range, f"{name} is less than {least}")
    else:
        _copy_sentence(rule.out_of_range, f"{name} is not {least} to {most}")


cdef _copy_sentence(char *target, str sentence):
    cdef bytes encoded = sentence.encode()
    assert len(encoded) < SENTENCE_SIZE, sentence
    memcpy(target, <const char *> encoded, len(encoded) + 1)


# Table 2-4 with what the sections of the packets add. In a place that a row does not name the property makes a
# Malformed Packet [2.2.2.2]; a repetition or a value out of range is a Protocol Error, unless the standard has a
# reason code of its own for it. NOWHERE: only servers send it.
_define(PROPERTY_PAYLOAD_FORMAT_INDICATOR, "Payload Format Indicator", ONE_BYTE, _MESSAGE, is_forwarded=True, most=1)
_define(PROPERTY_MESSAGE_EXPIRY_INTERVAL, "Message Expiry Interval", FOUR_BYTES, _MESSAGE)
_define(PROPERTY_CONTENT_TYPE, "Content Type", STRING, _MESSAGE, is_forwarded=True)  # [MQTT-3.3.2-19, 20]
_define(PROPERTY_RESPONSE_TOPIC, "Response Topic", TOPIC, _MESSAGE, is_forwarded=True)  # [MQTT-3.3.2-13 to 15]
_define(PROPERTY_CORRELATION_DATA, "Correlation Data", BINARY, _MESSAGE, is_forwarded=True)  # [MQTT-3.3.2-16]
_define(
    PROPERTY_SUBSCRIPTION_IDENTIFIER, "Subscription Identifier", VARIABLE, IN_SUBSCRIBE,
    server_places=IN_PUBLISH, least=1)  # [MQTT-3.3.4-6]
_define(PROPERTY_SESSION_EXPIRY_INTERVAL, "Session Expiry Interval", FOUR_BYTES, IN_CONNECT | IN_DISCONNECT)
_define(PROPERTY_ASSIGNED_CLIENT_IDENTIFIER, "Assigned Client Identifier", STRING, NOWHERE)
_define(PROPERTY_SERVER_KEEP_ALIVE, "Server Keep Alive", TWO_BYTES, NOWHERE)
_define(PROPERTY_AUTHENTICATION_METHOD, "Authentication Method", STRING, IN_CONNECT | IN_AUTH)
_define(PROPERTY_AUTHENTICATION_DATA, "Authentication Data", BINARY, IN_CONNECT | IN_AUTH)
_define(PROPERTY_REQUEST_PROBLEM_INFORMATION, "Request Problem Information", ONE_BYTE, IN_CONNECT, most=1)
_define(PROPERTY_WILL_DELAY_INTERVAL, "Will Delay Interval", FOUR_BYTES, IN_WILL)
_define(PROPERTY_REQUEST_RESPONSE_INFORMATION, "Request Response Information", ONE_BYTE, IN_CONNECT, most=1)
_define(PROPERTY_RESPONSE_INFORMATION, "Response Information", STRING, NOWHERE)
_define(PROPERTY_SERVER_REFERENCE, "Server Reference", STRING, IN_DISCONNECT)
_define(PROPERTY_REASON_STRING, "Reason String", STRING, IN_ACKNOWLEDGEMENT | IN_DISCONNECT | IN_AUTH)
_define(PROPERTY_RECEIVE_MAXIMUM, "Receive Maximum", TWO_BYTES, IN_CONNECT, least=1)
_define(PROPERTY_TOPIC_ALIAS_MAXIMUM, "Topic Alias Maximum", TWO_BYTES, IN_CONNECT)
_define(
    PROPERTY_TOPIC_ALIAS, "Topic Alias", TWO_BYTES, IN_PUBLISH, least=1,
    reason=REASON_TOPIC_ALIAS_INVALID)  # [MQTT-3.3.2-8]
_define(PROPERTY_MAXIMUM_QOS, "Maximum QoS", ONE_BYTE, NOWHERE)
_define(PROPERTY_RETAIN_AVAILABLE, "Retain Available", ONE_BYTE, NOWHERE)
_define(
    PROPERTY_USER_PROPERTY, "User Property", STRING_PAIR, _ANYWHERE, is_forwarded=True,
    may_repeat=True)  # [MQTT-3.3.2-17]
_define(PROPERTY_MAXIMUM_PACKET_SIZE, "Maximum Packet Size", FOUR_BYTES, IN_CONNECT, least=1)
_define(PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE, "Wildcard Subscription Available", ONE_BYTE, NOWHERE)
_define(PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE, "Subscription Identifier Available", ONE_BYTE, NOWHERE)
_define(PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE, "Shared Subscription Available", ONE_BYTE, NOWHERE)


# Take the value of a property whose identifier has been taken, in the form that its rule names. Not yet its meaning.
cdef inline int take_value(
        const uint8_t **at, const uint8_t *end, uint8_t wire_type, Property *item, const char **detail) noexcept nogil:
    cdef Py_ssize_t size
    cdef int reason
    if wire_type <= FOUR_BYTES:
        if end - at[0] < wire_type:
            return fail(REASON_MALFORMED_PACKET, b"a property is longer than its block", detail)
        if wire_type == FOUR_BYTES:
            item.number = read_four_bytes(at[0])
        elif wire_type == TWO_BYTES:
            item.number = read_two_bytes(at[0])
        else:
            item.number = at[0][0]
        at[0] += wire_type
        return REASON_SUCCESS
    if wire_type == VARIABLE:
        size = decode_variable_integer(at[0], end - at[0], &item.number)
        if size == 0:  # [MQTT-1.5.5-1]
            return fail(REASON_MALFORMED_PACKET, b"a Variable Byte Integer is cut short or not minimal", detail)
        at[0] += size
        return REASON_SUCCESS
    if wire_type == BINARY:
        return take_binary(at, end, &item.value, detail)
    reason = take_string(at, end, &item.value, detail)
    if reason == REASON_SUCCESS and wire_type == STRING_PAIR:
        reason = take_string(at, end, &item.pair_value, detail)  # [MQTT-1.5.7-1]
    return reason


cdef int walk_properties(
        const uint8_t *data, Py_ssize_t size, uint16_t place, PropertyValues *values, ForwardedProperties *forwarded,
        const char **detail) noexcept nogil:
    cdef const uint8_t *at = data
    cdef const uint8_t *end = data + size
    cdef const uint8_t *start             # of the present property
    cdef const uint8_t *part_start = data  # of the part that grows
    cdef const PropertyRule *rule
    cdef Property item
    cdef uint8_t identifier
    cdef bint is_valid
    cdef int reason
    values.seen = 0
    item.number = 0
    if forwarded != NULL:
        forwarded.part_count = 0
        forwarded.size = 0
    while at < end:
        start = at
        # Identifiers are Variable Byte Integers, but all that are assigned take one byte [2.2.2.2].
        identifier = at[0]
        at += 1
        if identifier >= PROPERTY_ID_COUNT or RULES[identifier].type == UNASSIGNED:
            return fail(REASON_MALFORMED_PACKET, b"a property identifier is not assigned", detail)
        rule = &RULES[identifier]
        if not rule.places & place:
            if rule.server_places & place:
                return fail(REASON_PROTOCOL_ERROR, rule.server_only, detail)
            return fail(REASON_MALFORMED_PACKET, rule.misplaced, detail)
        if has_property(values, identifier) and not rule.may_repeat:
            return fail(REASON_PROTOCOL_ERROR, rule.repeated, detail)
        reason = take_value(&at, end, rule.type, &item, detail)
        if reason != REASON_SUCCESS:
            return reason
        if rule.type <= VARIABLE:
            is_valid = rule.least <= item.number <= rule.most
            values.numbers[identifier] = item.number
        else:
            # A topic name has at least one character and no wildcard [MQTT-4.7.3-1], [MQTT-3.3.2-14].
            is_valid = rule.type != TOPIC or (
                item.value.size > 0 and not has_wildcard(item.value.data, item.value.size))
            values.values[identifier] = item.value
        if not is_valid:
            return fail(rule.range_reason, rule.out_of_range, detail)
        values.seen |= <uint64_t> 1 << identifier
        if forwarded != NULL and not rule.is_forwarded:
            add_part(forwarded, part_start, start)
            part_start = at
    if forwarded != NULL:
        add_part(forwarded, part_start, end)
    return REASON_SUCCESS


cdef bint next_property(Bytes *rest, Property *item) noexcept nogil:
    cdef const uint8_t *at = rest.data
    cdef const uint8_t *end = rest.data + rest.size
    cdef const char *unused
    if rest.size == 0 or at[0] >= PROPERTY_ID_COUNT:
        return 0
    memset(item, 0, sizeof(Property))
    item.identifier = at[0]
    at += 1
    # A checked block cannot fail here; one that nobody has checked ends the walk and is not read beyond its end.
    if RULES[item.identifier].type == UNASSIGNED or take_value(
            &at, end, RULES[item.identifier].type, item, &unused) != REASON_SUCCESS:
        return 0
    rest.data = at
    rest.size = end - at
    return 1
