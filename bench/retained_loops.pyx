"""What bench_retained.py measures, as loops without Python in them."""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from rookery.core.structures.hashing cimport HashKey, parse_hash_key
from rookery.core.topics.retained cimport (
    RetainedTree, RetainedWalk, retained_count, retained_free, retained_get, retained_memory_bytes, retained_new,
    retained_remove, retained_set, retained_walk_free, retained_walk_new, retained_walk_next)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef enum:
    VALUES_PER_CALL = 256   # of a walk, as a turn would take them
    NODES_PER_CALL = 1024


cdef struct Topic:
    const uint8_t *text
    Py_ssize_t size


cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef class RetainedFleet:
    """A tree and the topics for it, in an order of their own; every topic stands for its own value."""

    cdef RetainedTree *tree
    cdef Topic *topics
    cdef uint8_t *block
    cdef readonly Py_ssize_t topic_count

    def __cinit__(self, list topics, bytes hash_key):
        cdef HashKey key
        cdef Py_ssize_t offset = 0
        cdef Py_ssize_t index
        cdef bytes text
        parse_hash_key(hash_key, &key)
        self.topic_count = len(topics)
        self.tree = retained_new(&key)
        self.topics = <Topic *> calloc(self.topic_count, sizeof(Topic))
        self.block = <uint8_t *> malloc(sum(map(len, topics)) + 1)
        if self.tree == NULL or self.topics == NULL or self.block == NULL:
            raise MemoryError
        for index in range(self.topic_count):
            text = topics[index]
            memcpy(self.block + offset, <const uint8_t *> text, len(text))
            self.topics[index] = Topic(text=self.block + offset, size=len(text))
            offset += len(text)

    def __dealloc__(self):
        if self.tree != NULL:
            retained_free(self.tree)
        free(self.topics)
        free(self.block)

    def __len__(self):
        return retained_count(self.tree)

    @property
    def memory_bytes(self):
        return retained_memory_bytes(self.tree)

    def set_each(self):
        cdef void *previous
        cdef Py_ssize_t index
        with nogil:
            for index in range(self.topic_count):
                retained_set(
                    self.tree, self.topics[index].text, self.topics[index].size, &self.topics[index], &previous)

    def get_each(self):
        """Returns how many topics gave their value."""
        cdef Py_ssize_t found = 0
        cdef Py_ssize_t index
        with nogil:
            for index in range(self.topic_count):
                found += &self.topics[index] == retained_get(
                    self.tree, self.topics[index].text, self.topics[index].size)
        return found

    def remove_each(self):
        """Returns how many topics gave their value."""
        cdef Py_ssize_t found = 0
        cdef Py_ssize_t index
        with nogil:
            for index in range(self.topic_count):
                found += &self.topics[index] == retained_remove(
                    self.tree, self.topics[index].text, self.topics[index].size)
        return found

    def slowest_ns(self):
        """The slowest set and the slowest remove of all; the machine's own pauses count as well."""
        cdef uint64_t slowest_set = 0
        cdef uint64_t slowest_remove = 0
        cdef uint64_t before
        cdef uint64_t after
        cdef void *previous
        cdef Py_ssize_t index
        with nogil:
            before = now_ns()
            for index in range(self.topic_count):
                retained_set(
                    self.tree, self.topics[index].text, self.topics[index].size, &self.topics[index], &previous)
                after = now_ns()
                slowest_set = max(slowest_set, after - before)
                before = after
            for index in range(self.topic_count):
                retained_remove(self.tree, self.topics[index].text, self.topics[index].size)
                after = now_ns()
                slowest_remove = max(slowest_remove, after - before)
                before = after
        return slowest_set, slowest_remove

    def walk(self, bytes topic_filter):
        """Returns how many messages came."""
        cdef void *out[VALUES_PER_CALL]
        cdef uint64_t found = 0
        cdef bint is_done = False
        cdef RetainedWalk *walk = retained_walk_new(self.tree, <const uint8_t *> topic_filter, len(topic_filter))
        if walk == NULL:
            raise MemoryError
        with nogil:
            while not is_done:
                found += retained_walk_next(walk, out, VALUES_PER_CALL, NODES_PER_CALL, &is_done)
            retained_walk_free(walk)
        return found
