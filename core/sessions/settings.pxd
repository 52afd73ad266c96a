"""The settings of a tenant as the core reads them; rookery.core.settings.TenantSettings is where they come from."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.topics.names cimport TopicLimits


cdef struct Settings:
    TopicLimits topic_limits
    uint8_t mqtt3_enabled
    uint8_t mqtt4_enabled
    uint8_t mqtt5_enabled
    uint8_t force_transient
    uint8_t payload_format_validation_enabled
    uint8_t retain_enabled
    uint8_t wildcard_subscription_enabled
    uint8_t subscription_identifier_enabled
    uint8_t shared_subscription_enabled
    uint8_t maximum_qos
    uint8_t qos0_drop_oldest
    uint8_t no_lwt_when_server_shutting_down
    uint8_t debug_mode_enabled            # notices of single messages are raised, see notices.pxd
    uint16_t max_topic_alias
    uint16_t receiving_maximum            # messages a client may have on their way to us unacknowledged
    uint16_t min_keep_alive_seconds
    uint32_t max_topic_filters_per_sub    # in one SUBSCRIBE or UNSUBSCRIBE
    uint32_t max_topic_filters_per_inbox  # per session
    uint32_t max_shared_group_members
    uint32_t max_group_fanout             # shared groups that one publication reaches
    uint32_t max_persistent_fanout        # persistent sessions that one publication reaches
    uint64_t max_persistent_fanout_bytes  # of one publication, all that it puts into persistent sessions
    uint8_t limits_persistent_fanout      # one of the two is not the highest number
    uint32_t max_last_will_bytes
    uint32_t max_user_payload_bytes       # also announced as Maximum Packet Size
    uint32_t max_session_expiry_seconds
    uint32_t min_session_expiry_seconds
    uint32_t session_inbox_size           # messages; counted apart for QoS 0 and for QoS 1 and 2
    uint32_t retain_message_match_limit   # per topic filter of a SUBSCRIBE; UINT32_MAX = all
    uint32_t min_send_per_sec
    uint32_t max_resend_times
    uint32_t resend_timeout_seconds
    int64_t in_bound_bandwidth            # bytes per second and connection; 0 = unlimited
    int64_t out_bound_bandwidth
    uint32_t msg_pub_per_sec              # per connection; 0 = unlimited
    uint8_t disconnect_for_pub_rate       # above it: disconnected or discarded instead of held back
