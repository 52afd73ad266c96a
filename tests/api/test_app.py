"""What all resources have in common: paths, methods, req_id, errors, the limit of requests in work; and health."""

import httpx
import pytest
import trio

from rookery.server.errors import BrokerBusy, BrokerDiskFull, BrokerLate, BrokerNotDurable, BrokerStopping
from support.service import Service, service_with


async def test_health_and_readiness_are_said_as_json(service: Service) -> None:
    health, ready = await service.http.get("/healthz"), await service.http.get("/readyz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})


async def test_stopping_broker_is_alive_but_not_ready(service: Service) -> None:
    service.broker.begin_stop()
    ready = await service.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "reasons": ["stopping"]})
    assert (await service.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/pub/", "/pubs", "/PUB", "/static/x", "/%2e%2e/etc/passwd", "/a%00b"])
async def test_unknown_path_is_not_found(service: Service, method: str, path: str) -> None:
    response = await service.http.request(method, path, headers={"req_id": "5"})
    assert (response.status_code, response.text) == (404, "no such path")
    assert response.headers["content-type"] == "text/plain; charset=UTF-8"
    assert response.headers["req_id"] == "5"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/pub", {"POST"}),
        ("PUT", "/pub", {"POST"}),
        ("OPTIONS", "/pub", {"POST"}),
        ("POST", "/session", {"GET", "HEAD", "DELETE"}),
        ("TRACE", "/session", {"GET", "HEAD", "DELETE"}),
        ("BREW", "/healthz", {"GET", "HEAD"}),
        ("POST", "/readyz", {"GET", "HEAD"}),
    ],
)
async def test_wrong_method_is_told_the_right_ones(service: Service, method: str, path: str, allowed: set[str]) -> None:
    response = await service.http.request(method, path)
    assert (response.status_code, response.text) == (405, "method not allowed")
    assert set(response.headers["allow"].split(", ")) == allowed
    assert int(response.headers["req_id"])


async def test_head_is_get_without_the_body(service: Service) -> None:
    response = await service.http.head("/healthz")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (BrokerBusy(), 400, "BACK_PRESSURE_REJECTED"),
        (BrokerLate(), 500, "TRY_LATER"),
        (BrokerStopping(), 503, "TRY_LATER"),
        (BrokerNotDurable("the disk fails"), 503, "the disk fails"),
        (BrokerDiskFull("the disk is full"), 507, "the disk is full"),
        (RuntimeError("the secret is hunter2"), 500, "internal error"),
    ],
)
async def test_error_of_a_call_has_its_status_and_tells_nothing_else(
    service: Service, error: Exception, status: int, text: str
) -> None:
    @service.app.get("/broken")
    async def broken() -> str:
        raise error

    response = await service.http.get("/broken", headers={"req_id": "5"})
    assert (response.status_code, response.text, response.headers["req_id"]) == (status, text, "5")


async def test_requests_beyond_the_limit_are_told_to_come_back_and_health_is_still_answered() -> None:
    async with service_with(api={"requests_in_work_limit": 2}) as service, trio.open_nursery() as nursery:
        in_work, go_on = trio.open_memory_channel[None](2), trio.Event()

        @service.app.get("/slow")
        async def slow() -> str:
            await in_work[0].send(None)
            await go_on.wait()
            return "done"

        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await service.http.get("/slow"))

        for _ in range(2):
            nursery.start_soon(ask)
            await in_work[1].receive()
        refused = await service.http.get("/slow", headers={"req_id": "5"})
        assert (refused.status_code, refused.text) == (503, "too many requests in work")
        assert (refused.headers["retry-after"], refused.headers["req_id"]) == ("1", "5")
        for path in ("/healthz", "/readyz"):
            assert (await service.http.get(path)).status_code == 200
        go_on.set()
        with trio.fail_after(5):
            while len(answers) < 2:
                await trio.lowlevel.checkpoint()
        assert [answer.text for answer in answers] == ["done", "done"]
        assert (await service.http.get("/healthz")).status_code == 200
