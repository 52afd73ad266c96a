"""Every metric of `GET /metrics`, one line each. docs/metrics.md has the same lines, and a test sees to it.

Those of tenants have the names that BifroMQ's meters get in Prometheus, and their meaning; ours begin with `rookery_`.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "summary", "histogram"]

TENANT = ("tenantId",)  # as BifroMQ's meters are tagged
SHARD = ("shard",)
LISTENER = ("listener",)
REFUSAL = ("listener", "reason")
PLUGIN = ("plugin",)
REQUEST = ("method", "path", "status")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str  # without the endings that Prometheus adds
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    source: str = ""  # what it is read from, where the code that reads it goes by name

    @property
    def exposed_name(self) -> str:
        """As it is in the text: counters end in _total."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


# source: a name of core.quotas.TOTALS.
TENANT_USAGE = (
    Metric("mqtt_connection_num_gauge", "gauge", "connections", TENANT, "TotalConnections"),
    Metric("mqtt_session_mem_gauge", "gauge", "bytes of memory of all sessions", TENANT, "TotalSessionMemoryBytes"),
    Metric("mqtt_psession_num_gauge", "gauge", "persistent sessions", TENANT, "TotalPersistentSessions"),
    Metric(
        "mqtt_psession_space_gauge", "gauge", "bytes of persistent sessions", TENANT, "TotalPersistentSessionSpaceBytes"
    ),
    Metric(
        "mqtt_tsub_num_gauge", "gauge", "subscriptions of transient sessions", TENANT, "TotalTransientSubscriptions"
    ),
    Metric(
        "mqtt_psub_num_gauge", "gauge", "subscriptions of persistent sessions", TENANT, "TotalPersistentSubscriptions"
    ),
    Metric("mqtt_shared_sub_num_gauge", "gauge", "shared subscriptions", TENANT, "TotalSharedSubscriptions"),
    Metric("mqtt_retained_num_gauge", "gauge", "topics with a retained message", TENANT, "TotalRetainTopics"),
    Metric("mqtt_retain_space_gauge", "gauge", "bytes of retained messages", TENANT, "TotalRetainMessageSpaceBytes"),
)
TENANT_ROUTES = Metric("mqtt_route_num_gauge", "gauge", "topic filters that somebody subscribes to, each once", TENANT)
TENANT_SESSIONS = Metric("rookery_tenant_sessions", "gauge", "sessions, online or not", TENANT)

# source: a name of core.pages.COUNTERS.
TENANT_COUNTERS = (
    Metric("mqtt_connect_count", "counter", "clients that were let in", TENANT, "connects"),
    Metric("mqtt_disconnect_count", "counter", "connections of such clients that ended", TENANT, "disconnects"),
    Metric("mqtt_tsub_count", "counter", "topic filters granted to transient sessions", TENANT, "transient_subscribes"),
    Metric(
        "mqtt_psub_count", "counter", "topic filters granted to persistent sessions", TENANT, "persistent_subscribes"
    ),
    Metric("mqtt_tunsub_count", "counter", "topic filters given up by them", TENANT, "transient_unsubscribes"),
    Metric("mqtt_punsub_count", "counter", "topic filters given up by them", TENANT, "persistent_unsubscribes"),
    Metric(
        "mqtt_retain_match_count", "counter", "retained messages sent to new subscriptions", TENANT, "retained_matched"
    ),
    Metric("mqtt_ingress_bytes", "counter", "bytes from clients, packets as a whole", TENANT, "bytes_received"),
    Metric("mqtt_egress_bytes", "counter", "bytes to clients, packets as a whole", TENANT, "bytes_sent"),
    Metric("rookery_tenant_messages_dropped", "counter", "deliveries that did not happen", TENANT, "messages_dropped"),
    Metric(
        "rookery_tenant_actions_denied",
        "counter",
        "publications, topic filters and wills that permission rules did not allow",
        TENANT,
        "actions_denied",
    ),
    Metric(
        "rookery_tenant_resources_throttled", "counter", "times that a quota was used up", TENANT, "resources_throttled"
    ),
    Metric(
        "rookery_tenant_connections_held",
        "counter",
        "times that a connection was held back for a rate of its own",
        TENANT,
        "connections_held",
    ),
)

# source: what stands before `_qos` and `_bytes_qos` in core.pages.COUNTERS.
TENANT_SUMMARIES = tuple(
    Metric(f"mqtt_{name}_qos{qos}_bytes", "summary", f"{meaning} of QoS {qos}: payloads", TENANT, f"{source}:{qos}")
    for name, meaning, source in (
        ("ingress", "publications of clients", "received"),
        ("egress", "PUBLISH packets to clients", "sent"),
    )
    for qos in (0, 1, 2)
)

# source: a field of ShardStatistics.
SHARD_FIGURES = (
    Metric("rookery_shard_connections", "gauge", "connections", SHARD, "connections"),
    Metric("rookery_shard_sessions", "gauge", "sessions, online or not", SHARD, "sessions"),
    Metric("rookery_shard_tenants", "gauge", "tenants that the shard knows", SHARD, "tenants"),
    Metric("rookery_shard_subscriptions", "gauge", "subscriptions", SHARD, "subscriptions"),
    Metric("rookery_shard_retained_messages", "gauge", "retained messages", SHARD, "retained_messages"),
    Metric("rookery_shard_messages_received", "counter", "publications of clients", SHARD, "messages_received"),
    Metric("rookery_shard_messages_sent", "counter", "PUBLISH packets to clients", SHARD, "messages_sent"),
    Metric("rookery_shard_messages_dropped", "counter", "deliveries that did not happen", SHARD, "messages_dropped"),
    Metric("rookery_shard_received_bytes", "counter", "bytes from clients", SHARD, "bytes_received"),
    Metric("rookery_shard_sent_bytes", "counter", "bytes to clients", SHARD, "bytes_sent"),
    Metric("rookery_shard_turns", "counter", "rounds of its loop", SHARD, "turns"),
    Metric(
        "rookery_shard_verdicts_recalled",
        "counter",
        "clients that it let in without asking, as others before them",
        SHARD,
        "verdicts_recalled",
    ),
    Metric("rookery_shard_cached_topics", "gauge", "topics in the match cache", SHARD, "cached_topics"),
    Metric("rookery_shard_spare_bytes", "gauge", "buffers that no connection needs", SHARD, "spare_bytes"),
)

