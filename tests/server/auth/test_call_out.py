"""A service that is asked over HTTP: what it decides, what is remembered, and that its failures let nobody in."""

import base64
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trustme
from pydantic import ValidationError

from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.call_out import FAILURES_IN_A_ROW, CallOut, CallOutFailed, Document, open_call_out
from rookery.server.auth.fetching import FetchError
from support.document_server import Answer, Asked, DocumentServer, serve_documents
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect, make_config
from support.packets import Disconnect

OK = {"result": "ok", "tenant_id": "acme", "user_id": "bob"}


def json_answer(answer: object) -> Callable[[Asked], Answer]:
    return lambda asked: (200, json.dumps(answer).encode())


@pytest.fixture
def service() -> Iterator[DocumentServer]:
    """Lets everybody in as bob of acme, until the test says otherwise."""
    with serve_documents(json_answer(OK)) as server:
        yield server


def sections(service: DocumentServer, **section: Any) -> dict[str, Any]:
    return {"authentication": {"chain": ["call-out"]}, "call_out": {"url": f"{service.url}/authenticate", **section}}


async def answer_to(broker: Any, *, version: int = 5, **fields: Any) -> tuple[int, str | None]:
    """Reason code and reason string of CONNACK."""
    try:
        async with connect(broker, client_id="c", version=version, **fields):
            return 0, None
    except ConnectionRefused as refused:
        return refused.connack.reason_code, refused.connack.reason_string


# What is asked and answered.


async def test_service_is_told_of_the_client_and_says_who_it_is(service: DocumentServer) -> None:
    service.answer = json_answer({**OK, "attributes": {"site": "b1"}})
    async with (
        broker_with(**sections(service, authorization="Bearer of-ours")) as broker,
        connect(broker, client_id="c", username="some body", password="pass ü".encode()),
    ):
        session = await broker.sessions.find("acme", "bob", "c")
    assert session is not None
    assert json.loads(session.attributes) == {"site": "b1"}
    (asked,) = service.asked
    assert (asked.method, asked.path, asked.headers["authorization"]) == ("POST", "/authenticate", "Bearer of-ours")
    assert json.loads(asked.body) == {
        "client_id": "c",
        "username": "some body",
        "password": "pass ü",
        "address": "127.0.0.1",
        "protocol_version": 5,
        "clean_start": True,
        "listener_id": 0,
    }


async def test_password_that_is_no_text_arrives_in_base64(service: DocumentServer) -> None:
    async with broker_with(**sections(service)) as broker:
        await answer_to(broker, username="u", password=b"\xff\0")
        await answer_to(broker)
    asked = [json.loads(asked.body) for asked in service.asked]
    assert (asked[0]["password"], base64.b64decode(asked[0]["password_base64"])) == (None, b"\xff\0")
    assert (asked[1]["username"], asked[1]["password"], "password_base64" in asked[1]) == (None, None, False)


@pytest.mark.parametrize(
    ("answer", "code", "reason", "code_of_3"),
    [
        ({"result": "bad_credentials"}, 0x86, "wrong user name or password", 4),
        ({"result": "not_authorized", "reason_string": "unpaid"}, 0x87, "unpaid", 5),
        ({"result": "banned"}, 0x8A, "banned", 5),
        ({"result": "error"}, 0x80, "authentication failed", 3),
        ({"result": "not_mine"}, 0x86, "wrong user name or password", 4),
    ],
)
async def test_refusal_is_told_to_the_client(
    service: DocumentServer, answer: object, code: int, reason: str, code_of_3: int
) -> None:
    service.answer = json_answer(answer)
    async with broker_with(**sections(service)) as broker:
        assert await answer_to(broker, username="u") == (code, reason)
        assert (await answer_to(broker, username="u", version=4))[0] == code_of_3


async def test_whom_the_service_does_not_know_the_next_of_the_chain_may(service: DocumentServer) -> None:
    service.answer = json_answer({"result": "not_mine"})
    chain = {**sections(service), "authentication": {"chain": ["call-out", "users"]}}
    async with broker_with(**chain) as broker:
        await broker.users.put("acme", "eve", password="right")
        assert (await answer_to(broker, username="acme/eve", password=b"right"))[0] == 0
        service.answer = json_answer({"result": "bad_credentials"})
        assert (await answer_to(broker, username="acme/eve", password=b"right"))[0] == 0x86


async def test_rules_of_the_answer_hold_for_the_client(service: DocumentServer) -> None:
    service.answer = json_answer({**OK, "rules": [{"effect": "allow", "action": "all", "filter": "dev/%c/#"}]})
    async with broker_with(**sections(service)) as broker, connect(broker, client_id="c") as client:
        assert (await client.subscribe("dev/c/#", "#")).reason_codes == (0, 0x87)


