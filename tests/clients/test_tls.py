"""MQTT over TLS, by who speaks it with other libraries: mosquitto's tools, paho, MQTT.js and `openssl s_client`."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest
from clients.conftest import Library
from clients.mqttjs_client import MqttJs
from clients.paho_client import Paho
from clients.stranger import Message, Options, Tls

from support import packets
from support.packets import MQTT_5_0
from support.process import Address, BrokerProcess, Process, run_process, start_broker
from support.tls import Authority

CONFIGURATION = """
[authentication]
chain = ["certificate"]

[certificate]
tenant = "acme"

[listeners.secure]
kind = "tls"
bind = "127.0.0.1:0"
certificate_files = ["{server}"]
client_certificates = "required"
client_ca_files = ["{authority}"]

[listeners.browsers]
kind = "wss"
bind = "127.0.0.1:0"
certificate_files = ["{server}"]
client_certificates = "required"
client_ca_files = ["{authority}"]
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Tls:
    return Tls(authority.file, authority.issue_client("user", "acme"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[BrokerProcess]:
    file = tmp_path_factory.mktemp("broker") / "rookery.toml"
    server = authority.issue("server.pem", "127.0.0.1")
    file.write_text(CONFIGURATION.format(server=server, authority=authority.file), encoding="utf-8")
    with start_broker("--config", str(file)) as broker:
        yield broker


@pytest.fixture(params=["paho", "mqttjs"])
def stranger(request: pytest.FixtureRequest) -> Library:
    """A library with TLS; aiomqtt is paho underneath."""
    if request.param == "paho":
        return Paho
    node = request.getfixturevalue("node")
    return lambda options: MqttJs(node, options)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_cross_between_tls_and_websocket_over_tls(
    broker: BrokerProcess, tls: Tls, stranger: Library, version: int, qos: int
) -> None:
    over_websocket = stranger(
        Options(
            address=broker.addresses["browsers"], version=version, client_id="page", websocket_path="/mqtt", tls=tls
        )
    )
    over_tls = stranger(Options(address=broker.addresses["secure"], version=version, client_id="device", tls=tls))
    sizes = [0, 1, 125, 126, 5_000, 16_384, 65_536, 200_000]
    over_websocket.subscribe("to/page", qos)
    over_tls.subscribe("to/device", qos)
    over_websocket.publish(*(Message(topic="to/device", payload=bytes(size), qos=qos) for size in sizes))
    over_tls.publish(*(Message(topic="to/page", payload=bytes(size), qos=qos) for size in sizes))
    for receiver in (over_websocket, over_tls):
        assert [len(receiver.receive().payload) for _ in sizes] == sizes
        receiver.disconnect()


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("tls_version", ["tlsv1.2", "tlsv1.3"])
def test_mosquitto_tools_publish_and_subscribe_with_certificates(
    broker: BrokerProcess, tls: Tls, version: str, tls_version: str
) -> None:
    address = broker.addresses["secure"]
    files = ("--cafile", tls.authority_file, "--cert", tls.certificate_file, "--key", tls.certificate_file)
    target = ("-h", address.host, "-p", str(address.port), "-V", version, *files, "--tls-version", tls_version)
    with run_process("stdbuf", "-oL", "mosquitto_sub", *target, "-d", "-t", "a/#", "-q", "2", "-C", "2") as subscriber:
        subscriber.stdout.expect("^Subscribed ")
        for payload in ("one", "two"):
            with run_process("mosquitto_pub", *target, "-t", "a/b", "-m", payload, "-q", "2") as publisher:
                assert publisher.wait() == 0, publisher
        assert subscriber.wait() == 0, subscriber
        assert [line for line in subscriber.stdout.lines if line in ("one", "two")] == ["one", "two"]


def test_mosquitto_tools_without_a_certificate_are_refused(broker: BrokerProcess, tls: Tls) -> None:
    address = broker.addresses["secure"]
    target = ("-h", address.host, "-p", str(address.port), "--cafile", tls.authority_file)
    with run_process("mosquitto_pub", *target, "-t", "a", "-m", "x", "-q", "1") as publisher:
        assert publisher.wait() != 0


@contextlib.contextmanager
def _s_client(address: Address, tls: Tls, *arguments: str) -> Iterator[Process]:
    """`openssl s_client` that has connected and subscribed to the topic `a`; see _say."""
    files = ("-CAfile", tls.authority_file, "-cert", tls.certificate_file, "-key", tls.certificate_file)
    command = ("openssl", "s_client", "-connect", str(address), "-verify_return_error", *files, *arguments)
    with run_process(*command, stdin=subprocess.PIPE) as process:
        process.stdout.expect("Verify return code: 0")
        connect = packets.encode(packets.Connect(client_id="c"), MQTT_5_0)
        subscribe = packets.encode(
            packets.Subscribe(packet_id=1, subscriptions=(packets.Subscription(topic_filter="a"),)), MQTT_5_0
        )
        _say(process, connect + subscribe)
        yield process


def _say(process: Process, data: bytes) -> None:
    """Send data; alone, b"K" is an order to s_client to update keys, b"R" one to renegotiate."""
    assert process.popen.stdin is not None
    stream = process.popen.stdin.buffer  # type: ignore[attr-defined]
    stream.write(data)
    stream.flush()


def _hear_oneself(process: Process, word: str) -> None:
    # Between line feeds: it shall be a line of its own in the output.
    _say(process, packets.encode(packets.Publish(topic="a", payload=f"\n{word}\n".encode()), MQTT_5_0))
    process.stdout.expect(f"^{word}$")


def test_keys_are_updated_when_the_client_asks(broker: BrokerProcess, tls: Tls) -> None:
    with _s_client(broker.addresses["secure"], tls, "-tls1_3", "-alpn", "mqtt") as process:
        process.stdout.expect("^ALPN protocol: mqtt$")
        _hear_oneself(process, "before")
        _say(process, b"K\n")  # The server has to update its own, too [RFC 8446 4.6.3].
        process.stderr.expect("KEYUPDATE")
        _hear_oneself(process, "after")


def test_client_that_likes_chacha20_best_gets_it(broker: BrokerProcess, tls: Tls) -> None:
    liked = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
    with _s_client(broker.addresses["secure"], tls, "-tls1_3", "-ciphersuites", liked) as process:
        process.stdout.expect("Cipher is TLS_CHACHA20_POLY1305_SHA256")
        _hear_oneself(process, "heard")


def test_renegotiation_is_refused(broker: BrokerProcess, tls: Tls) -> None:
    with _s_client(broker.addresses["secure"], tls, "-tls1_2") as process:
        _hear_oneself(process, "before")
        _say(process, b"R\n")
        process.stderr.expect("no renegotiation")
