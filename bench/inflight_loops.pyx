"""What bench_inflight.py measures, as loops without Python in them."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from rookery.core.sessions.inflight cimport (
    NO_PACKET_ID, Inflight, inflight_add, inflight_clear, inflight_find, inflight_received, inflight_remove)


cdef class Windows:
    """The windows of session_count sessions, each with up to window messages in flight that nobody keeps."""

    cdef Inflight *windows
    cdef uint16_t *packet_ids
    cdef uint32_t session_count
    cdef uint32_t window

    def __cinit__(self, uint32_t session_count, uint32_t window):
        self.session_count = session_count
        self.window = window
        self.windows = <Inflight *> calloc(session_count, sizeof(Inflight))
        self.packet_ids = <uint16_t *> calloc(<size_t> session_count * window, sizeof(uint16_t))
        if self.windows == NULL or self.packet_ids == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t index
        if self.windows != NULL:
            for index in range(self.session_count):
                inflight_clear(&self.windows[index])
        free(self.windows)
        free(self.packet_ids)

    def fill(self, uint32_t qos):
        """Send as many messages to each session as its window takes, one to each session in turn, as a fan-out does.

        Returns how many that were.
        """
        cdef uint32_t number, index
        cdef uint16_t packet_id
        cdef uint64_t sent = 0
        with nogil:
            for number in range(self.window):
                for index in range(self.session_count):
                    packet_id = inflight_add(&self.windows[index], NULL, NULL, <uint8_t> qos, 0)
                    self.packet_ids[index * self.window + number] = packet_id
                    sent += packet_id != NO_PACKET_ID
        return sent

    def acknowledge(self, uint32_t qos, bint is_backwards=False):
        """All that fill has sent, session by session, as their packets come; returns how many were in flight."""
        cdef uint32_t index, number
        cdef uint16_t packet_id
        cdef uint64_t found = 0
        with nogil:
            for index in range(self.session_count):
                for number in range(self.window):
                    packet_id = self.packet_ids[
                        index * self.window + (self.window - 1 - number if is_backwards else number)]
                    if inflight_find(&self.windows[index], packet_id) == NULL:
                        continue
                    found += 1
                    if qos == 2:
                        inflight_received(&self.windows[index], packet_id)
                    inflight_remove(&self.windows[index], packet_id)
        return found