async def test_connection_ends_when_the_service_said_also_for_a_remembered_answer(service: DocumentServer) -> None:
    service.answer = json_answer({**OK, "expires_in_s": 0.5})
    async with broker_with(**sections(service)) as broker:
        began = time.monotonic()
        async with connect(broker, client_id="c"), connect(broker, client_id="c", clean_start=True) as second:
            farewell = await second.receive()
        assert isinstance(farewell, Disconnect)
        assert farewell.reason_code == ReasonCode.MAXIMUM_CONNECT_TIME
        assert time.monotonic() - began >= 0.4
        assert len(service.asked) == 1


async def test_user_properties_and_reason_string_reach_the_client(service: DocumentServer) -> None:
    service.answer = json_answer({**OK, "reason_string": "hello", "user_properties": [["a", "1"], ["a", "2"]]})
    async with broker_with(**sections(service)) as broker, connect(broker, client_id="c") as client:
        assert client.connack is not None
        assert client.connack.reason_string == "hello"
        assert client.connack.user_properties == (("a", "1"), ("a", "2"))


# Failures.


@pytest.mark.parametrize(
    "answer",
    [
        (500, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob"}'),
        (204, b""),
        (302, b""),
        (401, b""),
        (200, b""),
        (200, b"ok"),
        (200, b'"ok"'),
        (200, b"[]"),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (200, b"{}"),
        (200, b'{"result": true}'),
        (200, b'{"result": "OK", "tenant_id": "acme", "user_id": "bob"}'),
        (200, b'{"result": "ok"}'),
        (200, b'{"result": "ok", "tenant_id": "acme"}'),
        (200, b'{"result": "ok", "tenant_id": "", "user_id": "bob"}'),
        (200, b'{"result": "ok", "tenant_id": 1, "user_id": "bob"}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "attributes": [1]}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "attributes": {"a": 1}}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "rules": "all"}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "rules": [{"effect": "alow"}]}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "expires_in_s": "soon"}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "expires_in_s": -1}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "expires_in_s": Infinity}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "user_properties": {"a": "b"}}'),
        (200, b'{"result": "ok", "tenant_id": "acme", "user_id": "bob", "padding": "' + b"x" * 1_100_000 + b'"}'),
    ],
)
async def test_answer_that_is_none_lets_nobody_in(service: DocumentServer, answer: Answer) -> None:
    service.answer = lambda asked: answer
    async with broker_with(**sections(service)) as broker:
        assert await answer_to(broker, username="u") == (ReasonCode.UNSPECIFIED_ERROR, "authentication failed")
        service.answer = json_answer(OK)
        assert (await answer_to(broker, username="u"))[0] == 0


async def test_names_that_no_session_can_have_let_nobody_in(service: DocumentServer) -> None:
    service.answer = json_answer({**OK, "user_id": "x" * 70_000})
    async with broker_with(**sections(service)) as broker:
        assert (await answer_to(broker, username="u"))[0] == ReasonCode.UNSPECIFIED_ERROR


async def test_service_that_is_not_there_lets_nobody_in() -> None:
    with serve_documents(json_answer(OK)) as service:
        values = sections(service)
    async with broker_with(**values) as broker:
        assert (await answer_to(broker))[0] == ReasonCode.UNSPECIFIED_ERROR


async def test_service_that_does_not_answer_refuses_and_others_go_on() -> None:
    async with await trio.open_tcp_listeners(0, host="127.0.0.1") if False else _silent_listener() as url:
        values: dict[str, Any] = {
            "authentication": {"chain": ["users", "call-out"]},
            "call_out": {"url": url, "timeout_s": 0.2, "connections_limit": 1},
        }
        async with broker_with(**values) as broker, trio.open_nursery() as nursery:
            await broker.users.put("acme", "eve", password="right")
            codes: list[int] = []

            async def wait() -> None:
                codes.append((await answer_to(broker))[0])

            for _ in range(3):
                nursery.start_soon(wait)
            assert (await answer_to(broker, username="acme/eve", password=b"right"))[0] == 0
        assert codes == [ReasonCode.UNSPECIFIED_ERROR] * 3


@asynccontextmanager
async def _silent_listener() -> AsyncIterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await trio.lowlevel.checkpoint()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_certificate_of_the_service_is_verified() -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    with (
        serve_documents(json_answer(OK), context) as service,
        ours.cert_pem.tempfile() as our_file,
        theirs.cert_pem.tempfile() as their_file,
    ):
        async with call_out_to(service.url, ca_file=our_file) as call_out:
            await ask(call_out, {})
        for ca_file in (their_file, ""):
            async with call_out_to(service.url, ca_file=ca_file) as call_out:
                with pytest.raises(CallOutFailed, match="certificate verify failed"):
                    await ask(call_out, {})
        assert len(service.asked) == 1


async def test_authority_that_cannot_be_read_keeps_the_broker_from_opening(service: DocumentServer) -> None:
    with pytest.raises(FetchError, match="no-such-file: No such file"):
        async with broker_with(**sections(service, ca_file="no-such-file")):
            pass


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({}, "has to say whom call-out of the chain asks"),
        ({"url": "http://example.org/"}, "has no TLS"),
        ({"url": "example.org"}, "no URL that begins with https://"),
        ({"url": "https://a:b@example.org"}, "may not hold a password"),
    ],
)
def test_configuration_that_could_not_work_is_refused(section: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        make_config(authentication={"chain": ["call-out"]}, call_out=section)


# The memory and the breaker.


class Service:
    """A service without a network."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.takes_s = 0.0
        self.asked_count = 0
        self.busy_most = 0
        self._busy = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked_count += 1
        self._busy += 1
        self.busy_most = max(self.busy_most, self._busy)
        try:
            await trio.sleep(self.takes_s)
        finally:
            self._busy -= 1
        return httpx.Response(self.status, content=_chunks(json.dumps(OK).encode()))


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    await trio.lowlevel.checkpoint()
    yield body


@asynccontextmanager
async def call_out_to(url: str, **settings: Any) -> AsyncIterator[CallOut]:
    values = {"timeout_s": 3.0, "breaker_s": 10.0, "cache_s": 60.0, "cache_limit": 3, "connections_limit": 4}
    async with open_call_out(url, **{**values, **settings}) as call_out:
        yield call_out


@asynccontextmanager
async def call_out_of(service: Service, **settings: Any) -> AsyncIterator[CallOut]:
    async with call_out_to(
        "https://service", transport=lambda: httpx.MockTransport(service.handle), **settings
    ) as call_out:
        yield call_out


async def ask(call_out: CallOut, question: Document) -> None:
    answer, _ = await call_out.ask(question, lambda answer: None)
    assert answer == OK


async def test_answers_are_remembered_for_their_time_and_in_their_number(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with call_out_of(Service()) as call_out:
        for number in range(4):
            call_out.remember({"n": number}, OK)
        call_out.remember({"n": 3}, OK, for_s=5.0)
        assert [call_out.recall({"n": number}) is not None for number in range(4)] == [False, True, True, True]
        await trio.sleep(5)
        assert call_out.recall({"n": 3}) is None
        await trio.sleep(55)
        assert call_out.recall({"n": 2}) is None
    async with call_out_of(Service(), cache_s=0.0) as call_out:
        call_out.remember({}, OK)
        assert call_out.recall({}) is None


async def test_only_the_same_question_gets_the_remembered_answer(service: DocumentServer) -> None:
    async with broker_with(**sections(service)) as broker:
        for password in (b"a", b"a", b"b", b"a"):
            assert (await answer_to(broker, username="u", password=password))[0] == 0
        assert len(service.asked) == 2
        await broker.reload()
        await answer_to(broker, username="u", password=b"a")
        assert len(service.asked) == 3


async def test_refusals_are_not_remembered(service: DocumentServer) -> None:
    service.answer = json_answer({"result": "bad_credentials"})
    async with broker_with(**sections(service)) as broker:
        assert (await answer_to(broker))[0] == 0x86
        service.answer = json_answer(OK)
        assert (await answer_to(broker))[0] == 0


async def test_service_that_fails_is_left_alone_and_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    service = Service(500)
    async with call_out_of(service) as call_out:
        for _ in range(FAILURES_IN_A_ROW + 3):
            with pytest.raises(CallOutFailed):
                await call_out.ask({}, lambda answer: None)
        assert (service.asked_count, call_out.rejected_count, call_out.is_open) == (FAILURES_IN_A_ROW, 3, True)
        await trio.sleep(10)
        with pytest.raises(CallOutFailed, match="answered 500"):
            await call_out.ask({}, lambda answer: None)
        with pytest.raises(CallOutFailed, match="5 times in a row"):
            await call_out.ask({}, lambda answer: None)
        await trio.sleep(10)
        service.status = 200
        await ask(call_out, {})
        assert not call_out.is_open


async def test_answer_that_makes_no_sense_opens_the_breaker_too(autojump_clock: trio.testing.MockClock) -> None:
    def refuse(answer: Document) -> None:
        raise ValueError("no sense")

    async with call_out_of(Service()) as call_out:
        for _ in range(FAILURES_IN_A_ROW):
            with pytest.raises(CallOutFailed, match="no sense"):
                await call_out.ask({}, refuse)
        assert call_out.is_open


async def test_only_one_call_tries_whether_the_service_is_back(autojump_clock: trio.testing.MockClock) -> None:
    service = Service(500)
    async with call_out_of(service) as call_out:
        for _ in range(FAILURES_IN_A_ROW):
            with pytest.raises(CallOutFailed):
                await call_out.ask({}, lambda answer: None)
        await trio.sleep(10)
        service.status, service.takes_s = 200, 1.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, call_out, {})
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(CallOutFailed):
                await call_out.ask({}, lambda answer: None)


async def test_requests_at_once_are_limited_and_the_wait_counts(autojump_clock: trio.testing.MockClock) -> None:
    service = Service()
    service.takes_s = 1.0
    failures = 0

    async def try_to_ask(call_out: CallOut) -> None:
        nonlocal failures
        try:
            await ask(call_out, {})
        except CallOutFailed:
            failures += 1

    async with call_out_of(service, timeout_s=2.5) as call_out, trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(try_to_ask, call_out)
    assert service.busy_most == 4
    assert failures == 4
