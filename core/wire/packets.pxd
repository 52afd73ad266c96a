"""What the decoder fills and the shard reads: one C struct per packet that a client may send.

Every Bytes field borrows from the buffer that was decoded; nothing here owns memory. The structs are the same for
every protocol version: what a version lacks keeps the value that the standard gives to its absence.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from rookery.core.structures.bytes cimport Bytes


cdef struct Frame:
    uint8_t packet_type    # PacketType
    uint8_t flags          # low four bits of the first byte
    uint32_t header_size   # bytes of the fixed header, 2 to 5
    uint32_t body_size     # Remaining Length, bytes


cdef enum:
    FORWARDED_PARTS_MAXIMUM = 4


cdef struct ForwardedProperties:
    # Properties of a PUBLISH or Will that go to subscribers unaltered, in wire form and in their first order
    # [MQTT-3.3.2-4], [MQTT-3.3.2-15 to 20]: payload format, content type, response topic, correlation data and user
    # properties. Topic Alias, Will Delay and Message Expiry Interval are cut out, which leaves at most three parts; the
    # fourth is what the server adds, see Connection.additions.
    Bytes parts[4]           # FORWARDED_PARTS_MAXIMUM
    uint32_t part_count
    uint32_t size            # bytes of all parts together


cdef struct PublishPacket:
    Bytes topic              # empty when a Topic Alias stands for it
    Bytes payload
    ForwardedProperties forwarded
    uint32_t message_expiry_interval  # seconds; meaningful with has_message_expiry
    uint16_t packet_id       # 0 at QoS 0
    uint16_t topic_alias     # 0 = none
    uint8_t qos
    uint8_t dup
    uint8_t retain
    uint8_t has_message_expiry
    uint8_t payload_format_indicator  # 1 = the payload says that it is UTF-8
    Bytes response_topic     # checked to be a topic name; also inside forwarded


cdef struct WillFields:
    Bytes topic
    Bytes payload
    ForwardedProperties forwarded
    uint32_t will_delay_interval      # seconds
    uint32_t message_expiry_interval  # seconds; meaningful with has_message_expiry
    uint8_t qos
    uint8_t retain
    uint8_t has_message_expiry
    uint8_t payload_format_indicator


cdef struct ConnectPacket:
    uint8_t protocol_version          # ProtocolVersion; on failure as read, 0 if the protocol is not MQTT at all
    uint8_t clean_start
    uint8_t has_will
    uint8_t has_username
    uint8_t has_password
    uint8_t request_response_information
    uint8_t request_problem_information  # 1 unless the client says otherwise
    uint8_t has_authentication_method
    uint16_t keep_alive               # seconds; 0 = none
    uint16_t receive_maximum          # 1 to 65535
    uint16_t topic_alias_maximum
    uint32_t session_expiry_interval  # seconds; a 3.x client with Clean Session 0 gets SESSION_EXPIRY_NEVER
    uint32_t maximum_packet_size      # bytes; 0 = no limit
    Bytes client_id
    Bytes username                    # meaningful with has_username
    Bytes password                    # meaningful with has_password; any bytes
    Bytes authentication_method       # meaningful with has_authentication_method
    Bytes authentication_data         # data == NULL: absent
    Bytes user_properties             # the whole property block: read by next_user_property
    WillFields will                   # zeros without has_will


cdef struct AcknowledgementPacket:    # PUBACK, PUBREC, PUBREL, PUBCOMP
    uint16_t packet_id
    uint8_t reason_code


cdef struct SubscribePacket:
    uint16_t packet_id
    uint16_t filter_count             # at least 1
    uint32_t subscription_id          # 0 = none
    Bytes filters                     # the payload: read on by next_subscription
    Bytes properties                  # the whole property block


cdef struct SubscriptionRequest:
    Bytes topic_filter                # well-formed UTF-8; not yet checked as a topic filter
    uint8_t qos
    uint8_t no_local
    uint8_t retain_as_published
    uint8_t retain_handling


cdef struct UnsubscribePacket:
    uint16_t packet_id
    uint16_t filter_count             # at least 1
    Bytes filters                     # the payload: read on by next_topic_filter
    Bytes properties                  # the whole property block


cdef struct DisconnectPacket:
    uint8_t reason_code
    uint8_t has_session_expiry_interval
    uint32_t session_expiry_interval  # seconds; meaningful with has_session_expiry_interval
    Bytes reason_string               # data == NULL: absent
    Bytes server_reference            # data == NULL: absent
    Bytes properties                  # the whole property block


cdef struct AuthPacket:
    uint8_t reason_code
    Bytes authentication_method       # always there [3.15.2.2.2]
    Bytes authentication_data         # data == NULL: absent
    Bytes reason_string               # data == NULL: absent
    Bytes properties                  # the whole property block
