"""Arguments: Python values on their way into the core, checked. ValueError names the value and the limit."""

from libc.stdint cimport uint8_t, uint64_t
from rookery.core.permissions.rule_set cimport Permissions, RuleSet
from rookery.core.sessions.message cimport Message
from rookery.core.sessions.settings cimport Settings
from rookery.core.structures.bytes cimport Bytes


# Borrows: data must stay alive.
cdef Bytes view(bytes data)
# At most 65535 bytes of UTF-8; what names the argument in an error.
cdef bytes encode_name(str text, str what)
# The same without U+0000: a string of a packet.
cdef bytes encode_text(str text, str what)
# Binary data of a packet; None is absent.
cdef bytes encode_data(bytes data, str what)
# Pairs of strings as a packet has them.
cdef bytes encode_user_properties(object pairs)
# The same of those that are added to messages.
cdef bytes encode_additions(object pairs)
# One reference more; NULL for None.
cdef RuleSet *acquire_rules(Permissions permissions) noexcept
# The limits of a tenant's quota as quota_set_limits takes them, which the caller frees; NULL when there is none.
cdef uint64_t *compile_quota(object settings) except? NULL
cdef void compile_settings(object settings, Settings *out) except *
# One reference; NULL when memory is short.
cdef Message *make_message(bytes topic, bytes payload, int qos, bint retain) except? NULL
cdef uint8_t check_farewell(int reason_code) except? 0
