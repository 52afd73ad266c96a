"""Files of certificates that change while the broker runs."""

import ssl

import pytest
import trio

from support import tls
from support.mqtt_client import Client
from support.own_broker import broker_with
from support.tls import (
    VERSIONS,
    Authority,
    Failures,
    Section,
    client_context,
    count_one_failure,
    open_tls,
    resume,
    with_clients,
)
from support.waiting import eventually


async def test_reload_serves_new_certificates_and_keeps_connections(authority: Authority, secure: Section) -> None:
    context = client_context(authority)
    context.check_hostname = False
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        tls.connect(broker.addresses["secure"], context, client_id="old") as old,
    ):
        authority.issue("server.pem", "renewed.example.org")
        await broker.reload()
        async with open_tls(broker.addresses["secure"], context) as stream:
            certificate = stream.getpeercert()
            assert certificate["subjectAltName"] == (("DNS", "renewed.example.org"),)
            await Client(stream).connect(client_id="new")
        await old.publish("a", b"x", qos=1)


async def test_changed_files_are_noticed(
    authority: Authority, secure: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rookery.server.tls.reloading.WATCH_S", 0.01)
    context = client_context(authority)
    context.check_hostname = False
    async with broker_with(listeners={"secure": secure}) as broker:
        contexts = broker.tls_contexts["secure"]
        before = contexts.default
        authority.issue("server.pem", "renewed.example.org")
        await eventually(lambda: contexts.default is not before)
        async with tls.connect(broker.addresses["secure"], context, client_id="c"):
            pass


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", None])
async def test_file_that_is_broken_leaves_the_old_certificate(
    authority: Authority, secure: Section, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with broker_with(listeners={"secure": secure}) as broker:
        file = trio.Path(secure["certificate_files"][0])
        await (file.unlink() if broken is None else file.write_bytes(broken))
        await broker.reload()
        assert any("listeners.secure.certificate_files" in str(record.msg) for record in caplog.records)
        async with tls.connect(broker.addresses["secure"], client_context(authority), client_id="c"):
            pass


@pytest.mark.parametrize("version", VERSIONS)
async def test_reload_of_a_list_keeps_out_who_was_revoked_even_when_resuming(
    authority: Authority, secure: Section, version: ssl.TLSVersion, failures: Failures
) -> None:
    thief = authority.issue_client("thief")
    section = with_clients(secure, authority) | {"client_crl_files": [authority.revoke()]}
    context = client_context(authority, thief, version=version)
    async with broker_with(listeners={"secure": section}) as broker:
        port = broker.addresses["secure"].port
        _, session = await trio.to_thread.run_sync(resume, context, port)
        authority.revoke(thief)
        await broker.reload()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await trio.to_thread.run_sync(resume, context, port, session)
        await count_one_failure(broker, admitted=1)
    assert "certificate revoked" in failures.reasons[0]
