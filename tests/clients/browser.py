"""A page in headless Chromium that speaks MQTT by MQTT.js: what page/ says, called by way of chromedriver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from selenium.common.exceptions import JavascriptException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from support.document_server import Answer, Asked, DocumentServer, serve_documents
from support.process import Address

from .mqttjs_client import install_mqttjs

SOURCE: Final = Path(__file__).parent / "page"
SCRIPT_DEADLINE_S: Final = 60.0

ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",  # Tests may run as root, and in containers.
    "--disable-dev-shm-usage",  # Shared memory of containers is small.
    "--disable-gpu",
    "--no-proxy-server",
    "--disable-background-networking",
    "--no-first-run",
)

# Settles the promise of a function of the page; what it rejects with is an answer, too.
_CALL: Final = """
const done = arguments[arguments.length - 1]
const [name, ...rest] = Array.from(arguments).slice(0, -1)
window[name](...rest).then((result) => done({ result }), (error) => done({ error: String(error) }))
"""


class Page:
    """One page that is open, in a tab of its own. RuntimeError with the text of a JavaScript error."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self._driver = driver
        self._home = driver.current_window_handle
        self._is_open = True
        driver.switch_to.new_window("tab")
        driver.get(url)

    def connect(self, address: Address, path: str, version: int, client_id: str, **options: Any) -> None:
        """options are those of MQTT.js."""
        url = f"ws://{address}{path}"
        self._call("connect", url, {"protocolVersion": version, "clientId": client_id, **options})

    def echo(self, topic_filter: str, topic: str) -> int:
        """Send all that comes to topic_filter on to topic; the granted QoS."""
        granted: int = self._call("echo", topic_filter, topic)
        return granted

    def disconnect(self) -> None:
        self._call("disconnect")

    def leave(self) -> None:
        """Close the tab, as a user does: nobody says goodbye to the broker."""
        if self._is_open:
            self._is_open = False
            self._driver.close()
            self._driver.switch_to.window(self._home)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            answer = self._driver.execute_async_script(_CALL, name, *arguments)
        except JavascriptException as error:
            raise RuntimeError(error.msg) from error
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("result")


def has_chromium() -> bool:
    """With its driver."""
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """A browser that keeps what it keeps in folder, and ends with the block."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(SCRIPT_DEADLINE_S)
        yield driver
    finally:
        driver.quit()


@contextmanager
def serve_page() -> Iterator[DocumentServer]:
    """The page at the root of a server of its own, with MQTT.js as its makers bundle it for pages."""
    files = {
        "/": SOURCE / "index.html",
        "/page.js": SOURCE / "page.js",
        "/mqtt.min.js": install_mqttjs() / "mqtt" / "dist" / "mqtt.min.js",
    }

    def answer(asked: Asked) -> Answer:
        file = files.get(asked.path)
        return (404, b"") if file is None else (200, file.read_bytes())

    with serve_documents(answer) as documents:
        yield documents
