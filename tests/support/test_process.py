"""The broker as a process, and the raw client over TCP against it."""

import contextlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from support.mqtt_client import ConnectionRefused, connect, open_connection
from support.packets import Pingreq, Pingresp, Puback, Pubcomp, Will
from support.process import Address, BrokerProcess, parse_ready, run_process

every_version = pytest.mark.parametrize("version", [3, 4, 5], ids=["3.1", "3.1.1", "5.0"])


@every_version
async def test_message_comes_back_over_tcp(shared_broker: BrokerProcess, unique: str, version: int) -> None:
    async with connect(shared_broker.mqtt, version=version, client_id=unique) as client:
        assert (await client.subscribe(f"{unique}/+", qos=2)).reason_codes == (2,)
        for qos, end in ((0, None), (1, Puback), (2, Pubcomp)):
            answer = await client.publish(f"{unique}/a", b"x" * qos, qos=qos)
            assert answer is None if end is None else isinstance(answer, end)
            message = await client.receive_message()
            assert (message.topic, message.payload, message.qos) == (f"{unique}/a", b"x" * qos, qos)
        await client.unsubscribe(f"{unique}/+")
        await client.publish(f"{unique}/a", qos=1)
        await client.expect_nothing()
        await client.disconnect()
        assert await client.expect_closed() is None


@every_version
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_dropped_connection_leaves_its_will(
    shared_broker: BrokerProcess, unique: str, version: int, reset: bool
) -> None:
    will = Will(topic=f"{unique}/will", payload=b"gone")
    async with connect(shared_broker.mqtt, client_id=f"{unique}-w") as witness:
        await witness.subscribe(f"{unique}/will")
        async with open_connection(shared_broker.mqtt, version=version) as victim:
            assert (await victim.connect(client_id=f"{unique}-v", will=will)).reason_code == 0
            victim.drop(reset=reset)
        assert (await witness.receive_message()).payload == b"gone"


async def test_any_bytes_can_be_sent(shared_broker: BrokerProcess, unique: str) -> None:
    async with connect(shared_broker.mqtt, client_id=unique) as client:
        await client.send_bytes(b"\xc0")
        await client.send_bytes(b"\x00")
        assert await client.receive() == Pingresp()
        await client.send(Pingreq(), Pingreq())
        assert [await client.receive(), await client.receive()] == [Pingresp(), Pingresp()]
        await client.send_bytes(b"\x00\x00")  # Packet type 0 does not exist.
        await client.expect_closed()


async def test_refused_connection_raises(shared_broker: BrokerProcess) -> None:
    with pytest.raises(ConnectionRefused) as caught:
        async with connect(shared_broker.mqtt, version=4, client_id="", clean_start=False):
            raise AssertionError("3.1.1 allows no empty client id without clean session [MQTT-3.1.3-8 of 3.1.1]")
    assert caught.value.connack.reason_code == 2


def test_fresh_brokers_live_side_by_side(
    broker_process: BrokerProcess, start_broker_process: Callable[..., BrokerProcess]
) -> None:
    other = start_broker_process()
    assert other.mqtt != broker_process.mqtt
    other.stop()
    assert not other.process.is_running
    assert broker_process.process.is_running


def test_killed_broker_is_gone(broker_process: BrokerProcess) -> None:
    broker_process.kill()
    assert broker_process.process.popen.returncode == -9


def test_crash_of_a_broker_comes_to_light(start_broker_process: Callable[..., BrokerProcess]) -> None:
    broker = start_broker_process()
    broker.process.kill()  # Behind the fixture's back, unlike broker.kill().
    with pytest.raises(AssertionError, match="exit code -9"):
        broker.stop()
    broker.kill()


def test_ready_line_is_understood() -> None:
    assert parse_ready("ready mqtt=127.0.0.1:1883 api=[::1]:8080") == {
        "mqtt": Address("127.0.0.1", 1883),
        "api": Address("::1", 8080),
    }
    assert parse_ready("not ready mqtt=127.0.0.1:1883") is None


def test_output_is_awaited_line_by_line_until_its_end() -> None:
    code = "print('one'); print('two'); print('größe', flush=True); input()"
    with run_process(sys.executable, "-X", "utf8", "-c", code, stdin=subprocess.PIPE) as process:
        assert process.stdout.expect("t(.)o")[1] == "w"
        assert process.stdout.expect("^größe$")
        with pytest.raises(TimeoutError, match="nothing suitable"):
            process.stdout.expect("three", deadline_s=0.01)
        assert process.popen.stdin is not None
        process.popen.stdin.close()
        with pytest.raises(AssertionError, match="the output ended"):
            process.stdout.expect("three")


def test_process_does_not_outlive_its_block() -> None:
    with contextlib.suppress(KeyError), run_process(sys.executable, "-c", "input()", stdin=subprocess.PIPE) as process:
        raise KeyError
    assert process.popen.returncode == -9


def test_rookery_settings_do_not_leak_into_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOKERY_SHARDS", "7")
    code = "import os; print([name for name in os.environ if name.startswith('ROOKERY_')])"
    with run_process(sys.executable, "-c", code) as process:
        assert process.wait() == 0
        assert str(process.stdout) == "[]"
