"""From bytes to packets: reading a ready connection, walking whole packets in place, keeping what is incomplete.

Reading little of who demands much. A read of 64 KiB may hold 3000 SUBSCRIBEs, or messages for a thousand subscribers
each: a hundred times the work of a read of plain messages, and everybody else waits for it. So what comes with a read
is weighed, in units of one delivery of a message. A connection that was demanding is read less of next time, so that a
read comes to EFFORT_PER_READ, and only READ_LEAST_SIZE when the turn has come to EFFORT_PER_TURN already: a turn with
fifty of them takes milliseconds, not a third of a second. Its client is held back by TCP; who sends plain messages pays
one branch per read.
"""

from rookery.core.shards.state cimport Connection


# The kernel says that there is something to read. The connection may be gone afterwards.
cdef void connection_readable(Connection *connection) noexcept nogil
# Look again at bytes that were kept while the connection waited; then, without a socket, read on.
cdef void connection_resume(Connection *connection) noexcept nogil
