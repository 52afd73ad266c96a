"""The kinds of records in the durable log by name, for people who look into it."""

from rookery.core.log.format cimport KIND_HOLE
from rookery.core.sessions.journal cimport (
    JOURNAL_ARRIVED, JOURNAL_CLEARED, JOURNAL_DROPPED, JOURNAL_ENDED, JOURNAL_MESSAGE, JOURNAL_QUEUED, JOURNAL_RECEIVED,
    JOURNAL_RELEASED, JOURNAL_RETAINED, JOURNAL_SENT, JOURNAL_SESSION, JOURNAL_SETTLED, JOURNAL_SUBSCRIBED,
    JOURNAL_TAKEN, JOURNAL_UNSUBSCRIBED, JOURNAL_WILL, JOURNAL_WILL_GONE, JOURNAL_WILL_SENT, JOURNAL_WILL_SPREAD,
)

JOURNAL_KINDS = {
    JOURNAL_SESSION: "session",
    JOURNAL_ENDED: "ended",
    JOURNAL_SUBSCRIBED: "subscribed",
    JOURNAL_UNSUBSCRIBED: "unsubscribed",
    JOURNAL_MESSAGE: "message",
    JOURNAL_QUEUED: "queued",
    JOURNAL_SENT: "sent",
    JOURNAL_DROPPED: "dropped",
    JOURNAL_RECEIVED: "received",
    JOURNAL_SETTLED: "settled",
    JOURNAL_TAKEN: "taken",
    JOURNAL_RELEASED: "released",
    JOURNAL_WILL: "will",
    JOURNAL_WILL_GONE: "will_gone",
    JOURNAL_RETAINED: "retained",
    JOURNAL_CLEARED: "cleared",
    JOURNAL_ARRIVED: "arrived",
    JOURNAL_WILL_SENT: "will_sent",
    JOURNAL_WILL_SPREAD: "will_spread",
    KIND_HOLE: "hole",
}
