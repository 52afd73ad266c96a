r"""The data model of one shard: Tenant, Session, Subscription, Route. Read this first.

    Tenant ---- sessions (by user and client identifier)
      |  \-- tree: topic filter -> filter id (shared by all shards)
      |  \-- routes: filter id -> RouteList ------------.
      |  \-- retained: topic -> Message (home shard)     |
      |                                                  v
    Session -- subscriptions[i] (filter id, options) <- Route (session, i)
        \-- inflight, inbox, received packet ids, will
        \-- link: the connection that is attached, or NULL

Everything here belongs to the shard that the session's key hashes to and is touched by its thread alone; only the
SubscriptionTree (see its own words) and Messages that were shared cross threads. A tenant exists once per shard that
knows it.

A Session outlives connections. Link is what a session may know of its connection: how to write to it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.log.batch cimport LogBatch
from rookery.core.log.writer cimport Log
from rookery.core.permissions.rule_set cimport RuleSet
from rookery.core.sessions.aliases cimport AliasTable
from rookery.core.sessions.inbox cimport Inbox
from rookery.core.sessions.inflight cimport Inflight
from rookery.core.sessions.message cimport Message
from rookery.core.sessions.notices cimport NoticeBoard
from rookery.core.sessions.outbox cimport Outbox
from rookery.core.sessions.settings cimport Settings
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey
from rookery.core.structures.id_map cimport IdMap
from rookery.core.structures.packet_ids cimport PacketIdSet
from rookery.core.structures.pointer_map cimport PointerMap
from rookery.core.structures.spill cimport Spill
from rookery.core.structures.timers cimport Timer, TimingWheel
from rookery.core.topics.cache cimport MatchCache, MatchEntry
from rookery.core.topics.retained cimport RetainedTree
from rookery.core.topics.tree cimport FilterIds, SubscriptionTree

cdef enum SubscriptionFlag:
    NO_LOCAL = 1             # [MQTT-3.8.3-3]
    RETAIN_AS_PUBLISHED = 2  # [MQTT-3.3.1-12, 13]
    HAS_SUBSCRIPTION_ID = 4
    IS_SHARED = 8            # the route's target is a SharedGroup
    IS_REMOTE = 16           # a group's member lives on another shard: the route's target is a Membership

cdef enum TimerKind:
    TIMER_CONNECTION = 1     # connect time-out, keep alive or linger of a Connection
    TIMER_SESSION = 2        # will delay or session expiry of a Session, or what it has to send again
    TIMER_RETAINED = 3       # message expiry of a retained message
    TIMER_LISTENER = 4       # a Listener that ran out of descriptors tries again
    TIMER_PACING = 5         # a Connection that its own rates hold back goes on


cdef struct Subscription:        # one of a session's; the place in the array is its subscription index
    uint32_t filter_id           # NO_FILTER = free place
    uint32_t route_index         # where its Route stands in the filter's RouteList (or the member in its group)
    uint32_t subscription_id     # 0 = none
    uint8_t qos                  # granted
    uint8_t flags                # SubscriptionFlag
    uint8_t retain_handling
    uint32_t next_same           # 1 + place of another subscription with the same filter id (shared ones); 0 = none
    SharedGroup *group           # NULL unless shared, and the group is on this shard
    Membership *membership       # NULL unless shared, and the group is on another shard


cdef struct Route:               # who gets what matches a topic filter
    void *target                 # Session, or SharedGroup with IS_SHARED
    uint32_t subscription_index  # in the session's subscriptions
    uint8_t qos
    uint8_t flags


cdef struct RouteList:           # the routes of one topic filter on this shard
    Route one                    # the only route, while capacity is 0
    Route *many                  # all routes, when capacity is not 0
    uint32_t count
    uint32_t capacity


cdef enum:
    ROUTE_CHUNKS = 28            # chunk k holds 8 * 2 ** k lists: filter ids are dense and start small


cdef struct RouteTable:
    RouteList *chunks[28]


cdef struct Membership:          # connects a session with a shared group on another shard, see memberships.pxd
    uint32_t references          # atomic
    uint32_t shard               # of the session
    uint32_t home                # of the group
    uint32_t place               # of the session's subscription; session's shard only
    SharedTenant *tenant         # one reference
    Session *session             # NULL once it has left; session's shard only
    SharedGroup *group           # NULL while it has not joined; home shard only
    uint32_t member_index        # in the group; home shard only
    uint32_t given               # messages handed to it; home shard only
    uint32_t taken               # of these, arrived; atomic
    uint32_t load                # what waited for the session when the last one arrived; atomic
    uint32_t is_online           # atomic
    uint8_t is_ordered           # $oshare
    uint32_t name_size           # bytes of the share name, which follows the struct
    uint32_t filter_size         # bytes of the topic filter, which follows the name


cdef enum ErrandKind:
    ERRAND_JOIN = 1              # to the home shard
    ERRAND_LEAVE = 2             # to the home shard; carries the session's reference
    ERRAND_GIVE = 3              # to the session's shard: a message for the member
    ERRAND_RETURN = 4            # to the home shard: the member was gone, another one is to get it


cdef struct Errand:              # what is to be told to another shard about a membership at the end of the turn
    Errand *next
    Membership *membership       # one reference
    Message *message             # one reference; with GIVE and RETURN
    uint64_t origin              # of the message, and by which group it goes: see Publication
    uint64_t group
    uint8_t kind                 # ErrandKind


cdef struct SharedGroup:         # the members of $share/{share_name}/{topic_filter}, on the group's home shard
    Tenant *tenant
    uint64_t hash                # of filter id and share name: key in Tenant.groups
    uint32_t filter_id
    uint32_t route_index         # of the group's own Route
    uint32_t member_count
    uint32_t member_capacity
    Route *members               # target is the Session, or with IS_REMOTE the Membership
    uint32_t turn                # where the search for the least loaded begins, so that equals take turns
    uint8_t is_ordered           # $oshare
    uint32_t name_size           # bytes; the share name follows the struct


cdef struct Commitment:          # what must be durable before something may be told; all 0: nothing
    uint64_t batch               # of this shard's journal
    uint64_t shards              # others, a bit each, that must have made durable
    uint64_t handover            # what they were sent up to this handing over of mail


cdef struct Link:                # the connection as its session sees it
    Outbox outbox
    Session *session             # attached session, or NULL
    AliasTable *aliases          # topics that the client knows by an alias; NULL when it takes none; owned
    uint32_t maximum_packet_size  # that the client takes, bytes; 0 = no limit
    uint16_t receive_maximum     # that the client takes, 1 to 65535
    Commitment due               # nothing is sent before it is met
    uint8_t version              # ProtocolVersion
    uint8_t is_slow              # did not drain in time: messages beyond the outbox limit are dropped, nobody waits
    uint64_t congested_since_ms  # when its outbox passed OUTBOX_HIGH_BYTES; 0 = it has not


cdef struct Will:
    Message *message
    uint32_t delay_interval      # seconds
    uint32_t message_expiry_interval  # seconds, counted from its publication
    uint8_t has_message_expiry
    uint8_t is_armed             # the connection is gone, the delay is running


cdef struct Measure:             # what a session uses of its tenant's resources, see quota.pxd
    uint64_t bytes               # of memory: itself, its subscriptions, and the messages that it holds
    uint64_t persistent_bytes    # the same of a persistent session
    uint32_t transient_subscriptions
    uint32_t persistent_subscriptions
    uint32_t shared_subscriptions
    uint8_t connections          # 0 or 1
    uint8_t persistent_sessions  # 0 or 1


cdef struct Session:
    Tenant *tenant
    Link *link                   # NULL while no connection is attached
    uint64_t key_hash            # of user and client identifier
    uint64_t serial              # incarnation: unique in this process, never 0
    uint8_t *key                 # user id, then client id; owned
    uint16_t user_id_size        # bytes
    uint16_t client_id_size      # bytes
    uint8_t version              # ProtocolVersion of the present or the last connection
    uint8_t is_persistent        # outlives its connection
    uint8_t has_shared           # has, or had, a shared subscription
    uint8_t is_written           # its changes go into the journal
    uint8_t is_resending         # online, 3.x, MaxResendTimes above 0: timer runs for what waits too long in flight
    uint16_t keep_alive          # seconds
    uint32_t session_expiry_interval  # seconds; SESSION_EXPIRY_NEVER
    Inflight inflight
    Inbox inbox
    PacketIdSet received         # QoS 2 packet identifiers that came and were not yet released
    Subscription *subscriptions
    uint32_t subscription_count  # places that are in use
    uint32_t subscription_places  # first place that was never used
    uint32_t subscription_capacity
    uint32_t subscription_free   # 1 + a free place before subscription_places, chained by route_index; 0 = none
    uint32_t membership_count    # subscriptions in groups of other shards
    uint32_t shared_subscription_count
    Measure measure              # as it was last counted in SharedTenant.usage
    IdMap subscription_index     # filter id -> place; kept from INDEXED_SUBSCRIPTIONS on
    Will will
    Timer timer                  # TIMER_SESSION: expiry or will while offline, resending while online
    uint64_t match_stamp         # publication that last matched this session, see publish.pyx
    uint32_t match_index         # its place among that publication's targets
    uint64_t created_at_ms       # clock of the shards; 0 = not known, of one that an older version wrote
    uint64_t connected_at_ms
    uint64_t detached_at_ms      # 0 while online
    uint64_t checkpoint          # in which it was last written
    Session *previous_written    # in World.first_written ..
    Session *next_written
    uint64_t dropped_messages    # messages that this session did not get
    uint64_t last_dropped_at_ms  # clock of the shards; meaningful with last_drop_reason
    uint8_t last_drop_reason     # DropReason; 0 = it got all
    RuleSet *rules               # what it may do, one reference; NULL = everything
    uint8_t unfit_names          # see Identity; of a session with rules
    Session *previous_ruled      # in World.first_ruled, with rules
    Session *next_ruled
    uint8_t unfit_names_at_front
    uint8_t *attributes          # JSON from the authenticator; owned; NULL = {}
    uint32_t attributes_size


cdef struct Counters:            # per tenant and shard
    uint64_t received[3]         # publications of clients, by QoS
    uint64_t received_bytes[3]   # their payloads
    uint64_t sent[3]             # PUBLISH packets to clients, by QoS
    uint64_t sent_bytes[3]       # their payloads
    uint64_t bytes_received
    uint64_t bytes_sent
    uint64_t messages_dropped
    uint64_t actions_denied      # by rules: publications, topic filters, wills
    uint64_t resources_throttled  # times that the tenant had not enough of a resource
    uint64_t connections_held    # times that one of its rates held a connection back
    uint64_t connects            # clients that were let in
    uint64_t disconnects
    uint64_t subscribes[2]       # topic filters that were granted: to transient, to persistent sessions
    uint64_t unsubscribes[2]     # topic filters that were given up, likewise
    uint64_t retained_matched    # retained messages sent to new subscriptions


cdef enum Resource:              # BifroMQ's tenant resource types; core/quotas.py has their names, in this order
    RESOURCE_CONNECTIONS = 0
    RESOURCE_SESSION_MEMORY_BYTES = 1
    RESOURCE_PERSISTENT_SESSIONS = 2
    RESOURCE_PERSISTENT_SPACE_BYTES = 3
    RESOURCE_TRANSIENT_SUBSCRIPTIONS = 4
    RESOURCE_PERSISTENT_SUBSCRIPTIONS = 5
    RESOURCE_SHARED_SUBSCRIPTIONS = 6
    RESOURCE_RETAINED_TOPICS = 7
    RESOURCE_RETAINED_BYTES = 8
    RESOURCE_FIRST_RATE = 9      # from here on: per second
    RESOURCE_CONNECTS = 9
    RESOURCE_INBOUND_BYTES = 10
    RESOURCE_TRANSIENT_SUBSCRIBES = 11
    RESOURCE_PERSISTENT_SUBSCRIBES = 12
    RESOURCE_TRANSIENT_UNSUBSCRIBES = 13
    RESOURCE_PERSISTENT_UNSUBSCRIBES = 14
    RESOURCE_RETAIN_MESSAGES = 15
    RESOURCE_RETAIN_BYTES = 16
    RESOURCE_RETAIN_MATCHES = 17
    RESOURCE_RETAIN_MATCH_BYTES = 18
    RESOURCE_TRANSIENT_FANOUT_BYTES = 19
    RESOURCE_PERSISTENT_FANOUT_BYTES = 20
    RESOURCE_COUNT = 21


cdef struct QuotaLine:           # of one resource; all atomic
    uint64_t limit               # 0 = none
    uint64_t paid_ns             # of a rate: up to when all that passed is paid for, clock of the shards
    uint64_t throttled           # times that there was not enough
    uint64_t noticed_at_ms       # when somebody was last told


cdef struct Quota:               # see quota.pxd
    QuotaLine lines[21]          # RESOURCE_COUNT
    QuotaLine shadows[21]
    uint32_t closed              # a bit for each resource that a plugin says there is no more of; atomic


cdef struct SharedTenant:        # what the shards share of a tenant
    SubscriptionTree *tree
    uint64_t hash                # of the tenant id; decides the home shard
    uint32_t references          # shards that know the tenant, and mails under way; atomic, see registry.pyx
    uint64_t durable_shards      # for which acknowledgements wait, a bit each, see journal_concerns; atomic
    uint16_t id_size
    uint8_t *id                  # owned
    uint64_t usage[9]            # RESOURCE_FIRST_RATE; atomic
    Quota *quota                 # NULL = none; atomic, owned, once made it stays


cdef struct Tenant:
    SharedTenant *shared
    World *world
    Settings settings
    PointerMap sessions          # key_hash -> Session
    RouteTable routes
    PointerMap groups            # hash of filter id and share name -> SharedGroup
    RetainedTree *retained       # on the tenant's home shard, made with the first message; else NULL
    uint64_t retained_bytes
    uint64_t users               # connections, sessions, retained messages, walks: the tenant goes when there is none
    uint8_t is_configured        # settings of its own: it stays, one user more
    uint8_t is_throttled         # a plugin has closed some of its resources: the same
    uint64_t subscription_count
    uint64_t durable_users       # see journal_concerns
    uint64_t checkpoint          # in which its retained messages were last written
    Tenant *previous_retaining   # in World.first_retaining ..
    Tenant *next_retaining
    Counters counters


cdef struct Journal:             # a shard's part of the durable log, see journal.pxd
    LogBatch batch
    Log *log
    uint32_t source               # of the batch: the shard's index
    uint64_t wall_offset_ms       # Unix time less the clock of the shards
    uint64_t record_count         # ever; tells whether something was written in between
    uint64_t next_message         # steps by LOG_SOURCES, so that numbers are unique in the log
    uint8_t is_in_group


cdef struct Target:              # a session that a publication reaches through more than one topic filter
    Session *session
    uint8_t qos                  # the highest granted
    uint8_t retain_as_published
    uint32_t id_first            # its subscription identifiers in World.target_ids, chained
    uint32_t id_count


cdef struct TargetId:            # link of a chain of subscription identifiers
    uint32_t subscription_id
    uint32_t next                # 1 + index, 0 = end


cdef struct World:               # what sessions and tenants of one shard have in common
    uint32_t shard
    uint32_t shard_count
    uint64_t now_ms              # clock of the shards, set at the beginning of the turn
    TimingWheel *wheel
    MatchCache *cache
    const HashKey *key
    Journal *journal             # NULL where nothing is durable
    uint64_t checkpoint          # that is under way, or the last one
    Session *first_written       # sessions that are written to the journal, the one longest ago first
    Session *last_written
    Tenant *first_retaining      # tenants with a retained tree, while there is a journal; likewise
    Tenant *last_retaining
    Session *first_ruled         # sessions with rules, the newest first
    Session *next_walked         # of them, by the walk that is under way; NULL = none is, or it is over
    NoticeBoard *notices         # NULL where nobody may ask: tests of single structures
    uint64_t next_serial         # steps by the number of shards, so that serials are unique in the process
    uint64_t publication_stamp   # grows with every publication
    # The topic matched last, while its bytes stay where they are and nothing else is matched: a client that sends many
    # messages at once mostly repeats its topic. recent_entry NULL = none.
    Bytes recent_topic
    const Tenant *recent_tenant
    const MatchEntry *recent_entry
    RouteList *recent_routes     # of the one filter here that it matches; NULL = not one, or not known
    uint64_t recent_shards       # where else it matches
    uint64_t recent_publisher    # serial of the session whose rules recent_verdict is of; 0 = none
    uint8_t recent_verdict       # about publishing to recent_topic
    uint8_t log_pressure         # LogPressure at the beginning of the turn; LOG_FLOWS without a journal
    Spill *spill                 # where messages go that wait beyond spill_after_bytes; NULL = nowhere
    uint64_t spill_after_bytes
    uint8_t writes_qos0          # what waits in the inboxes of persistent sessions with QoS 0 goes into the log, too
    void *census                 # GroupCensus of the process; NULL = there is one shard
    uint64_t drops[10]           # DROP_REASON_COUNT; by DropReason, since the shard began
    uint64_t session_count
    uint64_t subscription_count
    Target *targets              # scratch of the publication that is being handed out
    uint32_t target_count
    uint32_t target_capacity
    TargetId *target_ids
    uint32_t target_id_count
    uint32_t target_id_capacity
    Errand *first_errand
    Errand *last_errand
    uint8_t *scratch             # an encoded packet, for copying into many outboxes
    uint32_t scratch_capacity
