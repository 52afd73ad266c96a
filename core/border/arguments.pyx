"""See arguments.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport INT32_MAX, INT64_MAX, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from rookery.core.permissions.rule_set cimport Permissions, RuleSet, rule_set_acquire
from rookery.core.sessions.message cimport Message, Publication, message_new
from rookery.core.sessions.settings cimport Settings
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.spec cimport PROPERTY_USER_PROPERTY

cdef enum:
    _STRING_SIZE_MAXIMUM = 65535
    _USER_PROPERTIES_SIZE_MAXIMUM = 65536  # bytes of what the control plane may give a packet, encoded
    _ADDITIONS_SIZE_MAXIMUM = 4096  # bytes of what it may give every message of a client


cdef Bytes view(bytes data):
    """Borrows: data must stay alive."""
    cdef Bytes string
    string.data = <const uint8_t *> PyBytes_AS_STRING(data)
    string.size = PyBytes_GET_SIZE(data)
    return string


cdef bytes encode_name(str text, str what):
    cdef bytes encoded = text.encode()
    if len(encoded) > _STRING_SIZE_MAXIMUM:
        raise ValueError(f"{what} has {len(encoded)} bytes, the limit is {_STRING_SIZE_MAXIMUM}")
    return encoded


cdef bytes encode_text(str text, str what):
    """A string of a packet [MQTT5 1.5.4]."""
    if "\0" in text:
        raise ValueError(f"{what} holds U+0000 at {text.index(chr(0))}")
    return encode_name(text, what)


cdef bytes encode_data(bytes data, str what):
    """Binary data of a packet [MQTT5 1.5.6]; None is absent, as the flag of the command says."""
    if data is None:
        return b""
    if len(data) > _STRING_SIZE_MAXIMUM:
        raise ValueError(f"{what} has {len(data)} bytes, the limit is {_STRING_SIZE_MAXIMUM}")
    return data


cdef bytes encode_user_properties(object pairs):
    """As in a packet: identifier, name, value, one after the other [MQTT5 2.2.2]."""
    cdef list encoded = []
    for name, value in pairs:
        encoded.append(bytes((PROPERTY_USER_PROPERTY,)))
        for text in (name, value):
            string = encode_text(text, "a user property")
            encoded.append(len(string).to_bytes(2, "big"))
            encoded.append(string)
    joined = b"".join(encoded)
    if len(joined) > _USER_PROPERTIES_SIZE_MAXIMUM:
        raise ValueError(f"user_properties take {len(joined)} bytes, the limit is {_USER_PROPERTIES_SIZE_MAXIMUM}")
    return joined


cdef bytes encode_additions(object pairs):
    cdef bytes encoded = encode_user_properties(pairs)
    if len(encoded) > _ADDITIONS_SIZE_MAXIMUM:
        raise ValueError(f"message_user_properties take {len(encoded)} bytes, the limit is {_ADDITIONS_SIZE_MAXIMUM}")
    return encoded


cdef RuleSet *acquire_rules(Permissions permissions) noexcept:
    if permissions is None:
        return NULL
    rule_set_acquire(permissions.compiled)
    return permissions.compiled


cdef void compile_settings(object settings, Settings *out) except *:
    """The settings of a tenant as the core reads them. Values beyond what the core can count mean no limit."""
    memset(out, 0, sizeof(Settings))
    out.topic_limits.topic_size_maximum = <uint16_t> min(settings.max_topic_length, 65535)
    out.topic_limits.level_count_maximum = <uint16_t> min(settings.max_topic_levels, 65535)
    out.topic_limits.level_size_maximum = <uint16_t> min(settings.max_topic_level_length, 65535)
    out.mqtt3_enabled = settings.mqtt3_enabled
    out.mqtt4_enabled = settings.mqtt4_enabled
    out.mqtt5_enabled = settings.mqtt5_enabled
    out.force_transient = settings.force_transient
    out.payload_format_validation_enabled = settings.payload_format_validation_enabled
    out.retain_enabled = settings.retain_enabled
    out.wildcard_subscription_enabled = settings.wildcard_subscription_enabled
    out.subscription_identifier_enabled = settings.subscription_identifier_enabled
    out.shared_subscription_enabled = settings.shared_subscription_enabled
    out.maximum_qos = settings.maximum_qos
    out.qos0_drop_oldest = settings.qos0_drop_oldest
    out.debug_mode_enabled = settings.debug_mode_enabled
    out.no_lwt_when_server_shutting_down = settings.no_lwt_when_server_shutting_down
    out.max_topic_alias = settings.max_topic_alias
    out.receiving_maximum = settings.receiving_maximum
    out.min_keep_alive_seconds = settings.min_keep_alive_seconds
    out.max_topic_filters_per_sub = settings.max_topic_filters_per_sub
    out.max_topic_filters_per_inbox = settings.max_topic_filters_per_inbox
    out.max_shared_group_members = settings.max_shared_group_members
    out.max_group_fanout = settings.max_group_fanout
    out.max_persistent_fanout = settings.max_persistent_fanout
    out.max_persistent_fanout_bytes = settings.max_persistent_fanout_bytes
    out.limits_persistent_fanout = (
        settings.max_persistent_fanout < INT32_MAX or settings.max_persistent_fanout_bytes < INT64_MAX)
    out.max_last_will_bytes = settings.max_last_will_bytes
    out.max_user_payload_bytes = settings.max_user_payload_bytes
    out.max_session_expiry_seconds = settings.max_session_expiry_seconds
    out.min_session_expiry_seconds = settings.min_session_expiry_seconds
    out.session_inbox_size = settings.session_inbox_size
    out.retain_message_match_limit = settings.retain_message_match_limit
    out.min_send_per_sec = settings.min_send_per_sec
    out.max_resend_times = settings.max_resend_times
    out.resend_timeout_seconds = settings.resend_timeout_seconds
    out.in_bound_bandwidth = settings.in_bound_bandwidth
    out.out_bound_bandwidth = settings.out_bound_bandwidth
    out.msg_pub_per_sec = settings.msg_pub_per_sec
    out.disconnect_for_pub_rate = settings.disconnect_for_pub_rate


cdef uint64_t *compile_quota(object settings) except? NULL:
    cdef tuple limits = settings.quota_limits()
    cdef uint64_t *compiled
    cdef Py_ssize_t place
    if not any(limits):
        return NULL
    compiled = <uint64_t *> malloc(len(limits) * sizeof(uint64_t))
    if compiled == NULL:
        raise MemoryError
    for place in range(len(limits)):
        compiled[place] = limits[place]
    return compiled


cdef Message *make_message(bytes topic, bytes payload, int qos, bint retain) except? NULL:
    """One reference; NULL when memory is short."""
    cdef Publication publication
    if not 0 <= qos <= 2:
        raise ValueError(f"qos is {qos}, it must be 0, 1 or 2")
    memset(&publication, 0, sizeof(publication))
    publication.topic = view(topic)
    publication.payload = view(payload)
    publication.qos = <uint8_t> qos
    publication.retain = retain
    return message_new(&publication)


cdef uint8_t check_farewell(int reason_code) except? 0:
    if not 0x80 <= reason_code <= 0xFF:
        raise ValueError(f"reason_code is {reason_code:#04x}, a farewell has 0x80 to 0xff")
    return <uint8_t> reason_code
