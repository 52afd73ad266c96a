"""The HTTP server cannot end the broker: malformed input, abandoned connections, its own death."""

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress

import httpx
import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from rookery.api import http_server
from rookery.api.http_connection import HttpConnection
from rookery.api.http_server import HttpServer, open_http_server
from rookery.server.errors import ShardFailed
from rookery.server.listeners import address_of, open_listener
from support.own_broker import make_config
from support.service import Service, secure_service_with, service_with
from support.tls import Authority, client_context

PUB = b"tenant_id: acme\r\ntopic: a\r\nqos: 1\r\nclient_type: t\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
WEBSOCKET_FRAME = b"\x81\x85\x00\x00\x00\x00hello"
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# What is sent, and how the first line of the answer begins; nothing where the end of the connection is the answer.
MALFORMED: dict[str, tuple[bytes, bytes]] = {
    "websocket frame with the upgrade": (UPGRADE + WEBSOCKET_FRAME, b"HTTP/1.1 400 "),
    "upgrade alone": (UPGRADE, b"HTTP/1.1 400 "),
    "upgrade in capitals": (UPGRADE.replace(b"websocket\r\n", b"WebSocket\r\n") + WEBSOCKET_FRAME, b"HTTP/1.1 400 "),
    "websocket frame alone": (WEBSOCKET_FRAME + b"\r\n\r\n", b"HTTP/1.1 400 "),
    "h2 preface": (H2_PREFACE, b"HTTP/1.1 505 "),
    "h2 preface and frames": (H2_PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"HTTP/1.1 505 "),
    "h2c upgrade": (
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\n"
        b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
        b"HTTP/1.1 200 ",
    ),
    "length and encoding": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n"
        + PUB
        + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 400 ",
    ),
    "encoding and length on a get": (
        b"GET /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 400 ",
    ),
    "length and encoding on a head": (
        b"HEAD /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 400 ",
    ),
    "two lengths": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n" + PUB + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 400 ",
    ),
    "negative length": (b"POST /pub HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", b"HTTP/1.1 400 "),
    "length of no number": (b"POST /pub HTTP/1.1\r\nhost: x\r\ncontent-length: ten\r\n\r\n", b"HTTP/1.1 400 "),
    "length beyond all": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n" + PUB + b"content-length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 4",
    ),
    "unknown encoding": (b"POST /pub HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", b"HTTP/1.1 501 "),
    "bad chunk size": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n" + PUB + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"HTTP/1.1 400 ",
    ),
    "chunk size beyond all": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n" + PUB + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
        b"HTTP/1.1 4",
    ),
    "chunk longer than said": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n" + PUB + b"transfer-encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        b"HTTP/1.1 400 ",
    ),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", b"HTTP/1.1 400 "),
    "http 0.9": (b"GET /healthz\r\n\r\n", b"HTTP/1.1 400 "),
    "http 1.2": (b"GET /healthz HTTP/1.2\r\nhost: x\r\n\r\n", b"HTTP/1.1 505 "),
    "http 3.0": (b"GET /healthz HTTP/3.0\r\nhost: x\r\n\r\n", b"HTTP/1.1 505 "),
    "no version number": (b"GET /healthz HTTP/x\r\nhost: x\r\n\r\n", b"HTTP/1.1 400 "),
    "only line ends": (b"\r\n\r\n\r\n\r\n", b"HTTP/1.1 400 "),
    "tls hello": (bytes.fromhex("16030100f8010000f40303") + bytes(200) + b"\r\n\r\n", b"HTTP/1.1 400 "),
    "mqtt connect": (bytes.fromhex("101000044d5154540402003c00046162636400") + b"\r\n\r\n", b"HTTP/1.1 400 "),
    "zeros": (bytes(3000) + b"\r\n\r\n", b"HTTP/1.1 400 "),
    "header without colon": (b"GET /healthz HTTP/1.1\r\nhost x\r\n\r\n", b"HTTP/1.1 400 "),
    "header with space in its name": (b"GET /healthz HTTP/1.1\r\nhost : x\r\n\r\n", b"HTTP/1.1 400 "),
    "header with nul": (b"GET /healthz HTTP/1.1\r\nhost: x\r\na: \x00\r\n\r\n", b"HTTP/1.1 400 "),
    "header name not ascii": (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\xff: y\r\n\r\n", b"HTTP/1.1 400 "),
    "folded header": (b"GET /healthz HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", b"HTTP/1.1 200 "),
    "path not ascii": (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 400 "),
    "path of broken percent signs": (b"GET /%ff%zz%00 HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 404 "),
    "path is a url": (b"GET http://evil/healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 "),
    "path is an asterisk": (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 4"),
    "path is empty of slashes": (b"GET healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 4"),
    "connect method": (b"CONNECT evil:443 HTTP/1.1\r\nhost: evil\r\n\r\n", b"HTTP/1.1 4"),
    "request line too long": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 431 "),
    "header too long": (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 200_000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
    "too many headers": (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 30_000 + b"\r\n", b"HTTP/1.1 431 "),
    "never ending header": (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 200_000, b"HTTP/1.1 431 "),
    "body that ends early": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n" + PUB + b"content-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 400 ",
    ),
    "request line that ends early": (b"GET /heal", b"HTTP/1.1 400 "),
    "nothing": (b"", b""),
    "pipelined requests": (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 50, b"HTTP/1.1 200 "),
    "garbage after a request": (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n\x00\x00\x00", b"HTTP/1.1 200 "),
    "expect nonsense": (
        b"POST /pub HTTP/1.1\r\nhost: x\r\n" + PUB + b"expect: the unexpected\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 ",
    ),
}

# Over TLS the end of one side is the end of both, unless it is announced: nobody is left who could get an answer.
ENDS_EARLY = {MALFORMED[name][0] for name in ("body that ends early", "request line that ends early")}

malformed = pytest.mark.parametrize(("sent", "answer"), MALFORMED.values(), ids=list(MALFORMED))


async def expect_all_is_well(service: Service) -> None:
    """HTTP answers, and MQTT carries a message."""
    async with service.connect(client_id="witness", username="acme/bob") as client:
        await client.subscribe("well")
        response = await service.publish(topic="well")
        assert (response.status_code, response.text) == (200, "OK")
        assert (await client.receive_message()).topic == "well"


async def open_wire(service: Service) -> tuple[trio.SocketStream, trio.abc.Stream]:
    """A connection to the HTTP port, and what HTTP is spoken over: that, or TLS on it."""
    wire = await service.open_stream()
    if service.context is None:
        return wire, wire
    stream = trio.SSLStream(wire, service.context, server_hostname="localhost")
    await stream.do_handshake()
    return wire, stream


async def exchange(service: Service, sent: bytes) -> bytes:
    """All that comes back for these bytes and the end of our side, which over TLS waits for an answer."""
    received = bytearray()
    answered = trio.Event()
    wire, stream = await open_wire(service)
    async with wire:

        async def receive() -> None:
            try:
                while data := await stream.receive_some():
                    received.extend(data)
                    answered.set()
            except trio.BrokenResourceError:
                pass  # A reset after the answer.

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                try:
                    await stream.send_all(sent)
                    if stream is not wire and sent and sent not in ENDS_EARLY:
                        await answered.wait()
                    await wire.send_eof()
                except trio.BrokenResourceError:
                    pass  # Refused before it was sent whole.
    return bytes(received)


@pytest.fixture(params=["plain", "tls"])
async def either(request: pytest.FixtureRequest, authority: Authority, certificate: str) -> AsyncIterator[Service]:
    """A broker and its API, which speaks TLS or does not."""
    if request.param == "plain":
        async with service_with() as opened:
            yield opened
    else:
        context = client_context(authority, protocols=("http/1.1",))
        async with secure_service_with(context, api={"certificate_files": [certificate]}) as opened:
            yield opened


@malformed
async def test_malformed_input_is_answered_and_harms_nobody(either: Service, sent: bytes, answer: bytes) -> None:
    service = either
    received = await exchange(service, sent)
    if service.context is not None and sent in ENDS_EARLY:
        answer = b""
    assert received.startswith(answer)
    if not answer:
        assert received == b""
    if answer.startswith(b"HTTP/1.1 4"):
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"\r\nreq_id: " in head
        assert b"\r\ncontent-type: text/plain" in head
        assert bool(body) is not sent.startswith(b"HEAD")
        assert b"<" not in body
    await expect_all_is_well(service)
    assert (service.server.failed_count, service.server.restart_count) == (0, 0)


@malformed
async def test_malformed_input_and_a_reset_harm_nobody(either: Service, sent: bytes, answer: bytes) -> None:
    service = either
    wire, stream = await open_wire(service)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with trio.move_on_after(0.5):
        with suppress(trio.BrokenResourceError):
            await stream.send_all(sent)
    wire.socket.close()
    await expect_all_is_well(service)
    assert (service.server.failed_count, service.server.restart_count) == (0, 0)


async def test_bytes_that_come_one_by_one_make_a_request(service: Service) -> None:
    async with await service.open_stream() as stream:
        for byte in b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n":
            await stream.send_all(bytes([byte]))
        assert b"".join([bytes(data) async for data in stream]).endswith(b'{"status":"ok"}\n')


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_client_that_has_ended_its_side_gets_its_answer(service: Service, version: bytes) -> None:
    received = await exchange(service, b"GET /healthz HTTP/" + version + b"\r\nhost: x\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b'{"status":"ok"}\n')


# Time-outs and limits.


async def wait_until(is_so: Callable[[], bool]) -> None:
    """Let other tasks run until it is so."""
    with trio.fail_after(5):
        while not is_so():
            await trio.lowlevel.checkpoint()


async def expect_end(stream: trio.SocketStream) -> bytes:
    """All that still comes, up to the end that must come."""
    with trio.fail_after(5):
        return b"".join([bytes(data) async for data in stream])


@pytest.mark.parametrize("sent", [b"", b"GET / HT"], ids=["silent", "half a request line"])
async def test_connection_that_never_asks_is_closed(sent: bytes) -> None:
    async with service_with(api={"keep_alive_timeout_s": 0.05}) as service, await service.open_stream() as stream:
        await stream.send_all(sent)
        assert await expect_end(stream) == b""


async def test_idle_connection_is_closed_after_its_request() -> None:
    async with service_with(api={"keep_alive_timeout_s": 0.05}) as service, await service.open_stream() as stream:
        await stream.send_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await expect_end(stream)).startswith(b"HTTP/1.1 200 ")


async def test_trickling_does_not_extend_the_time_for_a_request() -> None:
    async with (
        service_with(api={"keep_alive_timeout_s": 0.2}) as service,
        await service.open_stream() as stream,
        trio.open_nursery() as nursery,
    ):

        async def trickle() -> None:
            try:
                await stream.send_all(b"GET / HTTP/1.1\r\n")
                while True:
                    await stream.send_all(b"a: b\r\n")
                    await trio.sleep(0.02)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(trickle)
        with trio.fail_after(5):
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_connections_beyond_the_limit_are_closed_at_once_and_leave_room_when_they_go() -> None:
    async with service_with(api={"connections_limit": 2}) as service:
        async with await service.open_stream() as one, await service.open_stream() as two:
            for stream in (one, two):
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            async with await service.open_stream() as three:
                with suppress(trio.BrokenResourceError):
                    assert await expect_end(three) == b""
            assert service.server.refused_count == 1
        await wait_until(lambda: service.server.connection_count == 0)
        assert (await service.http.get("/healthz")).status_code == 200


async def test_client_that_does_not_read_its_answers_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rookery.api.http_connection.WRITE_TIMEOUT_S", 0.2)
    async with service_with() as service, await service.open_stream() as stream:

        @service.app.get("/large")
        async def large() -> bytes:
            return bytes(20_000_000)

        await stream.send_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        await wait_until(lambda: service.server.connection_count == 1)
        await wait_until(lambda: service.server.connection_count == 0)
        assert service.server.failed_count == 0


# The guard and the supervisor.


async def test_error_that_escapes_a_connection_ends_that_one_only(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = HttpConnection.run

    async def fail_for_some(connection: HttpConnection) -> None:
        async with trio.open_nursery() as nursery:
            if service.server.failed_count == 0:
                nursery.start_soon(fail)
            await whole(connection)

    async def fail() -> None:
        raise RuntimeError("a fault of a library")

    async with service.connect(client_id="c", username="acme/bob") as client:
        monkeypatch.setattr(HttpConnection, "run", fail_for_some)
        async with await service.open_stream() as stream:
            with suppress(trio.BrokenResourceError):
                assert await expect_end(stream) == b""
        await wait_until(lambda: service.server.connection_count == 0)
        assert service.server.failed_count == 1
        await client.ping()
        await expect_all_is_well(service)


async def test_cancellation_that_escapes_a_connection_ends_that_one_only(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def let_out(connection: HttpConnection) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                kept = cancelled
                raise
        raise kept

    in_work, go_on = trio.Event(), trio.Event()

    @service.app.get("/slow")
    async def slow() -> str:
        in_work.set()
        await go_on.wait()
        return "done"

    async with await service.open_stream() as other:
        await other.send_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        await in_work.wait()
        with monkeypatch.context() as patch:
            patch.setattr(HttpConnection, "run", let_out)
            async with await service.open_stream() as stream:
                assert await expect_end(stream) == b""
        go_on.set()
        assert (await expect_end(other)).endswith(b"done")
    await expect_all_is_well(service)


class DyingServer(HttpServer):
    """Dies as often as it is told before it serves."""

    deaths: int = 2

    async def _serve(self) -> None:
        if self.restart_count < self.deaths:
            async with trio.open_nursery():
                raise RuntimeError("dies")
        await super()._serve()


async def test_http_side_that_dies_is_started_again_and_mqtt_does_not_notice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "HttpServer", DyingServer)
    monkeypatch.setattr(http_server, "BACK_OFF_FIRST_S", 0.01)
    async with service_with() as service:
        await expect_all_is_well(service)
        assert service.server.restart_count == 2


async def test_back_off_grows_and_a_stop_does_not_wait_for_it(autojump_clock: trio.testing.MockClock) -> None:
    with open_listener(make_config().api.bind, 5) as listener:
        server = DyingServer(answer_nothing, make_config().api, listener)
        server.deaths = 1_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.supervise)
            await trio.sleep(3.15)  # 0.1 + 0.2 + 0.4 + 0.8 + 1.6 = 3.1
            assert server.restart_count == 6
            await trio.sleep(600)
            assert server.restart_count < 6 + 5 + 600 / http_server.BACK_OFF_LAST_S
            stopped_at = trio.current_time()
            server.stop()
        assert trio.current_time() == stopped_at


async def answer_nothing(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """An application without a lifespan that never answers."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")
    await trio.sleep_forever()


# The end.


async def test_shard_that_dies_takes_the_http_side_with_it() -> None:
    async def end_the_shard_behind_its_back() -> None:
        async with service_with(server={"stop_grace_s": 0.1}) as service, await service.open_stream() as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            await stream.receive_some()
            service.broker._engine.stop(0)
            await trio.sleep_forever()

    with pytest.raises(ShardFailed), trio.fail_after(10):
        await end_the_shard_behind_its_back()


async def test_request_in_work_is_finished_at_the_end_and_no_other_is_accepted() -> None:
    answers: list[httpx.Response] = []
    async with trio.open_nursery() as nursery, service_with() as service:
        in_work, go_on = trio.Event(), trio.Event()

        @service.app.get("/slow")
        async def slow() -> str:
            in_work.set()
            await go_on.wait()
            return "done"

        async def ask() -> None:
            async with httpx.AsyncClient() as http:
                answers.append(await http.get(f"http://{service.api}/slow"))

        nursery.start_soon(ask)
        await in_work.wait()
        service.server.stop()
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await service.open_stream() as late:  # The kernel takes it into the backlog of the listener.
            await late.send_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            with trio.move_on_after(0.1) as waited:
                await late.receive_some()
        assert waited.cancelled_caught
        go_on.set()
    assert [answer.text for answer in answers] == ["done"]


async def test_request_that_takes_too_long_is_cut_off_at_the_end(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_listener(make_config().api.bind, 5) as listener:
        async with open_http_server(answer_nothing, make_config().api, listener):
            address = address_of(listener)
            stream = await trio.open_tcp_stream(address.host, address.port)
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.01)
            stopped_at = trio.current_time()
        assert trio.current_time() - stopped_at <= http_server.STOP_GRACE_S
        await stream.aclose()


async def test_client_that_does_not_read_does_not_hold_the_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rookery.api.http_connection.WRITE_TIMEOUT_S", 600)
    monkeypatch.setattr(http_server, "STOP_GRACE_S", 0.1)
    with trio.fail_after(5):
        async with service_with() as service, await service.open_stream() as stream:
            is_asked = trio.Event()

            @service.app.get("/large")
            async def large() -> bytes:
                is_asked.set()
                return bytes(20_000_000)

            await stream.send_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
            await is_asked.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            service.server.stop()
            await wait_until(lambda: service.server.connection_count == 0)
        assert service.server.failed_count == 0


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_idle_connections_do_not_hold_the_end_up(is_cancelled: bool) -> None:
    async with AsyncExitStack() as streams:
        with trio.fail_after(5), trio.CancelScope() as scope:
            async with service_with() as service:
                for _ in range(3):
                    stream = await streams.enter_async_context(await service.open_stream())
                    await stream.send_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                    await stream.receive_some()
                if is_cancelled:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught is is_cancelled
