"""The loop: turns until a goal is reached or the time is up."""

from libc.stdint cimport uint64_t

from rookery.bench.load_state cimport Engine, Goal


cdef bint run_until(Engine *engine, uint64_t until, Goal goal) noexcept nogil
