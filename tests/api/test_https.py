"""The API over TLS: who is let in by his certificate, and what a handshake that fails comes to."""

import logging
import ssl
from contextlib import suppress

import httpx
import pytest
import trio
from pydantic import ValidationError

from rookery.api.key_ring import KeyRing, check_keys
from rookery.server.config_fields import Contradiction
from support.own_broker import make_config
from support.service import Service, client_of, secure_service_with
from support.tls import Authority, Section, client_context, open_tls, with_clients
from support.waiting import eventually

KEY = "the administrator's own key, long enough"


@pytest.fixture
def secure(certificate: str) -> Section:
    """An `[api]` that speaks TLS."""
    return {"certificate_files": [certificate]}


def context_of(authority: Authority, certificate: str | None = None) -> ssl.SSLContext:
    return client_context(authority, certificate, protocols=("http/1.1",))


async def tenants_as(service: Service, certificate: str | None, authority: Authority, **headers: str) -> httpx.Response:
    """A call that wants the right to read about the whole broker, by the holder of a certificate."""
    async with client_of(service.api, context_of(authority, certificate)) as http:
        return await http.get("/v1/tenants", headers=headers)


async def test_calls_work_over_tls(authority: Authority, secure: Section) -> None:
    async with secure_service_with(context_of(authority), api=secure) as service:
        assert service.http.base_url.scheme == "https"
        async with service.connect(client_id="c", username="acme/bob") as client:
            await client.subscribe("a/b")
            response = await service.publish(b"x" * 200_000)
            assert (response.status_code, response.text) == (200, "OK")
            assert (await client.receive_message()).payload == b"x" * 200_000


@pytest.mark.parametrize("require_key", [False, True])
async def test_without_verified_certificates_keys_decide(
    authority: Authority, secure: Section, require_key: bool
) -> None:
    api = {**secure, "require_key": require_key, "admin_key": KEY}
    async with secure_service_with(context_of(authority), api=api) as service:
        without = await service.http.get("/v1/tenants")
        assert without.status_code == (401 if require_key else 200)
        assert (await service.http.get("/v1/tenants", headers={"authorization": f"Bearer {KEY}"})).status_code == 200


async def test_holder_of_a_certificate_may_what_his_role_may(authority: Authority, secure: Section) -> None:
    roles = {"watch": "viewer", "shop": "publisher:acme", "ops": "admin"}
    api = {**with_clients(secure, authority, "optional"), "require_key": True, "admin_key": KEY, "client_roles": roles}
    async with secure_service_with(context_of(authority), api=api) as service:
        statuses = {}
        for name in (*roles, "nobody"):
            certificate = authority.issue_client(name)
            async with client_of(service.api, context_of(authority, certificate)) as http:
                publish = {"tenant_id": "acme", "topic": "a", "qos": "0", "client_type": "t"}
                statuses[name] = [
                    (await http.get("/v1/tenants")).status_code,
                    (await http.post("/pub", headers=publish)).status_code,
                    (await http.post("/pub", headers={**publish, "tenant_id": "other"})).status_code,
                ]
        assert statuses == {
            "watch": [200, 403, 403],
            "shop": [403, 200, 403],
            "ops": [200, 200, 200],
            "nobody": [403, 403, 403],
        }
        # Whoever shows a key is its holder, whatever his certificate says; without either nobody is let in.
        certificate = authority.issue_client("nobody")
        assert (await tenants_as(service, certificate, authority, authorization=f"Bearer {KEY}")).status_code == 200
        assert (await tenants_as(service, None, authority)).status_code == 401


async def test_name_in_a_certificate_is_the_callers_in_the_audit_log(authority: Authority, secure: Section) -> None:
    certificate = authority.issue_client("ops")
    async with secure_service_with(context_of(authority, certificate), api=with_clients(secure, authority)) as service:
        answer = await service.http.patch("/v1/tenants/acme/settings", json={"MaxTopicLevels": 7})
        assert answer.status_code < 300, answer.text
        entries = (await service.http.get("/v1/audit")).json()["items"]
        assert entries[0]["actor"] == "ops"


