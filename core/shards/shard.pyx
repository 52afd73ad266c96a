"""See shard.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from rookery.core.log.batch cimport batch_clear
from rookery.core.sessions.message cimport message_release
from rookery.core.sessions.notices cimport notice_board_clear, notice_board_init
from rookery.core.sessions.outbox cimport pool_clear, pool_init
from rookery.core.shards.admission cimport abandon_transfer
from rookery.core.shards.answers cimport answers_clear
from rookery.core.shards.checkpoint cimport checkpoint_clear
from rookery.core.shards.connections cimport connection_drop
from rookery.core.shards.departed cimport departed_clear
from rookery.core.shards.errands cimport errand_discard, errands_clear
from rookery.core.shards.listeners cimport adopt_nobody, listeners_clear
from rookery.core.shards.mailbox cimport mail_free, mail_take_all
from rookery.core.shards.queues cimport command_free, command_take_all, event_take_all
from rookery.core.shards.replays cimport replays_clear
from rookery.core.shards.state cimport (
    COMMAND_ADOPT, CONNECTION_FREE, MAIL_CONNECTION, MAIL_ERRAND, MAIL_RETAINED, READ_BULK_SIZE, READ_SIZE, Command,
    Connection, Event, Mail, OutMail, Shard, Transfer, Universe, WalkBatch,
)
from rookery.core.shards.sweeps cimport sweeps_clear
from rookery.core.shards.tenants cimport tenants_clear
from rookery.core.shards.verdicts cimport verdicts_forget
from rookery.core.shards.wills cimport wills_clear
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init
from rookery.core.structures.timers cimport wheel_free, wheel_new
from rookery.core.topics.cache cimport cache_free, cache_new

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64

    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_create1(int flags)
    int epoll_ctl(int epoll_descriptor, int operation, int descriptor, epoll_event *event)
    int EPOLL_CLOEXEC
    int EPOLL_CTL_ADD
    int EPOLLIN

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int value, int flags)
    int EFD_CLOEXEC
    int EFD_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor)

cdef enum:
    _FREE_SEGMENTS = 4096    # kept in the pool: 32 MiB; beyond, they are returned to the allocator
    _CACHED_TOPICS = 262144  # of the match cache: some 150 bytes each, taken as topics come
    _CONNECTIONS_PER_CHUNK = 256


cdef Shard *shard_new(Universe *universe, uint32_t index) noexcept nogil:
    cdef Shard *shard = <Shard *> calloc(1, sizeof(Shard))
    cdef epoll_event event
    if shard == NULL:
        return NULL
    shard.universe = universe
    shard.index = index
    shard.epoll_descriptor = epoll_create1(EPOLL_CLOEXEC)
    shard.mailbox.wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    shard.events.wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    mutex_init(&shard.mailbox.mutex, NULL)
    mutex_init(&shard.commands.mutex, NULL)
    mutex_init(&shard.events.mutex, NULL)
    notice_board_init(&shard.notices, shard.events.wake_descriptor)
    shard.world.notices = &shard.notices
    pool_init(&shard.pool, _FREE_SEGMENTS)
    shard.read_buffer = <uint8_t *> malloc(READ_SIZE + READ_BULK_SIZE)
    shard.out_mail = <OutMail *> calloc(universe.shard_count, sizeof(OutMail))
    shard.world.shard = index
    shard.world.shard_count = universe.shard_count
    shard.world.census = &universe.census if universe.shard_count > 1 else NULL
    shard.world.key = &universe.key
    # Zero is nobody's serial.
    shard.world.next_serial = universe.shard_count + index
    shard.world.wheel = wheel_new(0)
    shard.world.cache = cache_new(&universe.key, _CACHED_TOPICS)
    event.events = EPOLLIN
    event.data.u64 = WAKE_NAME
    if (
        shard.epoll_descriptor < 0
        or shard.mailbox.wake_descriptor < 0
        or shard.events.wake_descriptor < 0
        or shard.read_buffer == NULL
        or shard.out_mail == NULL
        or shard.world.wheel == NULL
        or shard.world.cache == NULL
        or epoll_ctl(shard.epoll_descriptor, EPOLL_CTL_ADD, shard.mailbox.wake_descriptor, &event) != 0
    ):
        shard_free(shard)
        return NULL
    return shard


cdef void _drop_connections(Shard *shard) noexcept nogil:
    cdef uint32_t chunk, place
    cdef Connection *connection
    for chunk in range(shard.chunk_count):
        for place in range(_CONNECTIONS_PER_CHUNK):
            connection = &shard.chunks[chunk][place]
            if connection.state != CONNECTION_FREE:
                if connection.link.session != NULL:
                    connection.link.session.link = NULL
                    connection.link.session = NULL
                connection_drop(connection)


cdef void _discard_mail(Shard *shard, Mail *mail) noexcept nogil:
    cdef Mail *next_mail
    cdef WalkBatch *batch
    cdef uint32_t index
    while mail != NULL:
        next_mail = mail.next
        if mail.kind == MAIL_CONNECTION:
            abandon_transfer(<Transfer *> mail.data)
        elif mail.kind == MAIL_ERRAND:
            errand_discard(shard, mail)
        elif mail.kind == MAIL_RETAINED:
            batch = <WalkBatch *> mail.data
            for index in range(batch.count):
                message_release(batch.messages[index])
        mail_free(shard, mail)
        mail = next_mail


cdef void _discard_queues(Shard *shard) noexcept nogil:
    cdef Command *command = command_take_all(shard)
    cdef Command *next_command
    cdef Event *event = event_take_all(shard)
    cdef Event *next_event
    while command != NULL:
        next_command = command.next
        if command.kind == COMMAND_ADOPT:
            adopt_nobody(shard, command)
        command_free(command)
        command = next_command
    while event != NULL:
        next_event = event.next
        free(event)
        event = next_event


cdef void shard_free(Shard *shard) noexcept nogil:
    cdef uint32_t chunk, target
    # A shard that never came to be whole owns nothing yet but what is freed below.
    # What goes now is not gone: it is read back at the next start.
    shard.world.journal = NULL
    batch_clear(&shard.journal.batch)
    if shard.world.wheel != NULL and shard.out_mail != NULL:
        checkpoint_clear(shard)
        replays_clear(shard)
        sweeps_clear(shard)
        answers_clear(shard)
        wills_clear(shard)
        _drop_connections(shard)
        # Other shards may be gone already: nothing is handed over any more.
        for target in range(shard.universe.shard_count):
            _discard_mail(shard, shard.out_mail[target].first)
        _discard_mail(shard, mail_take_all(shard))
        _discard_queues(shard)
        tenants_clear(shard)
        departed_clear(&shard.departed)
        errands_clear(shard)
        listeners_clear(shard)
    for chunk in range(shard.chunk_count):
        free(shard.chunks[chunk])
    free(shard.chunks)
    if shard.world.wheel != NULL:
        wheel_free(shard.world.wheel)
    if shard.world.cache != NULL:
        cache_free(shard.world.cache)
    verdicts_forget(shard)
    pool_clear(&shard.pool)
    free(shard.world.targets)
    free(shard.world.target_ids)
    free(shard.world.scratch)
    free(shard.read_buffer)
    free(shard.out_mail)
    _close(shard.epoll_descriptor)
    _close(shard.mailbox.wake_descriptor)
    _close(shard.events.wake_descriptor)
    mutex_destroy(&shard.mailbox.mutex)
    mutex_destroy(&shard.commands.mutex)
    mutex_destroy(&shard.events.mutex)
    notice_board_clear(&shard.notices)
    free(shard)


cdef void _close(int descriptor) noexcept nogil:
    if descriptor >= 0:
        close(descriptor)
