"""Plugins: how they are found, where they are asked, and that what they do wrong harms nobody else."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from rookery.core.events import ConnectRequested
from rookery.server.auth.authenticator import Admitted, Decision
from rookery.server.broker import Broker
from rookery.server.config import PluginSection
from rookery.server.events import ClientConnected, ClientDisconnected, Event, SessionEnded
from rookery.server.plugins import Client, PluginError, Redirect, open_plugins
from rookery.server.plugins.guard import FAILURES_IN_A_ROW, Guard, PluginFailed
from rookery.server.plugins.loading import find_factory, make_plugin
from rookery.server.plugins.loop import PluginLoop
from rookery.server.tenant_settings import Layer
from support import mqtt_client
from support.own_broker import broker_with, connect
from support.waiting import eventually

HERE = __name__
made: dict[str, Any] = {}  # plugins of the running test, by the name in their options


@pytest.fixture(autouse=True)
def forget_made() -> None:
    made.clear()


class Plugin:
    """What the plugins of these tests have in common: the test finds them again."""

    def __init__(self, name: str = "it") -> None:
        made[name] = self
        self.threads: set[int] = set()

    def note_thread(self) -> None:
        self.threads.add(threading.get_ident())


class Collector(Plugin):
    event_types: Sequence[type[Event]] = (ClientConnected, ClientDisconnected, SessionEnded)

    def __init__(self, name: str = "it") -> None:
        super().__init__(name)
        self.events: list[Event] = []
        self.is_entered = False
        self.is_left = False

    async def __aenter__(self) -> "Collector":
        self.is_entered = True
        return self

    async def __aexit__(self, *error: object) -> None:
        self.is_left = True

    async def collect(self, event: Event) -> None:
        self.note_thread()
        self.events.append(event)


class FailingCollector(Collector):
    async def collect(self, event: Event) -> None:
        raise LookupError("no such thing")


class BlockingCollector(Collector):
    """Holds up its loop, as a plugin that calls something synchronous does."""

    def __init__(self, name: str = "it") -> None:
        super().__init__(name)
        self.may_go_on = threading.Event()

    async def collect(self, event: Event) -> None:
        self.may_go_on.wait(10)


class Settings(Plugin):
    def __init__(self, name: str = "it", **values: bool | int | str) -> None:
        super().__init__(name)
        self.values: Mapping[str, bool | int | str] = values
        self.asked: list[str] = []
        self.fails = False

    async def provide_settings(self, tenant_id: str) -> Mapping[str, bool | int | str] | None:
        self.asked.append(tenant_id)
        if self.fails:
            raise ConnectionError("the source of settings is away")
        return self.values if tenant_id == "acme" else None


class Balancer(Plugin):
    async def balance(self, client: Client) -> Redirect | None:
        if client.user_id == "mover":
            return Redirect("there.example:1883", is_permanent=True)
        if client.user_id == "guest":
            return Redirect("there.example:1883")
        if client.user_id == "broken":
            raise LookupError(client.user_id)
        return None


class Customizer(Plugin):
    async def customize_user_properties(self, client: Client) -> list[tuple[str, str]]:
        if client.user_id == "broken":
            raise LookupError(client.user_id)
        if client.user_id == "chatty":
            return [("much", "x" * 5000)]
        if client.user_id == "odd":
            return [("half", "\ud800")]
        return [("account", client.tenant_id), ("user", client.user_id)]


class Doorman(Plugin):
    async def authenticate(self, request: ConnectRequested) -> Decision:
        self.note_thread()
        return Admitted("acme", request.username or "nobody")


class NotAPlugin:
    pass


class CannotBeMade(Plugin):
    def __init__(self) -> None:
        raise OSError("no licence")


class CannotBeEntered(Collector):
    async def __aenter__(self) -> "Collector":
        raise OSError("no network")


def plugins(**sections: Any) -> dict[str, dict[str, Any]]:
    """Sections of the configuration; a plain value is what to use."""
    return {
        name: {"use": f"{HERE}:{section}"}
        if isinstance(section, str)
        else {**section, "use": f"{HERE}:{section['use']}"}
        for name, section in sections.items()
    }


# Finding and making.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:Thing", "cannot be imported: ModuleNotFoundError"),
        ("trio:NoSuchThing", "has no 'NoSuchThing'"),
        ("trio:__version__", "cannot be called"),
        ("nobody-installed-this", "no installed package has a plugin 'nobody-installed-this'"),
    ],
)
def test_plugin_that_is_not_there_is_named_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        find_factory(name)


def test_class_without_an_extension_point_is_no_plugin() -> None:
    with pytest.raises(PluginError, match="NotAPlugin, which is none of Authenticator"):
        make_plugin("it", NotAPlugin, {})


def test_option_that_a_plugin_does_not_know_is_named() -> None:
    with pytest.raises(PluginError, match="unexpected keyword argument 'colour'"):
        make_plugin("it", Collector, {"colour": "red"})


@pytest.mark.parametrize(("use", "message"), [("CannotBeMade", "no licence"), ("CannotBeEntered", "no network")])
async def test_broker_does_not_start_without_a_plugin_that_it_was_told_to_ask(use: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        async with broker_with(plugins=plugins(it=use)):
            pytest.fail("it started")


# Events.


async def test_collector_hears_what_it_asked_for_and_the_end_of_the_broker() -> None:
    async with broker_with(plugins=plugins(it="Collector")) as broker:
        collector: Collector = made["it"]
        assert collector.is_entered
        async with connect(broker, client_id="c", username="acme/bob") as client:
            await client.subscribe("a")
            await eventually(lambda: len(collector.events) == 1)
            (state,) = broker.plugins.states
            assert state.points == ("EventCollector",)
            assert state.counters.calls == 1
        await eventually(lambda: len(collector.events) == 3)
        assert not collector.is_left
    assert collector.is_left
    assert [type(event) for event in collector.events] == [ClientConnected, ClientDisconnected, SessionEnded]
    assert collector.threads.isdisjoint({threading.get_ident()})


async def test_collector_hears_of_clients_that_the_end_of_the_broker_sends_away() -> None:
    async with trio.open_nursery() as nursery, broker_with(plugins=plugins(it="Collector")) as broker:
        connected = trio.Event()

        async def stay() -> None:
            async with connect(broker, client_id="c", username="acme/bob") as client:
                connected.set()
                await client.expect_closed()

        nursery.start_soon(stay)
        await connected.wait()
    parting = made["it"].events[1]
    assert isinstance(parting, ClientDisconnected)
    assert parting.reason_code == 0x8B


@pytest.mark.parametrize("use", ["FailingCollector", "BlockingCollector"])
async def test_collector_that_fails_or_blocks_harms_nobody_else(use: str) -> None:
    sections = plugins(bad={"use": use, "timeout_s": 0.05, "options": {"name": "bad"}}, good="Collector")
    async with broker_with(plugins=sections) as broker:
        for number in range(FAILURES_IN_A_ROW + 2):
            async with connect(broker, client_id=f"c{number}", username="acme/bob") as client:
                await client.subscribe("a/+", qos=1)
                await client.publish("a/b", b"x", qos=1)
                assert (await client.receive_message()).payload == b"x"
        good: Collector = made["it"]
        await eventually(lambda: len(good.events) == 3 * (FAILURES_IN_A_ROW + 2))
        await eventually(lambda: broker.plugins.states[0].events_dropped == 3 * (FAILURES_IN_A_ROW + 2))
        bad, fine = broker.plugins.states
        assert bad.counters.failures + bad.counters.timeouts > 0
        assert (fine.counters.failures, fine.counters.timeouts, fine.events_dropped) == (0, 0, 0)
        if isinstance(made["bad"], BlockingCollector):
            made["bad"].may_go_on.set()


# Settings.


async def granted_qos(broker: Broker, username: str) -> int | None:
    """Maximum QoS, as a client is told when it connects."""
    async with connect(broker, client_id="c", username=username) as client:
        assert client.connack is not None
        return client.connack.maximum_qos


async def test_provided_settings_hold_before_the_first_client_of_a_tenant_is_let_in() -> None:
    sections = plugins(it={"use": "Settings", "options": {"MaximumQoS": 0}})
    async with broker_with(plugins=sections) as broker:
        assert await granted_qos(broker, "acme/bob") == 0
        assert await granted_qos(broker, "other/bob") is None
        assert broker.settings_of("acme").maximum_qos == 0
        assert made["it"].asked == ["acme", "other"]


async def test_settings_are_asked_for_again_and_hold_for_those_who_are_connected() -> None:
    sections = plugins(it={"use": "Settings", "refresh_s": 0.01, "options": {"RetainEnabled": True}})
    async with (
        broker_with(plugins=sections) as broker,
        connect(broker, client_id="c", username="acme/bob") as client,
    ):
        made["it"].values = {"MaxTopicLevels": 2}
        await eventually(lambda: broker.settings_of("acme").max_topic_levels == 2)
        answer = await client.publish("a/b/c", b"", qos=1)
        assert answer is not None
        assert answer.reason_code == 0x90


async def test_provider_that_fails_or_says_nonsense_changes_nothing() -> None:
    sections = plugins(it={"use": "Settings", "refresh_s": 0.01, "options": {"MaxTopicLevels": 2}})
    async with broker_with(plugins=sections) as broker:
        async with connect(broker, client_id="c", username="acme/bob"):
            provider: Settings = made["it"]
            for values in ({"MaxTopicLevels": 0}, {"NoSuchSetting": 1}):
                provider.values = values
                asked = len(provider.asked)
                await eventually(lambda asked=asked: len(provider.asked) > asked + 1)  # type: ignore[misc]
                assert broker.settings_of("acme").max_topic_levels == 2
            provider.fails = True
            await eventually(lambda: broker.plugins.states[0].is_open)
            assert broker.settings_of("acme").max_topic_levels == 2
        async with connect(broker, client_id="d", username="acme/bob") as client:
            await client.ping()


async def test_plugin_layer_lies_over_that_of_the_configuration() -> None:
    sections = plugins(it={"use": "Settings", "options": {"MaximumQoS": 1}})
    tenants = {"acme": {"settings": {"MaximumQoS": 0, "MaxTopicLevels": 3}}}
    async with broker_with(plugins=sections, tenants=tenants) as broker:
        assert await granted_qos(broker, "acme/bob") == 1
        assert broker.settings_of("acme").max_topic_levels == 3
        assert broker.settings.values("acme", Layer.PLUGIN) == {"MaximumQoS": 1}


# Redirection.


@pytest.mark.parametrize(("user", "reason_code"), [("mover", 0x9D), ("guest", 0x9C)])
async def test_balancer_sends_a_client_elsewhere(user: str, reason_code: int) -> None:
    async with broker_with(plugins=plugins(it="Balancer")) as broker:
        with pytest.raises(mqtt_client.ConnectionRefused) as refusal:
            async with connect(broker, client_id="c", username=f"acme/{user}"):
                pytest.fail("it was let in")
        assert refusal.value.connack.reason_code == reason_code
        assert refusal.value.connack.server_reference == "there.example:1883"


@pytest.mark.parametrize("user", ["resident", "broken"])
async def test_client_stays_when_the_balancer_wants_so_or_fails(user: str) -> None:
    async with (
        broker_with(plugins=plugins(it="Balancer")) as broker,
        connect(broker, client_id="c", username=f"acme/{user}") as client,
    ):
        await client.ping()


# Authentication.


async def test_plugin_serves_as_an_authenticator_by_its_name() -> None:
    async with open_plugins({"door": PluginSection(use=f"{HERE}:Doorman")}) as host:
        authenticator = host.authenticator("door")
        async with broker_with(authenticator) as broker:
            async with connect(broker, client_id="c", username="bob") as client:
                await client.ping()
            with trio.fail_after(5):  # The shard reads the DISCONNECT when it comes to it.
                while await broker.sessions.find("acme", "bob", "c") is not None:
                    await trio.lowlevel.checkpoint()
        with pytest.raises(PluginError, match="no plugin 'window' is an authenticator"):
            host.authenticator("window")
        assert made["it"].threads.isdisjoint({threading.get_ident()})


# The guard.


class Patient:
    """Work for a guard, as well or badly as the test wants."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    async def work(self) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls

    async def authenticate(self, request: ConnectRequested) -> Decision:
        raise NotImplementedError


