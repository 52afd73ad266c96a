"""See answers.pxd."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from rookery.core.shards.commits cimport commitment_is_met
from rookery.core.shards.queues cimport event_put
from rookery.core.shards.state cimport DueAnswer, Event, Shard


cdef uint64_t answer_begin(const Shard *shard) noexcept nogil:
    return shard.journal.record_count


cdef void answer_put(Shard *shard, Event *event, uint64_t began, uint64_t given_to) noexcept nogil:
    cdef DueAnswer *answer
    if event == NULL:
        return
    if shard.world.journal == NULL or (shard.journal.record_count == began and given_to == 0):
        event_put(shard, event)
        return
    answer = <DueAnswer *> calloc(1, sizeof(DueAnswer))
    if answer == NULL:
        free(event)
        return
    answer.event = event
    answer.due.batch = shard.journal.batch.number - (shard.journal.batch.size == 0)
    answer.due.shards = given_to & ~(<uint64_t> 1 << shard.index)
    answer.due.handover = shard.handovers + 1
    if shard.last_answer == NULL:
        shard.first_answer = answer
    else:
        shard.last_answer.next = answer
    shard.last_answer = answer


cdef void answers_step(Shard *shard) noexcept nogil:
    cdef DueAnswer *answer = shard.first_answer
    # In their order: one that waits for another shard lets those behind it wait, too, as the next turn looks again.
    while answer != NULL and commitment_is_met(shard, &answer.due):
        shard.first_answer = answer.next
        if answer.next == NULL:
            shard.last_answer = NULL
        event_put(shard, answer.event)
        free(answer)
        answer = shard.first_answer


cdef bint answers_have_work(Shard *shard) noexcept nogil:
    return shard.first_answer != NULL and commitment_is_met(shard, &shard.first_answer.due)


cdef void answers_clear(Shard *shard) noexcept nogil:
    cdef DueAnswer *answer
    while shard.first_answer != NULL:
        answer = shard.first_answer
        shard.first_answer = answer.next
        free(answer.event)
        free(answer)
    shard.last_answer = NULL
