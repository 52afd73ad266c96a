"""MQTT from a page: MQTT.js in headless Chromium, over `ws://`."""

from collections.abc import Iterator

import pytest
from clients.browser import Page, chromium, has_chromium, serve_page
from clients.paho_client import Paho
from clients.stranger import MQTT_3_1_1, Message, Options
from selenium.webdriver import Chrome

from support.process import BrokerProcess, start_broker

CONFIGURATION = """
[listeners.open]
kind = "ws"
bind = "127.0.0.1:0"

[listeners.ours]
kind = "ws"
bind = "127.0.0.1:0"
path = "/over/here"
origins = ["{origin}"]

[listeners.theirs]
kind = "ws"
bind = "127.0.0.1:0"
origins = ["https://dashboard.example.org"]
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not has_chromium():
        pytest.skip("the page needs Chromium: the packages chromium and chromium-driver are not installed")
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def origin(mqttjs: None) -> Iterator[str]:
    with serve_page() as documents:
        yield documents.url


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, origin: str) -> Iterator[BrokerProcess]:
    file = tmp_path_factory.mktemp("browser") / "rookery.toml"
    file.write_text(CONFIGURATION.format(origin=origin), encoding="utf-8")
    with start_broker("--config", str(file)) as broker:
        yield broker


@pytest.fixture
def page(driver: Chrome, origin: str) -> Iterator[Page]:
    page = Page(driver, origin)
    yield page
    page.leave()


@pytest.mark.parametrize("listener", [("open", "/mqtt"), ("ours", "/over/here")], ids=["open", "ours"])
def test_page_publishes_and_subscribes(
    broker: BrokerProcess, page: Page, listener: tuple[str, str], version: int
) -> None:
    name, path = listener
    device = Paho(Options(address=broker.mqtt, version=version, client_id="device"))
    device.subscribe("to/device", 2)
    page.connect(broker.addresses[name], path, version, "page")
    assert page.echo("to/page", "to/device") == 2
    sizes = [0, 1, 125, 126, 5_000, 65_536, 200_000]
    payloads = [bytes(number % 251 for number in range(size)) for size in sizes]
    for qos in (0, 1, 2):
        device.publish(*(Message(topic="to/page", payload=payload, qos=qos) for payload in payloads))
        received = [device.receive() for _ in payloads]
        assert [(message.payload, message.qos) for message in received] == [(payload, qos) for payload in payloads]
    page.disconnect()
    device.disconnect()


def test_will_of_a_page_is_published_when_its_tab_is_closed(broker: BrokerProcess, page: Page) -> None:
    device = Paho(Options(address=broker.mqtt, version=MQTT_3_1_1, client_id="device"))
    device.subscribe("gone", 1)
    will = {"topic": "gone", "payload": "page", "qos": 1, "retain": False}
    page.connect(broker.addresses["ours"], "/over/here", MQTT_3_1_1, "page", will=will)
    page.leave()
    assert device.receive().payload == b"page"
    device.disconnect()


def test_page_of_another_origin_is_refused(broker: BrokerProcess, page: Page) -> None:
    with pytest.raises(RuntimeError):
        page.connect(broker.addresses["theirs"], "/mqtt", MQTT_3_1_1, "page")
    broker.process.stderr.expect("403: invalid Origin.*upgrade_failed")