async def test_breaker_opens_after_failures_in_a_row_and_closes_after_one_success() -> None:
    patient = Patient()
    loop = PluginLoop("it", lambda: patient)
    await loop.start(10)
    guard = Guard(loop, timeout_s=10, breaker_s=0.5)
    patient.error = LookupError("x")
    for _ in range(FAILURES_IN_A_ROW):
        with pytest.raises(PluginFailed, match="raised LookupError"):
            await guard.call("point", patient.work)
    patient.error = None
    with pytest.raises(PluginFailed, match=f"failed {FAILURES_IN_A_ROW} times in a row"):
        await guard.call("point", patient.work)
    assert patient.calls == FAILURES_IN_A_ROW
    await eventually(lambda: not guard.is_open)
    assert await guard.call("point", patient.work) == FAILURES_IN_A_ROW + 1
    assert not guard.is_open
    assert (guard.counters.failures, guard.counters.rejected) == (FAILURES_IN_A_ROW, 1)
    assert await loop.stop(10)


async def test_failed_trial_opens_the_breaker_again() -> None:
    patient = Patient()
    patient.error = LookupError("x")
    loop = PluginLoop("it", lambda: patient)
    await loop.start(10)
    guard = Guard(loop, timeout_s=10, breaker_s=0)
    for _ in range(FAILURES_IN_A_ROW + 3):  # breaker_s is over at once: each call beyond is a trial
        with pytest.raises(PluginFailed):
            await guard.call("point", patient.work)
    assert patient.calls == FAILURES_IN_A_ROW + 3
    assert await loop.stop(10)


