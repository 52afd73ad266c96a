"""Sweeps: what an administrator wants done to many connections, sessions or retained messages of a tenant.

    SWEEP_CONNECTIONS   close those of the tenant, or of one user of it
    SWEEP_SESSIONS      end persistent sessions: all, or those that are offline for so long
    SWEEP_RETAINED      remove retained messages: all, or those that are so old; on the tenant's home shard

Each goes on in bounded steps, one per turn, so that a tenant with a million sessions holds up nobody. Sessions leave a
map while it is walked, which may move others over the walk: it is walked again until a whole walk finds none to end.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.sessions.state cimport Tenant
from rookery.core.shards.state cimport Command, Shard
from rookery.core.topics.retained cimport RetainedWalk

cdef enum:
    SWEPT_PER_TURN = 4096     # places of a table that one step looks at
    SWEEP_BATCH = 256         # sessions or retained messages that one step ends

cdef enum SweepKind:
    SWEEP_CONNECTIONS = 1
    SWEEP_SESSIONS = 2
    SWEEP_RETAINED = 3

cdef enum:                    # what the commands of sweeps carry; number: seconds, 0 = all
    SWEEP_TENANT_ID = 0
    SWEEP_USER_ID = 1         # empty = every user
    SWEEP_REASON_STRING = 2   # of SWEEP_CONNECTIONS
    SWEEP_SERVER_REFERENCE = 3
    SWEEP_STRING_COUNT = 4


cdef struct Sweep:
    Sweep *next
    uint8_t kind              # SweepKind
    uint8_t has_ended_some    # in this walk over the sessions
    uint32_t cursor
    uint64_t count            # what it has ended so far
    Command *command          # owned: what is wanted, and who is told the count
    Tenant *tenant            # one user
    RetainedWalk *walk        # of SWEEP_RETAINED


# Takes over the command. The answer comes when the sweep is over; at once where the tenant is not known here.
cdef void sweep_begin(Shard *shard, Command *command, SweepKind kind) noexcept nogil
# One step of every sweep.
cdef void sweeps_step(Shard *shard) noexcept nogil
cdef bint sweeps_have_work(const Shard *shard) noexcept nogil
# For the end of the shard.
cdef void sweeps_clear(Shard *shard) noexcept nogil
