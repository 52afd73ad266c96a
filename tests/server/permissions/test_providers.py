"""Rules that plugins and a service have for clients: whose hold, and what happens when they cannot say."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from rookery.core.events import ConnectRequested
from rookery.core.permissions.rule import Rule
from rookery.core.permissions.rule_set import Permissions
from rookery.server.auth.authenticator import Admitted, Decision
from rookery.server.broker import Broker
from rookery.server.events import AccessControlFailed
from rookery.server.plugins import Client, PermissionProvider
from support.document_server import Answer, Asked, DocumentServer, serve_documents
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect
from support.permission_rules import allow

RULES = [{"effect": "allow", "action": "all", "filter": "service/#"}]


class Provider:
    """A plugin that gives the same rules to everybody, or fails."""

    def __init__(self, topic_filter: str | None = "plugin/#", failure: str = "") -> None:
        self._rules: Any = None if topic_filter is None else [allow(topic_filter)]
        self._failure = failure

    async def provide_rules(self, client: Client) -> Sequence[Rule] | None:
        if self._failure == "raise":
            raise LookupError(client.user_id)
        if self._failure == "nonsense":
            return ["publish everything"]  # type: ignore[list-item]
        if self._failure == "too many":
            return [allow("a")] * 1001
        rules: Sequence[Rule] | None = self._rules
        return rules


def plugins(**options: Any) -> dict[str, Any]:
    return {"plugins": {"rules": {"use": f"{__name__}:Provider", "options": options}}}


@pytest.fixture
def service() -> Iterator[DocumentServer]:
    with serve_documents(json_answer({"rules": RULES})) as server:
        yield server


def json_answer(answer: object) -> Callable[[Asked], Answer]:
    return lambda asked: (200, json.dumps(answer).encode())


def called_out(service: DocumentServer, **section: Any) -> dict[str, Any]:
    return {"permission_call_out": {"url": service.url, **section}}


async def codes_of(broker: Broker, *topic_filters: str, username: str = "acme/bob") -> tuple[int, ...]:
    async with connect(broker, client_id="c", username=username) as client:
        return (await client.subscribe(*topic_filters)).reason_codes


def test_class_with_the_method_is_a_provider() -> None:
    assert isinstance(Provider(), PermissionProvider)


async def test_rules_of_a_plugin_hold_for_its_client() -> None:
    async with broker_with(**plugins()) as broker:
        assert await codes_of(broker, "plugin/#", "other") == (0, 0x87)


async def test_rules_of_a_service_hold_for_its_client_and_are_remembered(service: DocumentServer) -> None:
    async with broker_with(**called_out(service)) as broker:
        for _ in range(3):
            assert await codes_of(broker, "service/#", "other") == (0, 0x87)
        assert [json.loads(asked.body) for asked in service.asked] == [
            {"tenant_id": "acme", "user_id": "bob", "client_id": "c", "address": "127.0.0.1", "attributes": {}}
        ]
        service.answer = json_answer({"rules": []})
        await broker.reload()
        assert await codes_of(broker, "service/#") == (0x87,)


async def test_the_first_who_has_rules_wins(service: DocumentServer) -> None:
    async with broker_with(**called_out(service), **plugins()) as broker:
        assert await codes_of(broker, "plugin/#", "service/#") == (0, 0x87)
    async with broker_with(**called_out(service), **plugins(topic_filter=None)) as broker:
        assert await codes_of(broker, "plugin/#", "service/#") == (0x87, 0)


async def test_whom_nobody_knows_the_database_does(service: DocumentServer) -> None:
    service.answer = json_answer({"rules": None})
    async with broker_with(**called_out(service), permissions={"database": True}) as broker:
        await broker.rules.add(allow("database/#"))
        assert await codes_of(broker, "database/#", "service/#") == (0, 0x87)


async def test_rules_of_the_authenticator_stand_above_all(service: DocumentServer) -> None:
    class Authenticator:
        async def authenticate(self, request: ConnectRequested) -> Decision:
            return Admitted("t", "u", permissions=Permissions([allow("own")]))

    async with broker_with(Authenticator(), **called_out(service)) as broker:
        assert await codes_of(broker, "own", "service/#") == (0, 0x87)
        assert service.asked == []


async def expect_bypass(values: dict[str, Any]) -> None:
    """Who fails lets in where the tenant says so, with what is left of the rules; else nobody."""
    settings = {"settings": {"ByPassPermCheckError": False}}
    async with broker_with(**values, tenants={"strict": settings}, permissions={"database": True}) as broker:
        await broker.rules.add(allow("left/#"))
        with broker.events.subscribe(AccessControlFailed) as stream:
            assert await codes_of(broker, "left/#", "other") == (0, 0x87)
            (event,) = stream.take_waiting(10)
            assert isinstance(event, AccessControlFailed)
            assert event.is_bypassed
            assert event.reason
        with pytest.raises(ConnectionRefused) as raised:
            await codes_of(broker, "left/#", username="strict/bob")
        assert raised.value.connack.reason_code == 0x80
        assert raised.value.connack.reason_string == "the permissions cannot be had"


@pytest.mark.parametrize("failure", ["raise", "nonsense", "too many"])
async def test_plugin_that_fails_lets_in_only_where_the_tenant_says_so(failure: str) -> None:
    await expect_bypass(plugins(failure=failure))


@pytest.mark.parametrize(
    "answer",
    [
        (500, b""),
        (200, b"{}"),
        (200, b'{"rules": {}}'),
        (200, b'{"rules": [{"effect": "allow"}]}'),
        (200, b"none"),
    ],
)
async def test_service_that_fails_lets_in_only_where_the_tenant_says_so(
    service: DocumentServer, answer: Answer
) -> None:
    service.answer = lambda asked: answer
    await expect_bypass(called_out(service))


async def test_service_without_an_answer_in_time_is_a_failure(service: DocumentServer) -> None:
    service.answer = json_answer({"rules": RULES})
    values = called_out(service, timeout_s=0.000001)
    await expect_bypass(values)
