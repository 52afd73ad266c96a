"""Usernames and who they are, as BifroMQ's development authenticator has it."""

import pytest

from rookery.core.events import ConnectRequested
from rookery.server.auth.authenticator import Admitted, ImmediateAuthenticator
from rookery.server.auth.chain import chain_of
from rookery.server.auth.development import DevelopmentAuthenticator


def connect_as(username: str | None) -> ConnectRequested:
    return ConnectRequested(
        connection=1,
        listener_id=0,
        peer="127.0.0.1:5",
        protocol_version=5,
        client_id="c",
        username=username,
        password=b"whatever",
        clean_start=True,
    )


@pytest.mark.parametrize(
    ("username", "tenant_id", "user_id"),
    [
        ("acme/bob", "acme", "bob"),
        ("ä/ö", "ä", "ö"),
        ("bob", "DevOnly", "bob"),
        (None, "DevOnly", "DevUser"),
        ("", "DevOnly", "DevUser"),
        ("acme/", "DevOnly", "acme/"),
        ("/bob", "DevOnly", "/bob"),
        ("/", "DevOnly", "/"),
        ("a/b/c", "DevOnly", "a/b/c"),
        ("a//c", "DevOnly", "a//c"),
    ],
)
async def test_username_says_tenant_and_user(username: str | None, tenant_id: str, user_id: str) -> None:
    authenticator = DevelopmentAuthenticator()
    assert authenticator.decide(connect_as(username)) == Admitted(tenant_id, user_id, {})
    assert await authenticator.authenticate(connect_as(username)) == Admitted(tenant_id, user_id, {})


def test_it_decides_without_a_task() -> None:
    assert isinstance(chain_of([DevelopmentAuthenticator()]), ImmediateAuthenticator)
