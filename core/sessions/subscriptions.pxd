"""The subscriptions of a session: joining and leaving topic filters.

Each is a place in the session's array, a Route in the filter's list, and, as long as anybody on this shard wants the
filter, this shard's bit in the tenant's SubscriptionTree.
"""

from libc.stdint cimport uint8_t, uint32_t
from rookery.core.sessions.state cimport Session, Subscription
from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.names cimport ParsedFilter

cdef enum SubscribeResult:
    SUBSCRIBED_NEW = 0
    SUBSCRIBED_REPLACED = 1     # [MQTT-3.8.4-3]
    SUBSCRIBE_NO_MEMORY = -1
    SUBSCRIBE_GROUP_FULL = -2   # MaxSharedGroupMembers
    SUBSCRIBE_TOO_MANY = -3     # MaxTopicFiltersPerInbox


cdef int session_subscribe(
    Session *session, const ParsedFilter *parsed, uint8_t qos, uint8_t flags, uint8_t retain_handling,
    uint32_t subscription_id) noexcept nogil
# False when there was no such subscription.
cdef bint session_unsubscribe(Session *session, const ParsedFilter *parsed) noexcept nogil
cdef void session_unsubscribe_all(Session *session) noexcept nogil
# The subscription at place in the session's array: its topic filter without share prefix, in buffer or borrowed from
# its membership; its end; a lower QoS for what is delivered from now on.
cdef Bytes subscription_filter(
    const Session *session, uint32_t place, uint8_t *buffer, Py_ssize_t capacity) noexcept nogil
# The same with the share taken apart; names are borrowed from the subscription.
cdef void subscription_parsed(
    const Session *session, uint32_t place, uint8_t *buffer, Py_ssize_t capacity, ParsedFilter *parsed) noexcept nogil
cdef void subscription_end(Session *session, uint32_t place) noexcept nogil
cdef void subscription_lower_qos(Session *session, uint32_t place, uint8_t qos) noexcept nogil
# The subscription to exactly this filter (and share), or NULL.
cdef Subscription *subscription_find(Session *session, const ParsedFilter *parsed) noexcept nogil
