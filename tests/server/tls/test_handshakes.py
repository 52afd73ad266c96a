"""Handshakes: what is negotiated, whose certificate holds, and what is turned away."""

import ssl
from typing import Any

import pytest
import trio

from rookery.core.notices import CloseCause
from rookery.server.broker import Broker
from rookery.server.events import ClientDisconnected
from support import packets, tls
from support.mqtt_client import DEADLINE_S, Client
from support.own_broker import broker_with
from support.packets import MQTT_5_0
from support.tls import (
    CLIENT_AUTH,
    SERVER_AUTH,
    VERSIONS,
    Authority,
    Failures,
    Section,
    client_context,
    count_one_failure,
    open_tls,
    read_to_the_end,
    resume,
    with_clients,
)
from support.waiting import eventually

# What is negotiated


@pytest.mark.parametrize(
    ("kind", "offered", "chosen"),
    [
        ("tls", ["mqtt"], "mqtt"),
        ("tls", ["x", "mqtt"], "mqtt"),
        ("tls", [], None),
        ("wss", ["h2", "http/1.1"], "http/1.1"),
    ],
)
async def test_protocol_is_chosen_by_alpn(
    authority: Authority, secure: Section, kind: str, offered: list[str], chosen: str | None
) -> None:
    secure["kind"] = kind
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        open_tls(broker.addresses["secure"], client_context(authority, protocols=offered)) as stream,
    ):
        assert stream.selected_alpn_protocol() == chosen


async def test_client_without_a_common_protocol_gets_an_alert(
    authority: Authority, secure: Section, failures: Failures
) -> None:
    async with broker_with(listeners={"secure": secure}) as broker:
        with pytest.raises(trio.BrokenResourceError) as raised:
            async with open_tls(broker.addresses["secure"], client_context(authority, protocols=["h2"])):
                pass
        assert "no application protocol" in str(raised.value.__cause__)
        await count_one_failure(broker)
    assert failures.reasons == ["the client offers 'h2' by ALPN, and not MQTT"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.example.org", "a.example.org"),
        ("B.example.org", "b.example.org"),
        ("x.wild.example.org", "*.wild.example.org"),
        ("unknown.example.org", "a.example.org"),
        (None, "a.example.org"),
    ],
)
async def test_certificate_is_chosen_by_server_name(
    authority: Authority, secure: Section, name: str | None, expected: str
) -> None:
    hosts = {"a": "a.example.org", "b": "b.example.org", "wild": "*.wild.example.org"}
    secure["certificate_files"] = [authority.issue(f"{file}.pem", host) for file, host in hosts.items()]
    context = client_context(authority)
    context.check_hostname = False
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        open_tls(broker.addresses["secure"], context, server_name=name) as stream,
    ):
        certificate = stream.getpeercert()
        assert certificate["subjectAltName"] == (("DNS", expected),)
        connack = await Client(stream).connect(client_id="c")
        assert connack.reason_code == 0


