"""See mailbox.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from rookery.core.sessions.message cimport Message, message_release, message_share, message_size
from rookery.core.sessions.state cimport SharedTenant
from rookery.core.shards.registry cimport registry_acquire, registry_release
from rookery.core.shards.state cimport Mail, Mailbox, OutMail, Shard
from rookery.core.structures.atomics cimport (
    atomic_exchange_u32, atomic_fence, atomic_load_u32, atomic_load_u64, atomic_store_u64,
)
from rookery.core.structures.mutex cimport mutex_lock, mutex_unlock

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int descriptor, const void *data, size_t size)


cdef int mail_put(
    Shard *shard, uint32_t target, uint8_t kind, SharedTenant *tenant, Message *message, void *data
) noexcept nogil:
    cdef OutMail *out = &shard.out_mail[target]
    cdef Mail *mail = <Mail *> calloc(1, sizeof(Mail))
    if mail == NULL:
        return -1
    mail.kind = kind
    mail.message = message
    mail.data = data
    mail.tenant = tenant
    if tenant != NULL:
        registry_acquire(&shard.universe.registry, tenant)
    out.bytes += sizeof(Mail)
    if message != NULL:
        message_share(message)
        out.bytes += message_size(message)
    if out.last == NULL:
        out.first = mail
    else:
        out.last.next = mail
    out.last = mail
    return 0


cdef void mail_hand_over(Shard *shard) noexcept nogil:
    cdef uint32_t target
    cdef OutMail *out
    cdef Mailbox *mailbox
    shard.handovers += 1
    for target in range(shard.universe.shard_count):
        out = &shard.out_mail[target]
        if out.first == NULL:
            continue
        mailbox = &shard.universe.shards[target].mailbox
        mutex_lock(&mailbox.mutex)
        if mailbox.last == NULL:
            mailbox.first = out.first
        else:
            mailbox.last.next = out.first
        mailbox.last = out.last
        mailbox.handovers[shard.index] = shard.handovers
        atomic_store_u64(&mailbox.waiting_bytes, mailbox.waiting_bytes + out.bytes)
        mutex_unlock(&mailbox.mutex)
        out.first = NULL
        out.last = NULL
        out.bytes = 0
        out.handover = shard.handovers
        shard_wake(shard.universe.shards[target])


cdef Mail *mail_take_all(Shard *shard) noexcept nogil:
    cdef Mail *first
    cdef uint64_t awaited_by
    cdef uint32_t index
    mutex_lock(&shard.mailbox.mutex)
    first = shard.mailbox.first
    awaited_by = shard.mailbox.awaited_by
    shard.mailbox.first = NULL
    shard.mailbox.last = NULL
    shard.mailbox.awaited_by = 0
    if first != NULL:
        for index in range(shard.universe.shard_count):
            shard.taken[index] = shard.mailbox.handovers[index]
    atomic_store_u64(&shard.mailbox.waiting_bytes, 0)
    mutex_unlock(&shard.mailbox.mutex)
    if awaited_by != 0:
        for index in range(shard.universe.shard_count):
            if awaited_by >> index & 1:
                shard_wake(shard.universe.shards[index])
    return first


cdef uint64_t mail_waiting_bytes(Shard *shard, uint32_t target) noexcept nogil:
    return shard.out_mail[target].bytes + atomic_load_u64(&shard.universe.shards[target].mailbox.waiting_bytes)


cdef bint mail_await(Shard *shard, uint32_t target) noexcept nogil:
    cdef Mailbox *mailbox = &shard.universe.shards[target].mailbox
    cdef bint is_waiting
    mutex_lock(&mailbox.mutex)
    is_waiting = shard.out_mail[target].bytes > 0 or mailbox.first != NULL
    if is_waiting:
        mailbox.awaited_by |= <uint64_t> 1 << shard.index
    mutex_unlock(&mailbox.mutex)
    return is_waiting


cdef void mail_free(Shard *shard, Mail *mail) noexcept nogil:
    message_release(mail.message)
    if mail.tenant != NULL:
        registry_release(&shard.universe.registry, shard.universe.reclaim, mail.tenant)
    free(mail.data)
    free(mail)


cdef void shard_wake(Shard *shard) noexcept nogil:
    cdef uint64_t one = 1
    # The queue was filled before this full barrier; the sleeper sets the flag before it looks at the queue. So either
    # it sees what was put there, or its flag is seen here.
    atomic_fence()
    if atomic_load_u32(&shard.mailbox.is_asleep) and atomic_exchange_u32(&shard.mailbox.is_asleep, 0):
        write(shard.mailbox.wake_descriptor, &one, sizeof(one))


cdef bint shard_may_sleep(Shard *shard) noexcept nogil:
    cdef bint is_empty
    atomic_exchange_u32(&shard.mailbox.is_asleep, 1)
    mutex_lock(&shard.mailbox.mutex)
    is_empty = shard.mailbox.first == NULL
    mutex_unlock(&shard.mailbox.mutex)
    if is_empty:
        mutex_lock(&shard.commands.mutex)
        is_empty = shard.commands.first == NULL
        mutex_unlock(&shard.commands.mutex)
    if not is_empty:
        shard_awake(shard)
    return is_empty


cdef void shard_awake(Shard *shard) noexcept nogil:
    atomic_exchange_u32(&shard.mailbox.is_asleep, 0)
