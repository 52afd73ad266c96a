"""Clients that a shard lets in by itself: who is, and that a change of mind is in force for the next one."""

import time
from pathlib import Path

import pytest

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted, Decision
from rookery.server.auth.chain import NOT_MINE, Chain, NotMine
from rookery.server.auth.password_file import edit_passwords
from rookery.server.auth.passwords import hash_password
from rookery.server.broker import Broker
from rookery.server.plugins import Client
from rookery.server.store import Ban, BanKind
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect

HASH = hash_password("right")
BOB = {"username": "acme/bob", "password": b"right"}


async def code_of(broker: Broker, **fields: object) -> int:
    try:
        async with connect(broker, client_id="c", **fields):
            return 0
    except ConnectionRefused as refused:
        return refused.connack.reason_code


async def recalled(broker: Broker) -> int:
    return sum(shard.verdicts_recalled for shard in await broker.statistics())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    edit_passwords(path, {"acme/bob": HASH})
    return path


async def test_development_is_asked_once_about_each_user() -> None:
    async with broker_with(shards={"count": 1}) as broker:
        for username in ("acme/bob", "acme/bob", "acme/ann", "acme/bob", None, None):
            assert await code_of(broker, username=username) == 0
        assert await recalled(broker) == 3
        assert broker.admission.admitted_count == 3
        assert await broker.sessions.find("acme", "bob", "c") is None


async def test_right_password_is_recalled_and_a_wrong_one_never(file: Path) -> None:
    section = {"chain": ["password-file"], "password_file": str(file)}
    async with broker_with(authentication=section, shards={"count": 1}) as broker:
        assert await code_of(broker, **BOB) == 0
        assert await code_of(broker, **BOB) == 0
        assert await recalled(broker) == 1
        for _ in range(2):
            code = await code_of(broker, username="acme/bob", password=b"wrong")
            assert code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
        assert await recalled(broker) == 1
        edit_passwords(file, {"acme/bob": hash_password("other")})
        await broker.reload()
        assert await code_of(broker, **BOB) == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_success_that_is_not_to_be_remembered_is_asked_about_again(file: Path) -> None:
    section = {"chain": ["password-file"], "password_file": str(file), "remember_s": 0}
    async with broker_with(authentication=section, shards={"count": 1}) as broker:
        assert await code_of(broker, **BOB) == 0
        assert await code_of(broker, **BOB) == 0
        assert await recalled(broker) == 0


async def test_everybody_is_asked_about_while_there_is_a_ban() -> None:
    async with broker_with(shards={"count": 1}) as broker:
        assert await code_of(broker, **BOB) == 0
        ban = await broker.bans.put(Ban(BanKind.CLIENT, "c", "acme", expires_at_s=int(time.time()) + 60))
        assert await code_of(broker, **BOB) == ReasonCode.BANNED
        assert await code_of(broker, username="other/ann") == 0
        assert await code_of(broker, username="other/ann") == 0
        assert await recalled(broker) == 0
        await broker.bans.remove(ban.ban_id)
        assert await code_of(broker, **BOB) == 0
        assert await code_of(broker, **BOB) == 0
        assert await recalled(broker) == 1


class Balancer:
    """A plugin that is asked about each client, and sends none elsewhere."""

    async def balance(self, client: Client) -> None:
        return None


async def test_everybody_is_asked_about_where_a_plugin_is_to_be_asked() -> None:
    async with broker_with(plugins={"it": {"use": f"{__name__}:Balancer"}}, shards={"count": 1}) as broker:
        for _ in range(3):
            assert await code_of(broker, **BOB) == 0
        assert await recalled(broker) == 0


class Leaving:
    """A link that leaves everybody to the next."""

    def __init__(self, *, leaves_lastingly: bool) -> None:
        self.leaves_lastingly = leaves_lastingly

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        return NOT_MINE


class Admitting:
    async def authenticate(self, request: ConnectRequested) -> Decision:
        return Admitted("acme", "bob", remember_s=60)


@pytest.mark.parametrize(("leaves_lastingly", "remember_s"), [(True, 60), (False, 0)])
async def test_admission_lasts_only_where_all_asked_before_would_leave_the_client_again(
    leaves_lastingly: bool, remember_s: float
) -> None:
    request = ConnectRequested(1, 0, "192.0.2.1:4711", 5, "c", "acme/bob", b"right", clean_start=True)
    chain = Chain([Leaving(leaves_lastingly=True), Leaving(leaves_lastingly=leaves_lastingly), Admitting()])
    decision = await chain.authenticate(request)
    assert isinstance(decision, Admitted)
    assert decision.remember_s == remember_s
