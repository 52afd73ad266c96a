"""Returns: what a member of shared groups leaves behind goes to other members [MQTT5 4.8.2].

When a session ends, a group gets back what it gave to that session and what was not delivered:

    in the inbox                        back, whatever its QoS
    QoS 1, sent, no PUBACK              back: another member may see it a second time, which QoS 1 allows
    QoS 2, sent                         gone: no other member may get it [MQTT-4.8.2-5]
    refused by the client (PUBACK or PUBREC of 0x80 or more)
                                        gone [MQTT-4.8.2-6]; it is no longer in flight

A delivery knows its shared subscription by place (shared_place, 0 = not shared). What a client has got or will still
get when it only unsubscribes stays its own: its places are wiped then.
"""

from libc.stdint cimport uint32_t
from rookery.core.sessions.message cimport Message
from rookery.core.sessions.state cimport Membership, Session, SharedGroup, Tenant


cdef struct Return:
    Message *message          # one reference
    SharedGroup *group        # on this shard, with other members than the session; or NULL
    Membership *membership    # one reference, for a group on another shard; or NULL


cdef struct Returns:
    Return *items
    uint32_t count


# Before the session leaves its groups: what is to go back, in order. Without memory for the list nothing goes back,
# and all of it counts as dropped.
cdef void returns_collect(Session *session, Returns *returns) noexcept nogil
# After it has left them: to other members, or dropped where there is none.
cdef void returns_deliver(Tenant *tenant, Returns *returns) noexcept nogil
