"""Rules that come into force: at CONNECT, and by commands for sessions that exist."""

from rookery.core.permissions.rule_set cimport RuleSet
from rookery.core.sessions.state cimport Session
from rookery.core.shards.state cimport Command, Shard


# From now on these rules hold for the session (NULL = none): takes over the reference. Subscriptions that they do not
# allow end, with the retained messages that are still to come of them; others keep at most the QoS that they allow.
# Waiting messages on topics that the client may not read any more are dropped.
cdef void permissions_put_in_force(Shard *shard, Session *session, RuleSet *rules) noexcept nogil
# COMMAND_SET_PERMISSIONS: for one session. COMMAND_REPLACE_PERMISSIONS: for all that have command.replaced_rules.
cdef void permissions_set(Shard *shard, Session *session, Command *command) noexcept nogil
cdef void permissions_replace(Shard *shard, Command *command) noexcept nogil
