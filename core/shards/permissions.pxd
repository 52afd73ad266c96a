"""Rules that come into force: at CONNECT, and by commands for sessions that exist.

A set of rules may be that of a million sessions. When sets are replaced, one walk over the sessions with rules gives
each the set that is in force now, in bounded steps, one per turn; a session that has not been reached yet keeps the old
rules for that long, new ones have those in force. What is replaced during a walk is seen by one more walk, however many
sets that are.
"""

from rookery.core.permissions.rule_set cimport RuleSet
from rookery.core.sessions.state cimport Session
from rookery.core.shards.state cimport Command, Shard

cdef enum:
    WALKED_PER_TURN = 1024     # sessions that one step looks at
    REVIEWED_PER_TURN = 4096   # subscriptions and waiting messages after which it leaves the next session for later


# From now on these rules hold for the session (NULL = none): takes over the reference. Subscriptions that they do not
# allow end, with the retained messages that are still to come of them; others keep at most the QoS that they allow.
# Waiting messages on topics that the client may not read any more are dropped.
cdef void permissions_put_in_force(Shard *shard, Session *session, RuleSet *rules) noexcept nogil
# COMMAND_SET_PERMISSIONS: for one session.
cdef void permissions_set(Shard *shard, Session *session, Command *command) noexcept nogil
# COMMAND_REPLACE_PERMISSIONS: for all whose rules have a successor.
cdef void permissions_replace(Shard *shard) noexcept nogil
# One step of the walk.
cdef void permissions_step(Shard *shard) noexcept nogil
