"""Listeners that say of which tenant their clients are, and that have authenticators of their own."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rookery.server.auth.password_file import edit_passwords
from rookery.server.auth.passwords import hash_password
from rookery.server.auth.scram import ScramCredential
from rookery.server.broker import Broker
from rookery.server.tenancy import tenant_of_path
from support import packets, tls
from support.mqtt_client import Client, open_connection
from support.own_broker import broker_with
from support.tls import Authority
from support.websocket import open_websocket

NOT_AUTHORIZED = 0x87
BAD_USER = 0x86


@asynccontextmanager
async def _plain(broker: Broker, name: str = "own") -> AsyncIterator[Client]:
    address = broker.mqtt_address if name == "mqtt" else broker.addresses[name]
    async with open_connection((address.host, address.port)) as client:
        yield client


async def _code(client: Client, username: str | None = None, **fields: Any) -> int:
    connack = await client.connect(client_id="c", username=username, **fields)
    assert isinstance(connack, packets.Connack)
    return connack.reason_code


OWN = {"kind": "tcp", "bind": "127.0.0.1:0", "tenant": "acme"}


@pytest.mark.parametrize(
    ("username", "user"), [(None, "DevUser"), ("car", "car"), ("acme/car", "car"), ("acme/", None), ("firm/car", None)]
)
async def test_clients_of_a_listener_are_of_its_tenant(username: str | None, user: str | None) -> None:
    async with broker_with(listeners={"own": OWN}) as broker, _plain(broker) as client:
        code = await _code(client, username)
        if user is None:
            assert code == NOT_AUTHORIZED
        else:
            assert code == 0
            assert await broker.sessions.find("acme", user, "c") is not None


async def test_listener_of_mqtt_may_have_a_tenant_and_others_none() -> None:
    other = {"kind": "tcp", "bind": "127.0.0.1:0"}
    async with broker_with(mqtt={"tenant": "acme"}, listeners={"own": other}) as broker:
        async with _plain(broker, "mqtt") as client:
            assert await _code(client, "firm/car") == NOT_AUTHORIZED
        async with _plain(broker) as client:
            assert await _code(client, "firm/car") == 0


async def test_user_of_the_password_file_needs_no_tenant_in_his_name(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    edit_passwords(file, {"acme/car": hash_password("secret")})
    sections = {"chain": ["password-file"], "password_file": str(file)}
    async with broker_with(listeners={"own": OWN}, authentication=sections) as broker:
        for username in ("car", "acme/car"):
            async with _plain(broker) as client:
                assert await _code(client, username, password=b"secret") == 0
        async with _plain(broker) as client:
            assert await _code(client, "firm/car", password=b"secret") == BAD_USER


@pytest.mark.parametrize(
    ("path", "tenant"),
    [
        ("/mqtt/acme", "acme"),
        ("/mqtt/a%20b", "a b"),
        ("/mqtt/a%2Fb", None),
        ("/mqtt/%00", None),
        ("/mqtt/%ff", None),
        ("/mqtt/", None),
        ("/mqtt", None),
        ("/other/acme", None),
        ("/mqtt/acme/more", None),
    ],
)
def test_path_names_a_tenant_behind_the_base(path: str, tenant: str | None) -> None:
    assert tenant_of_path(path, "/mqtt") == tenant
    assert tenant_of_path(path, "/mqtt/") == tenant


async def test_tenant_is_the_end_of_the_path() -> None:
    web = {"kind": "ws", "bind": "127.0.0.1:0", "tenant_from": "path"}
    async with broker_with(listeners={"own": web}) as broker:
        for path, status in (("/mqtt/acme?x=1", 101), ("/mqtt", 404), ("/mqtt/", 404), ("/else/acme", 404)):
            async with open_websocket(broker.addresses["own"], path) as (pipe, response):
                assert response.status_code == status
                if status == 101:
                    assert await _code(Client(pipe), "car") == 0
                    assert await broker.sessions.find("acme", "car", "c") is not None


async def test_tenant_is_the_first_label_of_the_server_name(authority: Authority) -> None:
    certificate = authority.issue("server.pem", "*.mqtt.example.org")
    section = {
        "kind": "tls",
        "bind": "127.0.0.1:0",
        "certificate_files": [certificate],
        "tenant_from": "server_name",
    }
    context = tls.client_context(authority)
    context.check_hostname = False
    async with broker_with(listeners={"own": section}) as broker:
        for name, code in (("Acme.mqtt.example.org", 0), ("localhost", NOT_AUTHORIZED), (None, NOT_AUTHORIZED)):
            async with tls.open_tls(broker.addresses["own"], context, name) as stream:
                assert await _code(Client(stream), "car") == code
                if code == 0:
                    assert await broker.sessions.find("acme", "car", "c") is not None


async def test_tenant_is_that_of_the_certificate_whoever_authenticates(authority: Authority, certificate: str) -> None:
    section = tls.with_clients(
        {
            "kind": "tls",
            "bind": "127.0.0.1:0",
            "certificate_files": [certificate],
            "tenant_from": "certificate",
        },
        authority,
        "optional",
    )
    with_certificate = tls.client_context(authority, authority.issue_client("gateway", "acme"))
    without = tls.client_context(authority)
    cases: tuple[tuple[ssl.SSLContext, str, int], ...] = (
        (with_certificate, "car", 0),
        (with_certificate, "firm/car", NOT_AUTHORIZED),
        (without, "car", NOT_AUTHORIZED),
    )
    async with broker_with(listeners={"own": section}) as broker:
        for context, username, code in cases:
            async with tls.open_tls(broker.addresses["own"], context) as stream:
                assert await _code(Client(stream), username) == code


async def test_listener_asks_authenticators_of_its_own(authority: Authority, certificate: str) -> None:
    secure = tls.with_clients(
        {"kind": "tls", "bind": "127.0.0.1:0", "certificate_files": [certificate], "authenticators": ["certificate"]},
        authority,
        "optional",
    )
    context = tls.client_context(authority, authority.issue_client("car", "acme"))
    async with broker_with(listeners={"secure": secure, "own": {"kind": "tcp", "bind": "127.0.0.1:0"}}) as broker:
        async with tls.connect(broker.addresses["secure"], context, client_id="c"):
            assert await broker.sessions.find("acme", "car", "c") is not None
        async with tls.open_tls(broker.addresses["secure"], tls.client_context(authority)) as stream:
            assert await _code(Client(stream), "firm/car") == BAD_USER
        async with _plain(broker) as client:
            assert await _code(client, "firm/car") == 0


async def test_listener_with_authenticators_of_its_own_offers_no_enhanced_authentication() -> None:
    own = {"kind": "tcp", "bind": "127.0.0.1:0", "authenticators": ["development"]}
    line = ScramCredential.of_password("secret").print()
    async with (
        broker_with(listeners={"own": own}, scram={"acme/car": line}) as broker,
        _plain(broker) as client,
    ):
        code = await _code(client, authentication_method="SCRAM-SHA-256", authentication_data=b"n,,n=acme/car,r=x")
        assert code == 0x8C
