"""`GET /metrics`: the figures of the broker for Prometheus.

Figures are gathered when they are asked for; nothing is kept between two scrapes but what requests counted. So many
tenants have series of their own (api.metrics_tenants_limit); all others are summed up under an empty tenantId, which
no tenant has, so that the sum over all series is right and a crowd of tenants cannot flood Prometheus.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import trio
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from quart import Blueprint, Response, current_app, request

from rookery.core.events import ShardStatistics
from rookery.core.log.durable_log import LogState
from rookery.core.pages import COUNTERS, NO_FIGURES, TenantFigures, TenantUsage
from rookery.core.quotas import TOTALS
from rookery.server.broker import Broker

from .metric_table import (
    EVENTS_LOST,
    HTTP_FIGURES,
    LISTENER_FIGURES,
    LISTENER_IN_WORK,
    LISTENER_OPEN,
    LISTENER_REFUSED,
    LOG_FAILING,
    LOG_FIGURES,
    PLUGIN_DROPPED,
    PLUGIN_FIGURES,
    PLUGIN_OPEN,
    READY,
    SHARD_FIGURES,
    STRANGER_FIGURES,
    TENANT_COUNTERS,
    TENANT_ROUTES,
    TENANT_SESSIONS,
    TENANT_SUMMARIES,
    TENANT_USAGE,
    Metric,
)
from .request_figures import REQUEST_FIGURES
from .rights import Right, needs

TENANTS_AT_ONCE = 1000  # told by the shards in one command

_FAMILIES: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
_OTHERS = ""  # tenantId of the sum of those without series of their own


def create_metrics(broker: Broker, tenants_limit: int) -> Blueprint:
    """The resource."""
    resource = Blueprint("metrics", __name__)

    @resource.get("/metrics")
    @needs(Right.READ)
    async def metrics() -> Response:
        """All metrics in the text form of Prometheus, or that of OpenMetrics where it is asked for."""
        figures = await gather(broker, current_app.extensions.get("http_server"), tenants_limit)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        registry = CollectorRegistry()
        registry.register(_Figures(figures))
        registry.register(current_app.extensions[REQUEST_FIGURES])
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        # A thousand tenants are 40 000 lines: other tasks go on meanwhile.
        return Response(await trio.to_thread.run_sync(encode, registry), content_type=content_type)

    return resource


@dataclass
class TenantRow:
    """What is told of one tenant, or of all without series of their own."""

    tenant_id: str
    usage: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0))
    topic_filters: int = 0
    figures: TenantFigures = NO_FIGURES


@dataclass
class BrokerFigures:
    """All that is told in one scrape."""

    broker: Broker
    http_server: Any  # None where there is none
    tenants: list[TenantRow]
    shards: tuple[ShardStatistics, ...]
    log: LogState | None
    is_ready: bool


async def gather(broker: Broker, http_server: Any, tenants_limit: int) -> BrokerFigures:
    """Ask for everything. Raises what calls of the broker raise."""
    return BrokerFigures(
        broker,
        http_server,
        await _gather_tenants(broker, tenants_limit),
        await broker.statistics(),
        broker.data.state(),
        not await broker.unready_reasons(),
    )


async def _gather_tenants(broker: Broker, limit: int) -> list[TenantRow]:
    shown: list[TenantRow] = []
    others = TenantRow(_OTHERS)
    has_others = False
    async for tenant in _all_tenants(broker):
        if len(shown) < limit:
            shown.append(TenantRow(tenant.tenant_id, dict(tenant.usage), tenant.topic_filters))
        else:
            has_others = True
            others.topic_filters += tenant.topic_filters
            for name, amount in tenant.usage.items():
                others.usage[name] += amount
    total = told = NO_FIGURES
    for first in range(0, max(len(shown), 1), TENANTS_AT_ONCE):
        part = shown[first : first + TENANTS_AT_ONCE]
        total, figures = await broker.inventory.figures([row.tenant_id for row in part])
        for row, counted in zip(part, figures, strict=True):
            row.figures = counted
            told += counted
    # Those of tenants that have gone meanwhile are part of the rest, too. Clients do not wait for us: never below 0.
    others.figures = TenantFigures(
        max(0, total.sessions - told.sessions),
        max(0, total.retained_messages - told.retained_messages),
        tuple(max(0, all_of - mine) for all_of, mine in zip(total.counters, told.counters, strict=True)),
    )
    return [*shown, others] if has_others or any(others.figures.counters) else shown


async def _all_tenants(broker: Broker) -> AsyncIterator[TenantUsage]:
    place = b""
    while True:
        page = broker.inventory.tenants(place=place, limit=TENANTS_AT_ONCE)
        for tenant in page.rows:
            yield tenant
        place = page.place
        if not place:
            return
        await trio.lowlevel.checkpoint()


class _Figures(Collector):
    """BrokerFigures as families of metrics."""

    def __init__(self, figures: BrokerFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Family]:
        figures = self._figures
        yield from _tenant_families(figures.tenants)
        for metric in SHARD_FIGURES:
            yield _family(metric, ((str(shard.shard), getattr(shard, metric.source)) for shard in figures.shards))
        entrances = figures.broker.entrances
        for metric in LISTENER_FIGURES:
            yield _family(metric, ((name, getattr(each.counts, metric.source)) for name, each in entrances.items()))
        yield _family(LISTENER_IN_WORK, ((name, each.in_work_count) for name, each in entrances.items()))
        gates = figures.broker.gate.counts()
        yield _family(LISTENER_OPEN, ((name, counts.connections) for name, counts in gates.items()))
        refusals = ((name, reason, n) for name, counts in gates.items() for reason, n in counts.refused.items())
        yield _family(LISTENER_REFUSED, refusals)
        for metric in STRANGER_FIGURES:
            yield _family(metric, [(getattr(figures.broker.strangers, metric.source),)])
        if figures.log is not None:
            for metric in LOG_FIGURES:
                value = getattr(figures.log, metric.source)
                yield _family(metric, [(value / 1e6 if metric.source.endswith("_us") else value,)])
            yield _family(LOG_FAILING, [(figures.log.error != 0,)])
        plugins = figures.broker.plugins.states
        for metric in PLUGIN_FIGURES:
            yield _family(metric, ((plugin.name, getattr(plugin.counters, metric.source)) for plugin in plugins))
        yield _family(PLUGIN_OPEN, ((plugin.name, plugin.is_open) for plugin in plugins))
        yield _family(PLUGIN_DROPPED, ((plugin.name, plugin.events_dropped) for plugin in plugins))
        yield _family(EVENTS_LOST, [(figures.broker.events.lost_count,)])
        yield _family(READY, [(figures.is_ready,)])
        if figures.http_server is not None:
            for metric in HTTP_FIGURES:
                yield _family(metric, [(getattr(figures.http_server, metric.source),)])


def _family(metric: Metric, rows: Iterable[tuple[Any, ...]]) -> Family:
    """Rows are values of the labels, then the value."""
    family: Family = _FAMILIES[metric.kind](metric.name, metric.meaning, labels=metric.labels)
    for *labels, value in rows:
        family.add_metric(labels, float(value))  # type: ignore[attr-defined]  # both kinds have it
    return family


def _tenant_families(tenants: list[TenantRow]) -> Iterator[Family]:
    for metric in TENANT_USAGE:
        yield _family(metric, ((row.tenant_id, row.usage[metric.source]) for row in tenants))
    yield _family(TENANT_ROUTES, ((row.tenant_id, row.topic_filters) for row in tenants))
    yield _family(TENANT_SESSIONS, ((row.tenant_id, row.figures.sessions) for row in tenants))
    for metric in TENANT_COUNTERS:
        place = COUNTERS.index(metric.source)
        yield _family(metric, ((row.tenant_id, row.figures.counters[place]) for row in tenants))
    for metric in TENANT_SUMMARIES:
        name, _, qos = metric.source.partition(":")
        count, size = COUNTERS.index(f"{name}_qos{qos}"), COUNTERS.index(f"{name}_bytes_qos{qos}")
        family = SummaryMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for row in tenants:
            counters = row.figures.counters
            family.add_metric([row.tenant_id], count_value=counters[count], sum_value=counters[size])
        yield family