@pytest.mark.parametrize(
    ("listener", "client", "shared"),
    [
        ({}, (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM"), True),
        ({"ciphers": "ECDHE+CHACHA20"}, (ssl.TLSVersion.TLSv1_2, "ECDHE+CHACHA20"), True),
        ({"ciphers": "ECDHE+CHACHA20"}, (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM"), False),
        ({"tls_version_minimum": "1.3"}, (ssl.TLSVersion.TLSv1_2, ""), False),
        ({"tls_version_minimum": "1.3"}, (ssl.TLSVersion.TLSv1_3, ""), True),
    ],
)
async def test_versions_and_ciphers_are_those_of_the_listener(
    authority: Authority,
    secure: Section,
    listener: Section,
    client: tuple[ssl.TLSVersion, str],
    shared: bool,
    failures: Failures,
) -> None:
    version, ciphers = client
    context = client_context(authority, version=version)
    if ciphers:
        context.set_ciphers(ciphers)
    async with broker_with(listeners={"secure": secure | listener}) as broker:
        if shared:
            async with tls.connect(broker.addresses["secure"], context, client_id="c"):
                pass
        else:
            with pytest.raises(trio.BrokenResourceError) as raised:
                async with open_tls(broker.addresses["secure"], context):
                    pass
            assert "ALERT" in str(raised.value.__cause__).upper()
            await count_one_failure(broker)
            assert failures.reasons in (["no shared cipher"], ["unsupported protocol"])


async def test_ciphersuites_of_tls_1_3_are_those_of_the_listener(authority: Authority, secure: Section) -> None:
    secure["ciphersuites"] = "TLS_CHACHA20_POLY1305_SHA256"
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        open_tls(broker.addresses["secure"], client_context(authority, version=ssl.TLSVersion.TLSv1_3)) as stream,
    ):
        assert stream.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"


async def test_server_prefers_the_cipher_of_less_work(authority: Authority, secure: Section) -> None:
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        open_tls(broker.addresses["secure"], client_context(authority, version=ssl.TLSVersion.TLSv1_3)) as stream,
    ):
        assert stream.cipher()[0] == "TLS_AES_128_GCM_SHA256"


async def test_groups_are_those_of_the_listener(authority: Authority, secure: Section, failures: Failures) -> None:
    async with broker_with(listeners={"secure": secure | {"groups": "P-384"}}) as broker:
        context = client_context(authority)
        context.set_ecdh_curve("secp384r1")
        async with open_tls(broker.addresses["secure"], context):
            pass
        context.set_ecdh_curve("prime256v1")
        with pytest.raises(trio.BrokenResourceError) as raised:
            async with open_tls(broker.addresses["secure"], context):
                pass
        assert "HANDSHAKE_FAILURE" in str(raised.value.__cause__).upper()
        await eventually(lambda: broker.entrances["secure"].counts.failed == 1)
    assert len(failures.reasons) == 1


# Certificates of clients


async def test_certificate_names_tenant_and_user(authority: Authority, secure: Section) -> None:
    certificate = authority.issue_client("car", "acme")
    async with (
        broker_with(
            listeners={"secure": with_clients(secure, authority)}, authentication={"chain": ["certificate"]}
        ) as broker,
        tls.connect(broker.addresses["secure"], client_context(authority, certificate), client_id="c"),
    ):
        session = await broker.sessions.find("acme", "car", "c")
        assert session is not None


async def test_certificate_may_be_left_out_where_it_is_optional(authority: Authority, secure: Section) -> None:
    certificate = authority.issue_client("car", "acme")
    async with broker_with(
        listeners={"secure": with_clients(secure, authority, "optional")},
        authentication={"chain": ["certificate", "development"]},
    ) as broker:
        for file, tenant, user in ((certificate, "acme", "car"), (None, "firm", "boat")):
            async with tls.connect(
                broker.addresses["secure"], client_context(authority, file), client_id="c", username="firm/boat"
            ):
                assert await broker.sessions.find(tenant, user, "c") is not None


def _no_certificate(authority: Authority, stranger: Authority) -> str | None:
    return None


def _strange(authority: Authority, stranger: Authority) -> str:
    return stranger.issue_client()


def _self_signed(authority: Authority, stranger: Authority) -> str:
    return stranger.pretend()


def _expired(authority: Authority, stranger: Authority) -> str:
    past = tls.now() - tls.DAY / 2
    return authority.issue("expired.pem", "x", usages=(CLIENT_AUTH,), valid_until=past)


def _of_tomorrow(authority: Authority, stranger: Authority) -> str:
    return authority.issue("tomorrow.pem", "x", usages=(CLIENT_AUTH,), valid_from=tls.now() + tls.DAY / 2)


def _of_a_server(authority: Authority, stranger: Authority) -> str:
    return authority.issue("purpose.pem", "x", usages=(SERVER_AUTH,))


def _revoked(authority: Authority, stranger: Authority) -> str:
    file = authority.issue_client("thief")
    authority.revoke(file)
    return file


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make", "alert", "reason"),
    [
        (_no_certificate, "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE", "peer did not return a certificate"),
        (_strange, "UNKNOWN_CA", "unable to get local issuer certificate"),
        (_self_signed, "UNKNOWN_CA", "self-signed certificate"),
        (_expired, "CERTIFICATE_EXPIRED", "certificate has expired"),
        (_of_tomorrow, "BAD_CERTIFICATE", "certificate is not yet valid"),
        (_of_a_server, "UNSUPPORTED_CERTIFICATE|CERTIFICATE_UNKNOWN", "unsuitable certificate purpose"),
        (_revoked, "CERTIFICATE_REVOKED", "certificate revoked"),
    ],
)
async def test_certificate_that_does_not_hold_gets_its_alert_and_others_go_on(
    authority: Authority,
    stranger: Authority,
    secure: Section,
    failures: Failures,
    make: Any,
    alert: str,
    reason: str,
    version: ssl.TLSVersion,
) -> None:
    good = authority.issue_client("good")
    section = with_clients(secure, authority) | {"client_crl_files": [authority.revoke()]}
    bad = make(authority, stranger)
    async with (
        broker_with(listeners={"secure": section}) as broker,
        tls.connect(broker.addresses["secure"], client_context(authority, good), client_id="other") as other,
    ):
        context = client_context(authority, bad, version=version)
        with pytest.raises(trio.BrokenResourceError) as raised:
            async with open_tls(broker.addresses["secure"], context) as stream:
                await read_to_the_end(stream)
        found = str(raised.value.__cause__).upper().replace(" ", "_")
        assert any(each in found for each in alert.split("|")), found
        await other.publish("a", b"x", qos=1)
        await count_one_failure(broker, admitted=1)
    (said,) = failures.reasons
    assert reason in said


# Resumption


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("lifetime_s", [7200, 0])
async def test_session_is_resumed_while_it_lives(
    authority: Authority, secure: Section, version: ssl.TLSVersion, lifetime_s: int
) -> None:
    certificate = authority.issue_client("car", "acme")
    section = with_clients(secure, authority) | {"session_lifetime_s": lifetime_s}
    context = client_context(authority, certificate, version=version)
    async with broker_with(listeners={"secure": section}, authentication={"chain": ["certificate"]}) as broker:
        port = broker.addresses["secure"].port
        wasresumed, session = await trio.to_thread.run_sync(resume, context, port)
        assert not wasresumed
        wasresumed, session = await trio.to_thread.run_sync(resume, context, port, session)
        assert wasresumed == (lifetime_s > 0)


# What is no handshake


async def _converse(broker: Broker, sent: bytes) -> bytes:
    """All that the listener answers to these bytes until it closes."""
    address = broker.addresses["secure"]
    answer = b""
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            await stream.send_all(sent)
            async for chunk in stream:
                answer += chunk
    return answer


MQTT_CONNECT = packets.encode(packets.Connect(client_id="c"), MQTT_5_0)
ALERT = b"\x15\x03"


@pytest.mark.parametrize(
    ("sent", "answered", "reason"),
    [
        (MQTT_CONNECT, b"", "wrong version number"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"", "http request"),
        (bytes(600), b"", "wrong version number"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", ALERT, ""),
        (b"\x16\x03\x01\xff\xff" + bytes(600), ALERT, ""),
    ],
    ids=["MQTT", "HTTP", "zeros", "short hello", "long record"],
)
async def test_what_is_no_tls_is_closed_and_others_go_on(
    authority: Authority, secure: Section, failures: Failures, sent: bytes, answered: bytes, reason: str
) -> None:
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        tls.connect(broker.addresses["secure"], client_context(authority), client_id="other") as other,
    ):
        assert (await _converse(broker, sent))[:2] == answered
        await other.publish("a", b"x", qos=1)
        await count_one_failure(broker, admitted=1)
    (said,) = failures.reasons
    assert reason in said


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a byte", "a part"])
async def test_handshake_that_never_ends_is_cut(secure: Section, failures: Failures, sent: bytes) -> None:
    async with broker_with(listeners={"secure": {**secure, "handshake_timeout_s": 0.05}}) as broker:
        assert await _converse(broker, sent) == b""
        await count_one_failure(broker)
    assert failures.reasons == ["too slow"]


async def test_handshakes_under_way_end_with_the_broker(secure: Section) -> None:
    async with broker_with(listeners={"secure": secure}) as broker:
        stream = await trio.open_tcp_stream("127.0.0.1", broker.addresses["secure"].port)
        await eventually(lambda: broker.entrances["secure"].in_work_count == 1)
    async with stream:
        with trio.fail_after(DEADLINE_S):
            assert await stream.receive_some() == b""


async def test_each_of_many_handshakes_ends_as_it_must(authority: Authority, secure: Section) -> None:
    async with broker_with(listeners={"secure": secure}) as broker:
        address = broker.addresses["secure"]

        async def connect(number: int) -> None:
            async with tls.connect(address, client_context(authority), client_id=f"c{number}") as client:
                await client.publish("a", b"x", qos=1)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(connect, number)
                nursery.start_soon(_converse, broker, MQTT_CONNECT)
        await eventually(lambda: broker.entrances["secure"].in_work_count == 0)
        counts = broker.entrances["secure"].counts
        assert (counts.admitted, counts.failed, counts.turned_away) == (30, 30, 0)


async def test_client_that_leaves_during_the_handshake_is_counted(secure: Section, failures: Failures) -> None:
    async with broker_with(listeners={"secure": secure}) as broker:
        stream = await trio.open_tcp_stream("127.0.0.1", broker.addresses["secure"].port)
        await stream.send_eof()
        await count_one_failure(broker)
        await stream.aclose()
    assert failures.reasons == ["the client left during the handshake"]


async def test_handshakes_above_the_limit_are_closed(authority: Authority, secure: Section) -> None:
    async with broker_with(listeners={"secure": {**secure, "handshakes_limit": 1}}) as broker:
        counts = broker.entrances["secure"].counts
        async with await trio.open_tcp_stream("127.0.0.1", broker.addresses["secure"].port):
            await eventually(lambda: broker.entrances["secure"].in_work_count == 1)
            assert await _converse(broker, b"") == b""
            assert counts.turned_away == 1
        await eventually(lambda: counts.failed == 1)
        async with tls.connect(broker.addresses["secure"], client_context(authority), client_id="c") as client:
            await client.publish("a", b"x", qos=1)


async def test_garbage_after_the_handshake_ends_that_connection(authority: Authority, secure: Section) -> None:
    async with broker_with(listeners={"secure": secure}) as broker:
        with broker.events.subscribe(ClientDisconnected) as events:
            async with open_tls(broker.addresses["secure"], client_context(authority)) as stream:
                await Client(stream).connect(client_id="c")
                # A record that nobody sealed.
                await stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
                with pytest.raises(trio.BrokenResourceError):
                    await read_to_the_end(stream)
            with trio.fail_after(DEADLINE_S):
                event = await anext(events)
        assert isinstance(event, ClientDisconnected)
        assert (event.client_id, event.cause) == ("c", CloseCause.NETWORK)