async def test_revoked_and_strange_certificates_are_refused(authority: Authority, secure: Section) -> None:
    revoked, good = authority.issue_client("revoked"), authority.issue_client("good")
    api = {**with_clients(secure, authority), "client_crl_files": [authority.revoke(revoked)]}
    async with secure_service_with(context_of(authority, good), api=api) as service:
        assert (await service.http.get("/v1/tenants")).status_code == 200
        for certificate in (revoked, None):
            with pytest.raises(httpx.TransportError):
                await tenants_as(service, certificate, authority)
        await eventually(lambda: service.server.failed_handshake_count == 2)
        assert service.server.failed_count == 0


@pytest.mark.parametrize("sent", [b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x00" * 100])
async def test_what_is_no_tls_fails_its_handshake(
    authority: Authority, secure: Section, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with secure_service_with(context_of(authority), api=secure) as service:
        async with await service.open_stream() as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            with trio.fail_after(5), suppress(trio.BrokenResourceError):  # An alert, then the end or a reset.
                while await stream.receive_some():
                    pass
        await eventually(lambda: service.server.connection_count == 0)
        assert service.server.failed_handshake_count == 1
        assert (await service.http.get("/healthz")).status_code == 200
        metrics = (await service.http.get("/metrics")).text
        assert "rookery_http_handshakes_failed_total 1" in metrics
    events = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    assert events.count("http_handshake_failed") == 1


async def test_handshake_that_never_ends_is_cut(authority: Authority, secure: Section) -> None:
    async with secure_service_with(context_of(authority), api={**secure, "request_timeout_s": 0.05}) as service:
        async with await service.open_stream() as stream:
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        await eventually(lambda: service.server.failed_handshake_count == 1)


async def test_renewed_certificate_is_served_after_a_reload(authority: Authority, secure: Section) -> None:
    async with secure_service_with(context_of(authority), api=secure) as service:
        assert (await service.http.get("/healthz")).status_code == 200
        authority.issue("server.pem", "renewed.example.org")
        await service.broker.reload()
        # The connection that there is goes on; a new one meets the new certificate.
        assert (await service.http.get("/healthz")).status_code == 200
        context = context_of(authority)
        context.check_hostname = False
        async with open_tls(service.api, context) as stream:
            assert stream.getpeercert()["subjectAltName"] == (("DNS", "renewed.example.org"),)


@pytest.mark.parametrize(
    ("api", "path", "complaint"),
    [
        ({"key_files": ["x.pem"]}, "key_files", "has no effect without certificate_files"),
        ({"client_roles": {"a": "viewer"}}, "client_roles", "has no effect, as client_certificates is none"),
        (
            {"certificate_files": ["c"], "client_certificates": "required"},
            "client_ca_files",
            "has to be set, as client_certificates is required",
        ),
        (
            {
                "certificate_files": ["c"],
                "client_certificates": "required",
                "client_ca_files": ["a"],
                "client_roles": {"ops": "root"},
            },
            "client_roles.ops",
            "expected viewer, publisher or admin, or one with :TENANT, got 'root'",
        ),
    ],
)
def test_contradictions_are_refused(api: Section, path: str, complaint: str) -> None:
    assert complaints(api) == [(f"api.{path}", complaint)]


def complaints(api: Section) -> list[tuple[str, str]]:
    """What is wrong with a configuration that has this `[api]`: places and words."""
    try:
        make_config(api=api)
    except ValidationError as error:
        contradiction: Contradiction = error.errors()[0]["ctx"]["error"]
        return [(".".join(path), problem) for path, problem in contradiction.problems]
    return []


async def test_holder_of_a_certificate_makes_a_key_unnecessary(authority: Authority, secure: Section) -> None:
    api = {**with_clients(secure, authority), "require_key": True, "client_roles": {"ops": "admin"}}
    config = make_config(api={**api, "bind": "0.0.0.0:0"})
    async with secure_service_with(context_of(authority, authority.issue_client("ops")), api=api) as service:
        await check_keys(KeyRing(service.broker.store.api_keys), config)
        assert (await service.http.get("/v1/tenants")).status_code == 200


def test_certificates_that_are_required_allow_an_address_that_others_reach(
    authority: Authority, secure: Section
) -> None:
    open_to_all = {**secure, "bind": "0.0.0.0:8091"}
    assert [path for path, _ in complaints(open_to_all)] == ["api.bind"]
    assert [path for path, _ in complaints(with_clients(open_to_all, authority, "optional"))] == ["api.bind"]
    assert complaints(with_clients(open_to_all, authority)) == []