# source: a field of EntranceCounts.
LISTENER_FIGURES = (
    Metric("rookery_listener_admitted", "counter", "connections given to a shard", LISTENER, "admitted"),
    Metric("rookery_listener_failed", "counter", "handshakes and upgrades that failed", LISTENER, "failed"),
    Metric(
        "rookery_listener_turned_away",
        "counter",
        "connections closed because too many handshakes were under way",
        LISTENER,
        "turned_away",
    ),
)
LISTENER_IN_WORK = Metric("rookery_listener_handshakes", "gauge", "handshakes and upgrades under way", LISTENER)
# Where limits of connections are set; the reasons are those of rookery.server.gate.
LISTENER_OPEN = Metric("rookery_listener_connections", "gauge", "connections, where any limit is set", LISTENER)
LISTENER_REFUSED = Metric(
    "rookery_listener_refused", "counter", "connections closed at once because a limit was reached", REFUSAL
)

# source: an attribute of Strangers.
STRANGER_FIGURES = (
    Metric(
        "rookery_strangers_failed",
        "counter",
        "connections whose first packet was no CONNECT that could be answered",
        source="failed_count",
    ),
    Metric("rookery_strangers_timed_out", "counter", "connections without a CONNECT in time", source="timed_out_count"),
    Metric(
        "rookery_strangers_untold",
        "counter",
        "of both, those without a line in the log, in a flood; in neither of the other two",
        source="untold_count",
    ),
)

# source: a field of LogState; microseconds become seconds.
LOG_FIGURES = (
    Metric("rookery_log_bytes", "gauge", "size of the durable log", source="total_bytes"),
    Metric("rookery_log_segments", "gauge", "its files", source="segments"),
    Metric("rookery_log_backlog_bytes", "gauge", "what waits to be written", source="backlog_bytes"),
    Metric("rookery_log_commits", "counter", "commits", source="commits"),
    Metric("rookery_log_syncs", "counter", "syncs to the disk", source="syncs"),
    Metric("rookery_log_sync_failures", "counter", "syncs that failed", source="sync_failures"),
    Metric("rookery_log_failures", "counter", "writes and syncs that failed", source="failures"),
    Metric("rookery_log_sync_seconds", "counter", "time that syncs took", source="sync_us"),
    Metric("rookery_log_last_sync_seconds", "gauge", "time that the last sync took", source="last_sync_us"),
)
LOG_FAILING = Metric("rookery_log_failing", "gauge", "1 while the log cannot be written, else 0")

# source: a field of PluginCounters.
PLUGIN_FIGURES = (
    Metric("rookery_plugin_calls", "counter", "calls", PLUGIN, "calls"),
    Metric("rookery_plugin_failures", "counter", "calls that raised", PLUGIN, "failures"),
    Metric("rookery_plugin_timeouts", "counter", "calls that took too long", PLUGIN, "timeouts"),
    Metric("rookery_plugin_rejected", "counter", "calls not made: the breaker was open", PLUGIN, "rejected"),
    Metric("rookery_plugin_busy_seconds", "counter", "time that callers waited", PLUGIN, "busy_s"),
)
PLUGIN_OPEN = Metric("rookery_plugin_breaker_open", "gauge", "1 while the plugin is not called, else 0", PLUGIN)
PLUGIN_DROPPED = Metric("rookery_plugin_events_dropped", "counter", "events that its collector had no room for", PLUGIN)

EVENTS_LOST = Metric("rookery_events_lost", "counter", "events that shards had no room for")
READY = Metric("rookery_ready", "gauge", "1 when clients should be sent here, as GET /readyz says, else 0")

# source: an attribute of HttpServer.
HTTP_FIGURES = (
    Metric("rookery_http_connections", "gauge", "open HTTP connections", source="connection_count"),
    Metric("rookery_http_connections_refused", "counter", "those above api.connections_limit", source="refused_count"),
    Metric("rookery_http_handshakes_failed", "counter", "TLS handshakes that failed", source="failed_handshake_count"),
    Metric("rookery_http_connections_failed", "counter", "those that ended by an error of ours", source="failed_count"),
    Metric("rookery_http_restarts", "counter", "times that the HTTP server began anew", source="restart_count"),
)
HTTP_REQUESTS = Metric("rookery_http_requests", "counter", "requests that were answered", REQUEST)
HTTP_SECONDS = Metric("rookery_http_request_seconds", "histogram", "time to the answer", ("path",))

METRICS = (
    *TENANT_USAGE,
    TENANT_ROUTES,
    TENANT_SESSIONS,
    *TENANT_COUNTERS,
    *TENANT_SUMMARIES,
    *SHARD_FIGURES,
    *LISTENER_FIGURES,
    LISTENER_IN_WORK,
    LISTENER_OPEN,
    LISTENER_REFUSED,
    *STRANGER_FIGURES,
    *LOG_FIGURES,
    LOG_FAILING,
    *PLUGIN_FIGURES,
    PLUGIN_OPEN,
    PLUGIN_DROPPED,
    EVENTS_LOST,
    READY,
    *HTTP_FIGURES,
    HTTP_REQUESTS,
    HTTP_SECONDS,
)
