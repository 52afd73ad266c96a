"""`GET /metrics`: what Prometheus gets."""

from contextlib import suppress
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from rookery.api.metric_table import METRICS, Metric
from rookery.core.pages import COUNTERS
from support.service import Service, service_with
from support.waiting import eventually


async def scrape(service: Service) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample by name and labels."""
    response = await service.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def of_tenant(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, tenant_id: str) -> float | None:
    return samples.get((name, frozenset({("tenantId", tenant_id)})))


async def test_tenant_is_told_with_the_meaning_of_bifromqs_meters(service: Service) -> None:
    async with (
        service.connect(client_id="reader", username="acme/bob", session_expiry_interval=60) as reader,
        service.connect(client_id="writer", username="acme/eve") as writer,
    ):
        await reader.subscribe("a", qos=1)
        await writer.publish("a", b"12345", qos=1)
        await reader.receive_message()
        await writer.publish("b", b"kept", qos=1, retain=True)
        samples = await scrape(service)
        expected = {
            "mqtt_connection_num_gauge": 2,
            "mqtt_psession_num_gauge": 1,
            "mqtt_psub_num_gauge": 1,
            "mqtt_tsub_num_gauge": 0,
            "mqtt_route_num_gauge": 1,
            "mqtt_retained_num_gauge": 1,
            "mqtt_connect_count_total": 2,
            "mqtt_disconnect_count_total": 0,
            "mqtt_psub_count_total": 1,
            "mqtt_ingress_qos1_bytes_count": 2,
            "mqtt_ingress_qos1_bytes_sum": 9,
            "mqtt_egress_qos1_bytes_count": 1,
            "mqtt_egress_qos1_bytes_sum": 5,
            "rookery_tenant_sessions": 2,
        }
        assert {name: of_tenant(samples, name, "acme") for name in expected} == expected
        received = of_tenant(samples, "mqtt_ingress_bytes_total", "acme")
        assert received is not None
        assert received > 20  # what came behind the CONNECTs


async def test_tenants_above_the_limit_are_summed_up_without_a_name() -> None:
    async with service_with(api={"metrics_tenants_limit": 2}) as service:
        clients = [service.connect(client_id="c", username=f"t{number}/bob") for number in range(5)]
        for client in clients:
            await client.__aenter__()
        samples = await scrape(service)
        rows = {
            dict(labels)["tenantId"]: value
            for (name, labels), value in samples.items()
            if name == "mqtt_connection_num_gauge"
        }
        assert len(rows) == 3
        assert rows[""] == 3
        assert sum(rows.values()) == 5
        assert of_tenant(samples, "mqtt_connect_count_total", "") == 3
        for client in clients:
            await client.__aexit__(None, None, None)


async def test_names_of_tenants_survive_the_text_form(service: Service) -> None:
    tenant_id = 'qu"ote\\back café'
    async with service.connect(client_id="c", username=f"{tenant_id}/bob"):
        assert of_tenant(await scrape(service), "mqtt_connection_num_gauge", tenant_id) == 1


async def test_shards_log_and_http_are_told(service: Service) -> None:
    await service.http.get("/healthz")
    await service.http.get("/nowhere/at/all")
    samples = await scrape(service)
    assert ("rookery_shard_turns_total", frozenset({("shard", "0")})) in samples
    assert samples["rookery_ready", frozenset()] == 1
    assert samples["rookery_http_connections", frozenset()] == 1
    healthy = frozenset({("method", "GET"), ("path", "/healthz"), ("status", "200")})
    assert samples["rookery_http_requests_total", healthy] == 1
    unknown = frozenset({("method", "(none)"), ("path", "(none)"), ("status", "404")})
    assert samples["rookery_http_requests_total", unknown] == 1
    assert "process_resident_memory_bytes" in {name for name, _ in samples}


async def test_durable_log_is_told_where_there_is_one(tmp_path: Path) -> None:
    async with service_with(data={"dir": str(tmp_path)}) as service:
        async with service.connect(client_id="c", username="acme/bob", session_expiry_interval=60) as client:
            await client.subscribe("a", qos=1)
        samples = await scrape(service)
        assert samples["rookery_log_segments", frozenset()] >= 1
        assert samples["rookery_log_commits_total", frozenset()] >= 1
        assert samples["rookery_log_failing", frozenset()] == 0


async def test_what_callers_ask_for_makes_no_series(service: Service) -> None:
    for number in range(20):
        await service.http.request(f"M{number}", f"/path{number}")
    samples = await scrape(service)
    assert len([name for name, _ in samples if name == "rookery_http_requests_total"]) == 1


async def test_openmetrics_is_spoken_where_it_is_asked_for(service: Service) -> None:
    response = await service.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def row_of(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    return f"| `{metric.exposed_name}` | {metric.kind} | {labels} | {metric.meaning} |"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_page_of_metrics_has_every_row(metric: Metric, pytestconfig: pytest.Config) -> None:
    page = (Path(pytestconfig.rootpath) / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines()
    assert row_of(metric) in page


def test_page_of_metrics_has_no_row_that_the_code_has_not(pytestconfig: pytest.Config) -> None:
    page = (Path(pytestconfig.rootpath) / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in page if line.startswith(("| `mqtt_", "| `rookery_"))]
    assert sorted(rows) == sorted(map(row_of, METRICS))


async def test_every_metric_that_needs_no_plugin_and_listener_is_told(tmp_path: Path) -> None:
    async with (
        service_with(data={"dir": str(tmp_path)}) as service,
        service.connect(client_id="c", username="acme/bob"),
    ):
        await service.http.get("/healthz")
        names = {name for name, _ in await scrape(service)}
    endings = {"counter": "_total", "gauge": "", "summary": "_count", "histogram": "_count"}
    wanted = {
        metric.name + endings[metric.kind]
        for metric in METRICS
        if not metric.name.startswith(("rookery_plugin_", "rookery_listener_"))
    }
    assert wanted - names == set()


def test_every_counter_of_a_tenant_is_told() -> None:
    sources = {metric.source for metric in METRICS}
    summed = {f"{name}{size}_qos{qos}" for name in ("received", "sent") for size in ("", "_bytes") for qos in (0, 1, 2)}
    assert set(COUNTERS) <= sources | summed


async def test_connections_that_limits_refuse_are_told_by_listener_and_reason() -> None:
    async with service_with(connections={"limit": 1}) as service, service.connect(client_id="only", username="a/b"):
        mqtt = service.broker.mqtt_address
        async with await trio.open_tcp_stream(mqtt.host, mqtt.port) as second:
            assert await second.receive_some() == b""
        samples = await scrape(service)
        assert samples["rookery_listener_connections", frozenset({("listener", "mqtt")})] == 1
        refused = {
            dict(labels)["reason"]: value
            for (name, labels), value in samples.items()
            if name == "rookery_listener_refused_total"
        }
        assert refused.pop("limit") == 1
        assert set(refused.values()) == {0}


async def test_strangers_are_told() -> None:
    async with service_with(connections={"timeout_s": 0.05}) as service:
        mqtt = service.broker.mqtt_address
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b""):
            async with await trio.open_tcp_stream(mqtt.host, mqtt.port) as stream:
                with suppress(trio.BrokenResourceError):
                    if sent:
                        await stream.send_all(sent)
                    while await stream.receive_some():
                        pass
        strangers = service.broker.strangers
        await eventually(lambda: (strangers.failed_count, strangers.timed_out_count) == (1, 1))
        samples = await scrape(service)
        assert samples["rookery_strangers_failed_total", frozenset()] == 1
        assert samples["rookery_strangers_timed_out_total", frozenset()] == 1
        assert samples["rookery_strangers_untold_total", frozenset()] == 0
