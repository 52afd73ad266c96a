"""The examples do what their words say."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from support import mqtt_client
from support.own_broker import broker_with, connect
from support.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"
DEADLINE_S = 10


@pytest.fixture(autouse=True)
def find_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def service() -> Iterator[tuple[str, list[Any]]]:
    """A web service: its address, and what was posted to it."""
    posted: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/events", posted
    server.shutdown()
    server.server_close()
    thread.join()


async def test_event_webhook_posts_connects_and_disconnects(service: tuple[str, list[Any]]) -> None:
    url, posted = service
    section = {"use": "event_webhook:EventWebhook", "options": {"url": url}}
    async with broker_with(plugins={"webhook": section}) as broker:
        async with connect(broker, client_id="c", username="acme/bob"):
            pass
        with trio.fail_after(5):  # The broker reads the DISCONNECT before it hears that it is to stop.
            while await broker.sessions.find("acme", "bob", "c") is not None:
                await trio.lowlevel.checkpoint()
    connected, disconnected = posted
    assert (connected["type"], connected["tenant_id"], connected["client_id"]) == ("ClientConnected", "acme", "c")
    assert (disconnected["type"], disconnected["cause"]) == ("ClientDisconnected", 1)


PLANS = """
[plans.free]
MaximumQoS = 0
[plans.paid]
MaximumQoS = 1
[tenants.acme]
plan = "free"
[tenants.far]
region = "us"
[regions.us]
server = "us.mqtt.example.org:1883"
"""


async def test_tenant_plans_give_limits_follow_the_file_and_redirect(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(PLANS)
    options = {"file": str(file), "region": "eu"}
    section = {"use": "tenant_plans:TenantPlans", "refresh_s": 0.01, "options": options}
    async with broker_with(plugins={"plans": section}) as broker:
        async with connect(broker, client_id="c", username="acme/bob") as client:
            assert client.connack is not None
            assert client.connack.maximum_qos == 0
        with pytest.raises(mqtt_client.ConnectionRefused) as refusal:
            async with connect(broker, client_id="c", username="far/bob"):
                pytest.fail("it was let in")
        assert refusal.value.connack.server_reference == "us.mqtt.example.org:1883"
        file.write_text(PLANS.replace('plan = "free"', 'plan = "paid"'))
        os.utime(file, ns=(1, 1))  # another time than before, however coarse the clock of the disk is
        await eventually(lambda: broker.settings_of("acme").maximum_qos == 1)


async def test_tenant_plans_without_their_file_keep_the_broker_from_starting(tmp_path: Path) -> None:
    section = {"use": "tenant_plans:TenantPlans", "options": {"file": str(tmp_path / "none.toml"), "region": "eu"}}
    with pytest.raises(Exception, match=r"cannot be made: FileNotFoundError.*none\.toml"):
        async with broker_with(plugins={"plans": section}):
            pytest.fail("it started")


async def test_message_archive_writes_what_is_published(tmp_path: Path) -> None:
    file = tmp_path / "messages.db"
    options = {"file": str(file), "topics": {"acme": ["meters/+/reading"]}}
    section = {"use": "message_archive:MessageArchive", "options": options}

    def rows() -> list[Any]:
        with closing(sqlite3.connect(file)) as database:
            return database.execute("SELECT tenant, topic, payload FROM message ORDER BY rowid").fetchall()

    async with (
        broker_with(plugins={"archive": section}) as broker,
        connect(broker, client_id="meter", username="acme/meter") as meter,
    ):
        with trio.fail_after(DEADLINE_S):
            while not rows():
                await meter.publish("meters/7/reading", b"42", qos=1)
        await meter.publish("meters/7/error", b"none", qos=1)
        await meter.publish("meters/8/reading", b"43", qos=1)
        await eventually(lambda: ("acme", "meters/8/reading", b"43") in rows())
    assert {row[1] for row in rows()} == {"meters/7/reading", "meters/8/reading"}


async def test_message_archive_that_cannot_be_written_keeps_the_broker_from_starting(tmp_path: Path) -> None:
    section = {"use": "message_archive:MessageArchive", "options": {"file": str(tmp_path / "no" / "f"), "topics": {}}}
    with pytest.raises(Exception, match="cannot be made: OperationalError: unable to open database file"):
        async with broker_with(plugins={"archive": section}):
            pytest.fail("it started")
