"""The data model of the event loops: Engine parts that shards share, Shard, Connection.

    Universe (shared by all shards of one engine)
      |-- reclaim domain, tenant registry, mailboxes
      |
    Shard 0 .. N-1 (one thread each)
      |-- World: what its sessions and tenants share
      |-- connections, by index and generation
      |-- CommandQueue (from Python), EventQueue (to Python), Mailbox (from other shards)

A Connection is one network connection. It holds a Link, through which its session writes; the session is owned by the
shard that its key hashes to, and the connection is handed over to that shard before it is attached.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.permissions.rule_set cimport RuleSet
from rookery.core.sessions.census cimport GroupCensus
from rookery.core.sessions.message cimport Message
from rookery.core.sessions.notices cimport NoticeBoard
from rookery.core.sessions.outbox cimport FlushList, SegmentPool
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport Commitment, Journal, Link, Session, SharedTenant, Tenant, World
from rookery.core.shards.departed cimport DepartedTenants
from rookery.core.shards.gate cimport Gate
from rookery.core.shards.publish_run cimport PublishRun
from rookery.core.shards.sweeps cimport Sweep
from rookery.core.streams.tls cimport Tls, TlsLibrary
from rookery.core.streams.websocket cimport WebSocket
from rookery.core.structures.gathering cimport Gathering
from rookery.core.structures.hashing cimport HashKey
from rookery.core.structures.mutex cimport Mutex
from rookery.core.structures.pointer_map cimport PointerMap
from rookery.core.structures.reclaim cimport ReclaimDomain
from rookery.core.structures.spill cimport Spill
from rookery.core.structures.timers cimport Timer
from rookery.core.topics.retained cimport RetainedWalk
from rookery.core.wire.property_memo cimport PropertyMemo

cdef enum ShardLimit:
    READ_SIZE = 16384              # bytes read per ready socket and turn: larger gains nothing for small packets
    READ_LARGE_SIZE = 65536        # for a socket whose last read came back full
    READ_BULK_SIZE = 262144        # for one that is inside a large packet: fewer of them are cut, and copied once more
    READ_LEAST_SIZE = 512          # for a demanding connection in a turn that has done much, see input.pxd
    EFFORT_OF_FILTER = 200         # of a topic filter in SUBSCRIBE or UNSUBSCRIBE; handing out one message once is 1
    EFFORT_MINDED = 4096           # of one read, from which on it counts: 1 ms at most
    EFFORT_PER_READ = 131072       # what a demanding connection's next read may come to
    EFFORT_PER_TURN = 16384        # of all reads, from which on demanding connections are read little of
    EVENTS_PER_TURN = 256          # ready sockets taken from the kernel at once
    FLUSH_EARLY_BYTES = 4194304    # put into outboxes within one turn: caps what a fan-out makes of one read
    PENDING_CONNECTS = 16384       # CONNECTs that may wait for a verdict, per shard
    VERDICTS_REMEMBERED = 16384    # admissions that hold for others, per shard: some 200 bytes each
    COMMANDS_QUEUED = 65536        # commands from Python that may wait, per shard
    CONNECT_TIMEOUT_MS = 20000     # from accept to the verdict; BifroMQ's connTimeoutSec
    PACKET_TIMEOUT_MS = 60000      # from the first byte of a packet to its last: 256 KiB at 4 KiB/s
    CONNECT_SIZE_MAXIMUM = 262144  # bytes of a CONNECT: BifroMQ's maxMsgByteSize
    ACCEPTS_PER_TURN = 4           # connections accepted per listener and turn, so that others are served in between
    STRANGERS_PER_TURN = 8         # ready sockets of who is no client yet, or no longer, and listeners: some 100 us
    ACCEPT_PAUSE_MS = 100          # after accept failed for want of descriptors or memory: trying on would only spin
    LINGER_MS = 1000               # how long a closed connection may take to read its last bytes
    STALL_MS = 60000               # a client that takes no byte for so long while some wait is gone
    HOLD_MS = 200                  # how long publishers wait for a client whose outbox is over its high mark
    CONGESTION_PLACES = 64         # tenants of which a shard may say apart that one of their clients is congested
    MAIL_HIGH_BYTES = 393216       # waiting in one mailbox: publishers on other shards wait until it has been taken
    RETAINED_PER_TURN = 256        # retained messages handed to new subscribers per turn: some 100 us
    RETAINED_NODES_PER_TURN = 2048  # places of the retained tree looked at for them
    AUTH_SIZE_MAXIMUM = 65536      # bytes of an AUTH: the data of ordinary methods has less than 4 KiB
    AUTHENTICATION_STEPS = 16      # AUTHs of a client in one exchange: SCRAM takes one, the longest of SASL a few
    PENDING_AUTHENTICATIONS = 4096  # strangers in an exchange, per shard
    PENDING_REAUTHENTICATIONS = 4096  # the same of connected clients, apart so that strangers cannot take their place
    REAUTHENTICATION_TIMEOUT_MS = 20000  # from AUTH 0x19 to its end, as CONNECT_TIMEOUT_MS
    STRINGS_MAXIMUM = 12           # of a command or an event

cdef enum ConnectionState:
    CONNECTION_FREE = 0
    CONNECT_DUE = 1        # nothing came yet but bytes of a CONNECT
    VERDICT_DUE = 2        # the control plane decides
    ATTACHED = 3           # has a session
    LINGERING = 4          # closed by us: last bytes go out, what comes in is thrown away
    AUTH_DUE = 5           # the control plane has asked for more, the client is to answer with AUTH

cdef enum AuthenticationTurn:  # of a re-authentication: who is to speak
    TURN_OF_NOBODY = 0     # none is under way
    TURN_OF_SERVER = 1
    TURN_OF_CLIENT = 2

cdef enum HoldReason:          # why nothing is read from a connection, a bit each
    HELD_FOR_OTHERS = 1    # what it sent piles up somewhere: in the held list, see holding.pxd
    HELD_FOR_RATE = 2      # of its own, see pacing.pxd
    HELD_FOR_LOG = 4       # it waits for a log that is under pressure: in the uncommitted list, see commits.pxd

cdef enum TransportKind:
    TRANSPORT_SOCKET = 1
    TRANSPORT_MEMORY = 2   # bytes come from and go to a MemoryLink: tests, embedding

cdef enum CloseCause:      # who ended an attached connection; the reason code beside it says why
    CLOSED_BY_CLIENT = 1       # DISCONNECT
    CLOSED_BY_NETWORK = 2      # end of stream, reset, or a failed write: no DISCONNECT came
    CLOSED_BY_SERVER = 3       # for an error, a time-out, a take-over, by an administrator, at the end of the process


cdef struct MemoryLink:    # the two directions of a connection without a socket; under its mutex
    Mutex mutex
    uint8_t *incoming          # fed by the test, read by the shard
    uint64_t incoming_size
    uint8_t *outgoing          # written by the shard, collected by the test
    uint64_t outgoing_size
    uint8_t is_hung_up         # by the test
    uint8_t is_closed          # by the shard
    uint32_t references        # the shard's and the test's


cdef struct TopicAlias:
    uint8_t *topic             # owned; NULL = not set
    uint16_t size


cdef struct Authentication:    # of a client whose CONNECT names a method; authentication.pyx
    uint64_t due_ms            # when a re-authentication must have ended
    uint32_t method_size       # bytes; the method follows the struct
    uint8_t turn               # AuthenticationTurn
    uint8_t step_count         # AUTHs that came from the client in this exchange
    uint8_t is_exchange        # before CONNACK: the control plane has challenged; counted by the shard


cdef struct Rates:             # of a connection whose tenant has any; pacing.pyx
    uint64_t publish_paid_ns   # the points in time up to which all that passed is paid for, by the clock of the shards:
    uint64_t read_paid_ns      # publications, bytes in, bytes out
    uint64_t flush_paid_ns
    uint64_t read_due_ms       # nothing is read before; 0 = no rate holds it
    uint64_t flush_due_ms      # nothing is written before; 0 = no rate holds it
    uint64_t noticed_at_ms     # when somebody was last told
    Timer timer                # TIMER_PACING: the earlier of the two


cdef struct Connection:
    Link link                  # first: a Link is its Connection
    Shard *shard
    uint32_t index             # in the shard's table
    uint32_t generation        # grows when the index is used again
    int descriptor             # -1 without a socket
    uint8_t state              # ConnectionState
    uint8_t transport          # TransportKind
    uint8_t is_reading         # the kernel tells us when bytes come
    uint8_t is_writable_awaited  # the kernel tells us when it takes bytes again
    uint8_t reads_large        # READ_LARGE_SIZE next time
    uint8_t is_scattering      # what it publishes goes to ever other topics, of very many: see input.pyx
    uint8_t is_held            # HoldReason: nothing is read while there is one
    uint8_t wants_problem_information  # reason strings may be sent [MQTT-3.1.2-29]
    uint8_t is_ready           # in the ready list
    uint8_t is_layered         # has a websocket or tls: its bytes are not those of the socket
    uint8_t is_uncommitted     # in the uncommitted list: its outbox waits for the log, see commits.pxd
    uint16_t keep_alive        # seconds in force; 0 = none
    uint16_t receive_maximum   # of QoS 1 and 2 messages that we let the client have on their way
    uint32_t read_limit        # bytes to read at once of a demanding connection; 0 = it is none
    uint64_t effort            # of what came with this read
    uint32_t listener_id
    uint32_t packet_size_maximum  # of a packet from the client, bytes
    uint8_t *partial           # bytes that came and were not consumed: part of a packet, or what waits for a verdict
    uint32_t partial_size
    uint32_t partial_capacity
    uint64_t last_receive_ms
    uint64_t partial_since_ms  # a packet has begun to come and is not whole since, as far as we read; 0 = none
    uint64_t blocked_since_ms  # the socket takes no bytes since; 0 = it does
    uint64_t ends_at_ms        # its authentication holds no longer; 0 = it holds for ever
    Timer timer                # TIMER_CONNECTION
    Tenant *tenant             # NULL before the verdict
    uint8_t *connect_body      # of the CONNECT, until the session is attached
    uint32_t connect_size
    Authentication *authentication  # NULL: a CONNECT without a method
    Rates *rates               # NULL until one of them holds for it; owned
    TopicAlias *aliases        # of the client, 1-based less one
    uint16_t alias_count       # places in aliases
    uint16_t peer_size
    uint8_t *peer              # "host:port"; owned
    uint8_t *additions         # user properties that each of its messages gets, encoded; owned; NULL = none
    uint32_t additions_size
    MemoryLink *memory         # with TRANSPORT_MEMORY
    WebSocket *websocket       # NULL: bytes of MQTT are those of the socket, or of TLS; owned
    Tls *tls                   # NULL: what the socket carries is not encrypted; owned
    uint64_t ticket            # by which the control plane wants to hear of it; 0 = it does not
    uint64_t network           # by which the gate counts it; 0 = by none
    uint8_t is_counted         # the gate counts it: gate_leave when it closes
    Connection *next           # in the ready list or the free list
    Connection *next_held      # in the held list
    Connection *next_uncommitted  # in the uncommitted list
    Connection *next_memory    # in the list of connections without a socket
    uint32_t held_for_shard    # 1 + the shard that is behind; 0 = held for a connection of this shard:
    uint32_t held_for_index    # the congested one
    uint32_t held_for_generation


cdef enum:
    REPLAY_BATCH = 64          # retained messages taken from the tree at once


cdef struct Replay:            # retained messages on their way to a new subscription, on the session's shard
    Replay *next
    Session *session
    uint64_t number            # names it in mails
    RetainedWalk *walk         # when the tenant's home is this shard
    RemoteWalk *remote         # else: where the home shard stands; NULL until its first batch came
    uint32_t filter_id         # of the subscription
    uint32_t subscription_id   # 0 = none
    uint32_t limit             # messages that may still be sent; UINT32_MAX = no limit
    uint8_t qos                # granted
    uint8_t no_local
    uint8_t is_awaiting        # a batch has been asked for by mail
    uint8_t is_done            # the walk is over: what is in the batch is the last
    uint32_t sent              # messages that were handed to the session
    uint32_t filter_size       # bytes of the topic filter, which follows the struct
    uint32_t batch_next
    uint32_t batch_count
    Message *batch[64]         # REPLAY_BATCH; one reference each


cdef struct RemoteWalk:        # on the home shard, for a replay of another shard
    RemoteWalk *next
    RetainedWalk *walk
    Tenant *tenant             # one user


cdef enum WalkStep:
    WALK_OPEN = 1
    WALK_NEXT = 2
    WALK_CLOSE = 3


cdef struct WalkRequest:       # data of MAIL_WALK; the topic filter follows the struct
    uint8_t step               # WalkStep
    uint32_t origin            # shard of the replay
    uint64_t replay            # its number
    RemoteWalk *walk           # with WALK_NEXT and WALK_CLOSE
    uint32_t filter_size       # with WALK_OPEN


cdef struct WalkBatch:         # data of MAIL_RETAINED
    uint64_t replay
    RemoteWalk *walk           # NULL when the walk is over
    uint32_t count
    Message *messages[64]      # REPLAY_BATCH; one reference each, shared


cdef enum MailKind:
    MAIL_CONNECTION = 1        # data: Transfer; a connection whose session lives there
    MAIL_PUBLISH = 2           # message, for the routes of that shard
    MAIL_RETAIN = 3            # message to be stored on the tenant's home shard
    MAIL_WALK = 4              # data: WalkRequest; retained messages wanted from the home shard
    MAIL_RETAINED = 5          # data: WalkBatch; retained messages for a session
    MAIL_ERRAND = 6            # data: Errand; shared groups


cdef struct Mail:
    Mail *next
    uint8_t kind               # MailKind
    SharedTenant *tenant       # one reference
    Message *message           # one reference, shared; or NULL
    uint64_t origin            # see Publication
    void *data                 # owned by whoever takes the mail


cdef struct Mailbox:           # from all other shards to one; under its mutex
    Mutex mutex
    Mail *first
    Mail *last
    uint64_t waiting_bytes     # of what is in it; atomic, so that others may look at it
    uint64_t handovers[64]     # by source: number of its last handing over that put mail here
    uint64_t awaited_by        # shards, a bit each, that want to be woken when it has been taken
    uint32_t is_asleep         # the owner waits in epoll: wake it. Atomic
    int wake_descriptor        # eventfd in the owner's epoll; also rung for commands


cdef struct OutMail:           # collected during a turn for one other shard
    Mail *first
    Mail *last
    uint64_t bytes
    uint64_t handover          # in which mail went there last


cdef enum CommandKind:
    COMMAND_LISTEN = 1
    COMMAND_STOP_LISTENING = 2
    COMMAND_ADOPT = 3
    COMMAND_ADMIT = 4
    COMMAND_REFUSE = 5
    COMMAND_PUBLISH = 6
    COMMAND_FIND_SESSION = 7
    COMMAND_CONFIGURE = 8
    COMMAND_STATISTICS = 9
    COMMAND_STOP = 10
    COMMAND_LINK = 11          # a memory connection
    COMMAND_OBSERVE = 12       # which notices are wanted
    COMMAND_CHALLENGE = 13     # AUTH that asks for more
    COMMAND_CONFIRM = 14       # AUTH that ends a re-authentication well
    COMMAND_DISCONNECT = 15
    COMMAND_SET_PERMISSIONS = 16
    COMMAND_REPLACE_PERMISSIONS = 17
    COMMAND_KILL = 18          # disconnect one client
    COMMAND_SWEEP_CONNECTIONS = 19  # these three: see sweeps.pxd
    COMMAND_SWEEP_SESSIONS = 20
    COMMAND_SWEEP_RETAINED = 21
    COMMAND_SUBSCRIBE = 22     # number: QoS
    COMMAND_UNSUBSCRIBE = 23
    COMMAND_RETAIN = 24
    COMMAND_FORGET_VERDICTS = 25
    COMMAND_PUBLISH_BATCH = 41
    COMMAND_TELL_TENANTS = 50  # these: see pages.pxd
    COMMAND_LIST_SESSIONS = 51
    COMMAND_LIST_SUBSCRIPTIONS = 52
    COMMAND_LIST_RETAINED = 53
    COMMAND_LIST_INBOX = 54
    COMMAND_LIST_INFLIGHT = 55
    COMMAND_LIST_MATCHES = 56
    COMMAND_THROTTLE = 40      # number: a bit for each resource that there is no more of

cdef enum:                     # what commands about one session carry
    KEY_TENANT_ID = 0
    KEY_USER_ID = 1
    KEY_CLIENT_ID = 2
    KEY_TOPIC_FILTER = 3       # of COMMAND_SUBSCRIBE and COMMAND_UNSUBSCRIBE
    KEY_REASON_STRING = 3      # of COMMAND_KILL
    KEY_SERVER_REFERENCE = 4   # of COMMAND_KILL

cdef enum:                     # what COMMAND_ADOPT carries; flag: frames of WebSocket follow
    ADOPT_EARLY = 0            # bytes of them that came with the request for the upgrade
    ADOPT_PEER = 1             # who it is, where the socket does not tell; empty = ask the socket
    ADOPT_STRING_COUNT = 2

cdef enum:                     # what COMMAND_ADMIT carries; flag: there is authentication data
    ADMIT_TENANT_ID = 0
    ADMIT_USER_ID = 1
    ADMIT_ATTRIBUTES = 2
    ADMIT_RESPONSE_INFORMATION = 3
    ADMIT_REASON_STRING = 4
    ADMIT_USER_PROPERTIES = 5  # encoded, as in a packet
    ADMIT_AUTHENTICATION_DATA = 6
    ADMIT_ADDITIONS = 7        # user properties for the client's messages, encoded
    ADMIT_STRING_COUNT = 8

cdef enum:                     # what COMMAND_CHALLENGE and COMMAND_CONFIRM carry; flag: there is data
    AUTH_DATA = 0
    AUTH_REASON_STRING = 1
    AUTH_USER_PROPERTIES = 2   # encoded, as in a packet
    AUTH_STRING_COUNT = 3

cdef enum:                     # what COMMAND_REFUSE and COMMAND_DISCONNECT carry
    FAREWELL_REASON_STRING = 0
    FAREWELL_SERVER_REFERENCE = 1
    FAREWELL_USER_PROPERTIES = 2  # encoded, as in a packet; COMMAND_REFUSE only
    FAREWELL_STRING_COUNT = 3


cdef struct Command:
    Command *next
    uint8_t kind               # CommandKind
    uint8_t flag
    uint8_t reason_code
    int descriptor
    uint32_t listener_id
    uint64_t request           # or the handle of a connection
    uint64_t number            # with ADMIT and CONFIRM: milliseconds that the connection may last; 0 = for ever
    uint64_t remember_ms       # with ADMIT: how long it holds for others, see verdicts.pxd; 0 = for nobody else
    uint64_t epoch             # with ADMIT: Universe.verdict_epoch when the question was asked
    uint64_t ticket            # with ADOPT; 0 = none
    uint64_t network           # with ADOPT: by which the gate counts it
    uint8_t is_counted         # with ADOPT: it came through the gate
    void *ssl                  # with ADOPT: SSL *, see tls.pxd; the caller's until the command is in the queue
    Message *message
    Message **batch            # COMMAND_PUBLISH_BATCH: one reference each, expires_at_ms counts from now; owned
    uint32_t batch_count
    MemoryLink *memory
    RuleSet *rules             # with ADMIT, SET_PERMISSIONS; one reference; NULL = none
    uint32_t sizes[12]         # STRINGS_MAXIMUM: of the byte strings that follow the struct, one after the other
    Settings settings          # COMMAND_CONFIGURE
    uint64_t *quota_limits     # COMMAND_CONFIGURE: 2 * RESOURCE_COUNT, as for quota_set_limits; owned; NULL = none


cdef struct Verdict:           # an admission that holds for others, see verdicts.pxd
    uint64_t key[2]            # of listener, user name and password
    uint64_t epoch
    uint64_t expires_at_ms
    RuleSet *rules             # one reference; NULL = none
    uint32_t sizes[8]          # ADMIT_STRING_COUNT: of the byte strings that follow the struct, as in Command


cdef struct Transfer:          # a connection on its way to the shard that owns its session
    int descriptor
    uint8_t transport
    MemoryLink *memory
    WebSocket *websocket
    Tls *tls
    uint64_t ticket
    uint64_t network
    uint8_t is_counted
    uint32_t listener_id
    uint8_t *connect_body
    uint32_t connect_size
    uint8_t *partial
    uint32_t partial_size
    uint8_t *peer
    uint16_t peer_size
    Command *admission         # COMMAND_ADMIT as it came, owned


cdef struct CommandQueue:      # from Python to one shard; under its mutex
    Mutex mutex
    Command *first
    Command *last
    uint32_t count


cdef enum EventKind:
    EVENT_CONNECT_REQUESTED = 1
    EVENT_PUBLISHED = 2        # reply to COMMAND_PUBLISH
    EVENT_SESSION = 3          # reply to COMMAND_FIND_SESSION
    EVENT_NO_SESSION = 4
    EVENT_STATISTICS = 5
    EVENT_STOPPED = 6
    EVENT_AUTH_RECEIVED = 7
    EVENT_REAUTHENTICATION_REQUESTED = 8
    EVENT_AUTHENTICATION_ABANDONED = 9
    EVENT_PAGE = 20            # reply to the commands of pages.pxd
    EVENT_NUMBER = 10          # reply to commands that only count or tell a reason code
    EVENT_CONNECTION_CLOSED = 11  # of a connection with a ticket, which is the request

cdef enum:                     # what EVENT_CONNECT_REQUESTED carries
    CONNECT_PEER = 0
    CONNECT_CLIENT_ID = 1
    CONNECT_USERNAME = 2
    CONNECT_PASSWORD = 3
    CONNECT_WILL_TOPIC = 4
    CONNECT_METHOD = 5
    CONNECT_DATA = 6
    CONNECT_PROPERTIES = 7     # the whole block: user properties are read from it
    CONNECT_STRING_COUNT = 8

cdef enum:
    PUBLISHED_DROPS = 4        # where in numbers of EVENT_PUBLISHED the drops by DropReason begin


cdef enum ConnectFlag:         # numbers[3] of EVENT_CONNECT_REQUESTED
    CONNECT_IS_CLEAN_START = 1
    CONNECT_HAS_USERNAME = 2
    CONNECT_HAS_PASSWORD = 4
    CONNECT_HAS_WILL = 8
    CONNECT_IS_WILL_RETAINED = 16
    CONNECT_HAS_METHOD = 32
    CONNECT_HAS_DATA = 64
    CONNECT_WANTS_RESPONSE_INFORMATION = 128
    CONNECT_WILL_QOS_SHIFT = 8  # the two bits from here on

cdef enum:                     # what EVENT_AUTH_RECEIVED carries; flags[0]: AuthReceivedFlag
    RECEIVED_DATA = 0
    RECEIVED_REASON_STRING = 1
    RECEIVED_PROPERTIES = 2    # the whole block
    RECEIVED_STRING_COUNT = 3

cdef enum AuthReceivedFlag:    # also flags[0] of EVENT_REAUTHENTICATION_REQUESTED
    RECEIVED_HAS_DATA = 1
    RECEIVED_HAS_REASON_STRING = 2

cdef enum:                     # what EVENT_REAUTHENTICATION_REQUESTED carries
    REAUTHENTICATION_PEER = 0
    REAUTHENTICATION_CLIENT_ID = 1
    REAUTHENTICATION_TENANT_ID = 2
    REAUTHENTICATION_USER_ID = 3
    REAUTHENTICATION_METHOD = 4
    REAUTHENTICATION_DATA = 5
    REAUTHENTICATION_PROPERTIES = 6  # the whole block
    REAUTHENTICATION_STRING_COUNT = 7


cdef struct Event:
    Event *next
    uint8_t kind               # EventKind
    uint8_t flags[7]
    uint64_t request           # or the handle of a connection
    uint64_t numbers[24]
    uint32_t sizes[12]         # STRINGS_MAXIMUM: of the byte strings that follow the struct, one after the other


cdef struct DueAnswer:         # a reply that waits for the log, see answers.pxd
    DueAnswer *next
    Event *event               # owned
    Commitment due


cdef struct SentWill:          # a will that other shards have yet to make durable, see wills.pxd
    SentWill *next
    uint64_t number            # of its message in the log
    Commitment due


cdef struct EventQueue:        # from one shard to Python; under its mutex
    Mutex mutex
    Event *first
    Event *last
    uint32_t count
    int wake_descriptor        # eventfd that trio waits for


cdef struct Registry:          # tenants by id, for all shards; under its mutex
    Mutex mutex
    PointerMap tenants         # hash of the id -> SharedTenant


cdef struct Checkpoint:        # a shard's part of it, see checkpoint.pxd
    uint64_t number            # of the present one, or the last
    uint8_t is_walking         # there is more to write
    uint8_t is_ending          # all is written: durable when it is met
    Commitment due
    uint64_t done              # the last one that is durable; atomic
    Tenant *tenant             # whose retained messages are walked; one user
    RetainedWalk *retained_walk
    PointerMap messages        # that several may wait for and this checkpoint has written


cdef struct Relaxing:          # see relaxing.pxd
    uint64_t due_ms            # of the next step
    uint64_t cpu_ns            # that the thread had used at the last one
    uint64_t freed_bytes       # by relaxing, since the allocator was asked
    uint64_t ask_from_ms       # the allocator is not asked before
    uint32_t calm_steps        # one after the other
    uint8_t is_worn            # the allocator is to be asked when the shard is calm
    uint8_t is_at_rest         # nothing is left to give back: the shard need not wake up for it


cdef struct Universe:
    uint32_t shard_count
    HashKey key
    HashKey verdict_keys[2]
    uint64_t verdict_epoch     # the number of changes of mind of who decides. Atomic
    TlsLibrary tls             # zero until there are TLS listeners
    Gate *gate                 # NULL = connections have no limits; owned
    uint32_t connect_timeout_ms  # from accept to the verdict
    uint32_t packet_timeout_ms  # from the first byte of a packet to its last; 0 = never
    ReclaimDomain *reclaim
    Registry registry
    GroupCensus census
    Shard **shards
    Settings default_settings
    uint64_t *default_quota_limits  # of tenants without settings of their own, as in Command; owned; NULL = none
    # Written by the first shard.
    uint64_t checkpoint_number  # of the last one that was begun; atomic
    uint64_t checkpoint_position  # of the log when the last one began; before the first: when the log began
    uint64_t checkpoint_bytes   # twice what the last one wrote: the log has to grow by it before the next
    bint is_checkpointing
    uint64_t wall_offset_ms    # milliseconds of the epoch = clock of the shards + this
    Spill *spills[64]            # World.spill of each shard, owned; NULL = none; freed after all messages


cdef struct Listener:
    Listener *next
    int descriptor
    uint32_t listener_id
    uint32_t index             # as epoll names it
    Timer timer                # TIMER_LISTENER: accepting begins again
    uint8_t is_paused          # the process had no descriptor left


cdef struct Shard:
    Universe *universe
    World world
    uint32_t index
    int epoll_descriptor
    uint8_t is_stopping
    uint8_t is_stopped
    uint64_t stop_at_ms        # connections that still linger then are cut
    uint64_t turns
    uint64_t effort            # of what demanding connections sent, in this turn
    uint64_t flushed_bytes     # produced by the last turn
    Gathering gathering
    SegmentPool pool
    Relaxing relaxing
    FlushList flush_list
    PointerMap tenants         # hash of the id -> Tenant
    Connection **chunks        # of the connection table, 256 each
    uint32_t chunk_count
    Connection *free_connections
    uint32_t connection_count
    uint32_t pending_connects
    Verdict **verdicts         # by the first half of the key; NULL = none is remembered
    uint64_t verdicts_recalled
    uint32_t pending_authentications    # strangers in an exchange
    uint32_t pending_reauthentications  # connected clients in one
    Connection *held           # publishers of whom nothing is read, see holding.pxd
    uint64_t congested_until_ms[64]  # by tenant.shared.hash % CONGESTION_PLACES; atomic, read by other shards
    Journal journal            # World.journal, when there is a log
    Connection *uncommitted    # whose outboxes wait for the log
    DueAnswer *first_answer    # replies that wait for the log, oldest first
    DueAnswer *last_answer
    SentWill *sent_wills
    Checkpoint checkpoint
    uint64_t handovers         # of mail, ever
    uint64_t taken[64]         # by source: its last handing over that has been taken
    uint64_t settled[64]       # by source: up to which everything is durable here. Atomic, read by the source
    uint64_t settling_taken[64]  # what becomes settled when settling_due is met
    Commitment settling_due
    uint8_t is_settling
    uint64_t given_to          # shards, a bit each, that mail was passed on to since
    Connection *ready          # to be served in the next turn, whatever the kernel says
    Connection *memory_connections  # looked at in every turn: tests and embedding have few
    Replay *replays
    Sweep *sweeps
    uint8_t is_walking_rules   # see permissions.pxd
    uint8_t is_rule_walk_due   # one more, when this one is over
    DepartedTenants departed
    RemoteWalk *remote_walks
    uint64_t last_replay
    Listener *listeners
    PropertyMemo property_memo  # of the PUBLISH before, whoever sent it
    PublishRun publish_run     # of the packets that are being handled
    uint8_t *read_buffer       # the one scratch that sockets are read into
    CommandQueue commands
    EventQueue events
    NoticeBoard notices        # World.notices
    Mailbox mailbox
    OutMail *out_mail          # by shard
    uint64_t last_assigned     # client identifiers chosen by the server
