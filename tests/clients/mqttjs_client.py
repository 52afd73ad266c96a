"""MQTT.js in one Node.js process, which js/driver.js makes obey lines of JSON."""

import base64
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from .stranger import DEADLINE_S, MQTT_5_0, Closed, Mailbox, Message, Options, Refused, Stranger

SOURCE: Final = Path(__file__).parent / "js"
BUILD: Final = Path(__file__).parents[2] / "build" / "tests"
NPM_DEADLINE_S: Final = 120

# Our names of properties and those of MQTT.js.
PROPERTY_NAMES: Final = {
    "message_expiry_interval": "messageExpiryInterval",
    "content_type": "contentType",
    "response_topic": "responseTopic",
    "correlation_data": "correlationData",
    "user_properties": "userProperties",
    "subscription_ids": "subscriptionIdentifier",
}


class NotInstalled(Exception):
    """The registry of npm did not give its packages; the text says why."""


def install_mqttjs() -> Path:
    """The folder of installed packages, filled once for each content of the lock file. Raises NotInstalled."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = BUILD / f"mqttjs-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as parent:
            fresh = Path(parent) / "packages"
            fresh.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, fresh)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            try:
                done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=NPM_DEADLINE_S)
            except subprocess.TimeoutExpired:
                raise NotInstalled(f"npm ci took longer than {NPM_DEADLINE_S} s") from None
            if done.returncode != 0:
                raise NotInstalled(f"npm ci failed: {done.stderr}")
            # All or nothing: a broken installation never gets the final name. Another process may have been faster.
            with suppress(OSError):
                fresh.rename(folder)
            assert folder.exists()
    return folder / "node_modules"


class Node:
    """The Node.js process: sends requests, hands answers and events to whom they belong."""

    def __init__(self, requests: IO[str]) -> None:
        self._requests = requests
        self._answers: dict[int, Future[Any]] = {}
        self._mailboxes: dict[int, Mailbox] = {}
        self._request_ids = itertools.count(1)
        self._client_ids = itertools.count(1)

    def add_client(self, mailbox: Mailbox) -> int:
        client = next(self._client_ids)
        self._mailboxes[client] = mailbox
        return client

    def ask(self, client: int, action: str, **arguments: Any) -> Any:
        """Send a request, wait for its answer; RuntimeError with the text of a JavaScript error."""
        request_id = next(self._request_ids)
        answer: Future[Any] = Future()
        self._answers[request_id] = answer
        self._requests.write(json.dumps({"id": request_id, "client": client, "do": action, **arguments}) + "\n")
        self._requests.flush()
        return answer.result(DEADLINE_S)

    def read(self, lines: IO[str]) -> None:
        for line in lines:
            event = json.loads(line)
            if "answer" in event:
                self._answers.pop(event["id"]).set_result(event["answer"])
            elif "error" in event:
                self._answers.pop(event["id"]).set_exception(RuntimeError(event["error"]))
            elif "message" in event:
                self._mailboxes[event["client"]].put(read_message(event["message"]))
            else:
                self._mailboxes[event["client"]].put(Closed(event["closed"]))


@contextmanager
def node_process() -> Iterator[Node]:
    """Node.js with MQTT.js, ready for requests; it ends when its stdin does."""
    process = subprocess.Popen(
        ["node", str(SOURCE / "driver.js")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "NODE_PATH": str(install_mqttjs())},
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    node = Node(process.stdin)
    reader = threading.Thread(target=node.read, args=(process.stdout,))
    reader.start()
    try:
        yield node
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdin.close()
        process.stdout.close()


class MqttJs(Stranger):
    def __init__(self, node: Node, options: Options) -> None:
        self._node = node
        self._version = options.version
        self._mailbox = Mailbox()
        self._client = node.add_client(self._mailbox)
        try:
            connack = node.ask(self._client, "connect", options=write_options(options))
        except RuntimeError as error:
            raise Refused(str(error)) from error
        self.session_present = connack["sessionPresent"]

    def subscribe(self, topic_filter: str, qos: int = 0, *, subscription_id: int | None = None) -> int:
        options: dict[str, Any] = {"qos": qos}
        if subscription_id is not None:
            options["properties"] = {"subscriptionIdentifier": subscription_id}
        answer = self._node.ask(self._client, "subscribe", topicFilter=topic_filter, options=options)
        reason_code: int = answer["reasonCode"]
        return reason_code

    def unsubscribe(self, topic_filter: str) -> None:
        self._node.ask(self._client, "unsubscribe", topicFilter=topic_filter)

    def publish(self, *messages: Message) -> None:
        written = [write_message(message, self._version) for message in messages]
        self._node.ask(self._client, "publish", messages=written)

    def receive(self) -> Message:
        return self._mailbox.receive()

    def expect_closed(self) -> int | None:
        return self._mailbox.expect_closed()

    def disconnect(self) -> None:
        self._node.ask(self._client, "disconnect")

    def drop(self) -> None:
        self._node.ask(self._client, "drop")


def write_options(options: Options) -> dict[str, Any]:
    written: dict[str, Any] = {
        "host": options.address.host,
        "port": options.address.port,
        "protocolVersion": options.version,
        "clientId": options.client_id,
        "clean": options.clean_start,
        "keepalive": options.keep_alive,
    }
    if options.websocket_path is not None:
        written |= {"protocol": "ws", "path": options.websocket_path}
    if options.tls is not None:
        written["protocol"] = "mqtts" if options.websocket_path is None else "wss"
        certificate = Path(options.tls.certificate_file).read_text(encoding="ascii")
        authority = Path(options.tls.authority_file).read_text(encoding="ascii")
        written |= {"ca": authority, "cert": certificate, "key": certificate}
    if options.username is not None:
        written["username"] = options.username
    if options.session_expiry_interval is not None:
        written["properties"] = {"sessionExpiryInterval": options.session_expiry_interval}
    if options.will is not None:
        written["will"] = write_message(options.will, options.version)
        if options.will_delay_interval is not None:
            written["will"]["properties"]["willDelayInterval"] = options.will_delay_interval
    return written


def write_message(message: Message, version: int) -> dict[str, Any]:
    written: dict[str, Any] = {
        "topic": message.topic,
        "payload": base64.b64encode(message.payload).decode(),
        "qos": message.qos,
        "retain": message.retain,
    }
    if version == MQTT_5_0:
        properties = {theirs: getattr(message, ours) for ours, theirs in PROPERTY_NAMES.items()}
        properties = {name: value for name, value in properties.items() if value not in (None, ())}
        if "correlationData" in properties:
            properties["correlationData"] = base64.b64encode(properties["correlationData"]).decode()
        if "userProperties" in properties:
            properties["userProperties"] = group_pairs(properties["userProperties"])
        written["properties"] = properties
    return written


def read_message(message: dict[str, Any]) -> Message:
    properties = {ours: message["properties"].get(theirs) for ours, theirs in PROPERTY_NAMES.items()}
    if properties["correlation_data"] is not None:
        properties["correlation_data"] = base64.b64decode(properties["correlation_data"])
    properties["user_properties"] = ungroup_pairs(properties["user_properties"] or {})
    subscription_ids = properties["subscription_ids"] or []
    properties["subscription_ids"] = tuple(
        subscription_ids if isinstance(subscription_ids, list) else [subscription_ids]
    )
    payload = base64.b64decode(message["payload"])
    return Message(topic=message["topic"], payload=payload, qos=message["qos"], retain=message["retain"], **properties)


def group_pairs(pairs: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """User properties as MQTT.js has them: equal names stand together."""
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def ungroup_pairs(grouped: dict[str, str | list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, values in grouped.items()
        for value in (values if isinstance(values, list) else [values])
    )
