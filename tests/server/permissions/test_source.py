"""Rules reach the clients: from the file, from an authenticator, from a source that fails; also when reloaded."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule_set import Permissions
from rookery.server.auth.authenticator import Admitted, Decision
from rookery.server.broker import Broker
from rookery.server.permissions import RulesFileError
from support import mqtt_client
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect
from support.permission_rules import allow
from support.process import READY_DEADLINE_S, rookery_command, rookery_only, run_process, start_rookery

NOT_AUTHORIZED = 0x87
LOOPBACK = ("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data", "memory")


def rule(topic_filter: str, **keys: str) -> str:
    return f'[[rules]]\neffect = "allow"\naction = "all"\nfilter = "{topic_filter}"\n' + "".join(
        f'{key} = "{value}"\n' for key, value in keys.items()
    )


def write(file: Path, text: str) -> None:
    """A few bytes, so that an async test may do it, too."""
    file.write_text(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(rule("dev/%c/#") + rule("all/#", tenant="red", user="chief"))
    return file


@pytest.fixture
async def broker(file: Path) -> AsyncIterator[Broker]:
    async with broker_with(permissions={"file": str(file)}) as opened:
        yield opened


async def codes_of(broker: Broker, client_id: str, username: str, *topic_filters: str) -> tuple[int, ...]:
    async with connect(broker, client_id=client_id, username=username) as client:
        return (await client.subscribe(*topic_filters)).reason_codes


async def test_file_says_what_clients_may_do(broker: Broker) -> None:
    assert await codes_of(broker, "one", "red/bob", "dev/one/#", "dev/two/#", "all/#") == (0, 0x87, 0x87)
    assert await codes_of(broker, "two", "red/chief", "dev/one/#", "all/#") == (0x87, 0)
    assert await codes_of(broker, "two", "blue/chief", "dev/two/#", "all/#") == (0, 0x87)


async def test_reload_is_in_force_for_open_connections(broker: Broker, file: Path) -> None:
    async with connect(broker, client_id="c") as client:
        assert (await client.subscribe("dev/c/#")).reason_codes == (0,)
        write(file, rule("other"))
        await broker.reload()
        puback = await client.publish("dev/c/x", qos=1)
        assert puback is not None
        assert puback.reason_code == NOT_AUTHORIZED
        assert (await client.subscribe("other")).reason_codes == (0,)
        await client.publish("other", b"x")
        assert (await client.receive_message()).topic == "other"


async def test_reload_of_a_wrong_file_keeps_the_rules(broker: Broker, file: Path) -> None:
    write(file, "")
    await broker.reload()
    await trio.Path(file).unlink()
    await broker.reload()
    assert await codes_of(broker, "one", "red/bob", "dev/one/#", "all/#") == (0, 0x87)


async def test_wrong_file_keeps_the_broker_from_opening(tmp_path: Path) -> None:
    with pytest.raises(RulesFileError):
        async with broker_with(permissions={"file": str(tmp_path / "missing")}):
            pass


async def test_permissions_of_the_authenticator_stand_above_the_file(file: Path) -> None:
    class Authenticator:
        permissions: Permissions | None = Permissions([allow("own")])

        async def authenticate(self, request: ConnectRequested) -> Decision:
            await trio.lowlevel.checkpoint()
            return Admitted("t", "u", permissions=self.permissions)

    authenticator = Authenticator()
    async with broker_with(authenticator, permissions={"file": str(file)}) as broker:
        assert await codes_of(broker, "c", "", "own", "dev/c/#") == (0, 0x87)
        authenticator.permissions = Permissions()  # no rule is not the same as no rules
        assert await codes_of(broker, "d", "", "own", "dev/d/#") == (0x87, 0x87)


@pytest.mark.parametrize("is_bypassed", [True, False])
async def test_source_that_fails_lets_in_only_where_the_tenant_says_so(is_bypassed: bool) -> None:
    class Source:
        def permissions_of(self, tenant_id: str, user_id: str, client_id: str) -> Permissions | None:
            raise RuntimeError("no rules today")

    async with broker_with(settings={"ByPassPermCheckError": is_bypassed}) as broker:
        broker.admission._permission_source = Source()
        if is_bypassed:
            assert await codes_of(broker, "c", "", "#") == (0,)
        else:
            with pytest.raises(ConnectionRefused):
                await codes_of(broker, "c", "", "#")


async def test_denied_publication_disconnects_where_the_configuration_says_so(file: Path) -> None:
    async with (
        broker_with(permissions={"file": str(file), "denied_publish": "disconnect"}) as broker,
        connect(broker, client_id="c") as client,
    ):
        await client.publish("other", b"x")
        farewell = await client.expect_closed()
        assert farewell is not None
        assert farewell.reason_code == NOT_AUTHORIZED


async def test_default_allow_denies_only_what_a_rule_denies(file: Path) -> None:
    write(file, '[[rules]]\neffect = "deny"\naction = "subscribe"\nfilter = "secret/#"\n')
    async with broker_with(permissions={"file": str(file), "default": "allow"}) as broker:
        assert await codes_of(broker, "c", "", "open/#", "secret/x", "#") == (0, 0x87, 0x87)


@rookery_only
async def test_process_reads_rules_again_at_sighup(tmp_path: Path, file: Path) -> None:
    config = tmp_path / "rookery.toml"
    config.write_text(f'[permissions]\nfile = "{file}"\n')
    with start_rookery("--config", str(config), *LOOPBACK) as process:
        async with mqtt_client.connect((process.mqtt.host, process.mqtt.port), client_id="c") as client:
            assert (await client.subscribe("new")).reason_codes == (NOT_AUTHORIZED,)
            write(file, rule("new"))
            process.process.signal(signal.SIGHUP)
            await trio.to_thread.run_sync(process.process.stderr.expect, "permissions_reloaded")
            assert (await client.subscribe("new")).reason_codes == (0,)


@rookery_only
@pytest.mark.parametrize("command", ["serve", "check"])
def test_process_does_not_start_with_rules_that_do_not_parse(tmp_path: Path, file: Path, command: str) -> None:
    config = tmp_path / "rookery.toml"
    config.write_text(f'[permissions]\nfile = "{file}"\n')
    file.write_text(rule("a/#/b"))
    arguments = ("--config", str(config), *(LOOPBACK if command == "serve" else ()))
    with run_process(*rookery_command(command, *arguments)) as process:
        process.wait(READY_DEADLINE_S)
        assert process.popen.returncode == 78
        assert process.stderr.lines[-1].startswith(f"rookery: {file}:1: topic filter 'a/#/b': ")
