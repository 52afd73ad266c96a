"""Pages: what a shard has of tenants, sessions, subscriptions and messages, told piece by piece.

    COMMAND_TELL_TENANTS        the counters of all tenants together, then those of the tenants that are named
    COMMAND_LIST_SESSIONS       sessions of a tenant, or of one user of it; all or those that are online
    COMMAND_LIST_SUBSCRIPTIONS  subscriptions of these sessions, or of one session
    COMMAND_LIST_RETAINED       retained messages that a topic filter matches, on the tenant's home shard
    COMMAND_LIST_INBOX          messages that wait for one session, the oldest first
    COMMAND_LIST_INFLIGHT       messages that were sent to one session and not yet acknowledged, the oldest first
    COMMAND_LIST_MATCHES        topic filters of a tenant that match a topic, and who on this shard wants them

Each is answered by one EVENT_PAGE with rows and the cursor of the next page; between two pages nothing is kept here.
A page is bounded by rows, by bytes and by what is looked at, so that a tenant with a million sessions holds up nobody;
one that finds little may be empty and still have a next page.

Cursors. Sessions: the home place of their map where the walk goes on, and the first session of it to be told. Retained
messages: where the walk over the tree rests. Both are bytes; what is there throughout comes at least once. The
subscriptions of one session and its inbox: a number.

A row is numbers of 64 bits, then byte strings with 32 bits of length before each, in the machine's byte order.
"""

from libc.stdint cimport uint64_t
from rookery.core.shards.state cimport Command, Shard

cdef enum PageLimit:
    PAGE_ROWS_MAXIMUM = 1000
    PAGE_BYTES = 1048576       # a page that is larger ends; one row may be larger by itself
    PAGE_LOOKED_AT = 4096      # sessions, or nodes of the retained tree

cdef enum:                     # what the commands carry as strings
    PAGE_TENANT_ID = 0         # COMMAND_TELL_TENANTS: ids, each with 32 bits of length before it
    PAGE_USER_ID = 1           # empty = every user
    PAGE_CLIENT_ID = 2
    PAGE_TOPIC = 3             # topic filter or topic
    PAGE_AFTER = 4             # the cursor where it is bytes; empty = from the beginning
    PAGE_STRING_COUNT = 5

cdef enum PageFlag:            # Command.flag
    PAGE_ONLINE_ONLY = 1
    PAGE_ONE_SESSION = 2       # user and client name it; else all of the tenant or the user

cdef enum:                     # numbers of EVENT_PAGE
    PAGE_KIND = 0              # the command's
    PAGE_ROW_COUNT = 1
    PAGE_NEXT = 2              # the cursor of the next page where it is a number; 0 = this is the last
    PAGE_IS_FOUND = 3          # tenant, and session where one is named
    # Of COMMAND_LIST_MATCHES; 0 without a session. The Verdict about publishing, that about subscribing, in front of
    # both whether there are rules; 1 + the places of the rules that decided, 0 = none; which RuleSet it was.
    PAGE_HAS_RULES = 4
    PAGE_MAY_PUBLISH = 5
    PAGE_MAY_SUBSCRIBE = 6
    PAGE_PUBLISH_RULE = 7
    PAGE_SUBSCRIBE_RULE = 8
    PAGE_RULES = 9

# Command.number: the cursor where it is a number. Command.listener_id: rows at most. Command.descriptor: bytes of a
# payload at most.
cdef void page_tell(Shard *shard, Command *command) noexcept nogil