async def test_call_that_is_late_is_cancelled_in_the_plugin_too() -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    loop = PluginLoop("it", Patient)
    await loop.start(10)
    guard = Guard(loop, timeout_s=0.01, breaker_s=10)
    with pytest.raises(PluginFailed, match=r"did not answer within 0\.01 s"):
        await guard.call("point", hang)
    assert guard.counters.timeouts == 1
    await eventually(cancelled.is_set)
    assert await loop.stop(10)


async def test_plugin_that_never_comes_back_is_given_up() -> None:
    blocked = threading.Event()

    async def block() -> None:
        blocked.wait(10)

    loop = PluginLoop("it", Patient)
    await loop.start(10)
    began = time.monotonic()
    with pytest.raises(PluginFailed):
        await Guard(loop, timeout_s=0.01, breaker_s=10).call("point", block)
    assert not await loop.stop(0.01)
    assert time.monotonic() - began < 5
    blocked.set()


async def test_plugin_whose_loop_has_ended_fails_at_once() -> None:
    loop = PluginLoop("it", Patient)
    await loop.start(10)
    assert await loop.stop(10)
    with pytest.raises(PluginFailed, match="raised PluginError"):
        await Guard(loop, timeout_s=10, breaker_s=10).call("point", Patient().work)


# User properties of messages.


async def test_messages_get_the_user_properties_of_all_customizers_behind_their_own() -> None:
    sections = plugins(one="Customizer", two={"use": "Customizer", "options": {"name": "two"}})
    async with (
        broker_with(plugins=sections) as broker,
        connect(broker, client_id="reader", username="acme/eve") as reader,
        connect(broker, client_id="writer", username="acme/bob") as writer,
    ):
        await reader.subscribe("#")
        await writer.publish("a", b"x", user_properties=(("account", "mine"),))
        added = (("account", "acme"), ("user", "bob"))
        assert (await reader.receive_message()).user_properties == (("account", "mine"), *added, *added)


@pytest.mark.parametrize("user_id", ["broken", "chatty", "odd"])
async def test_customizer_that_fails_or_gives_what_cannot_be_sent_leaves_messages_as_they_are(user_id: str) -> None:
    async with (
        broker_with(plugins=plugins(it="Customizer")) as broker,
        connect(broker, client_id="c", username=f"acme/{user_id}") as client,
    ):
        await client.subscribe("#")
        await client.publish("a", b"x")
        assert (await client.receive_message()).user_properties == ()
