"""Sub-brokers: plugins that get what is published, in batches, and hold up nobody."""

import threading
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import QoS
from rookery.server.auth.authenticator import Admitted, Decision
from rookery.server.broker import Broker
from rookery.server.plugins import Delivered, Interest
from rookery.server.plugins.courier import BATCH_LIMIT
from rookery.server.plugins.sub_brokers import TENANTS_PER_PLUGIN, InterestError, sort_interests
from rookery.server.tenant_settings import Layer
from support import mqtt_client
from support.own_broker import broker_with, connect
from support.waiting import eventually

made: dict[str, Any] = {}  # plugins of the running test, by name


class Sink:
    """Keeps what it gets."""

    def __init__(self, interests: Sequence[tuple[str, str, int]], name: str = "it") -> None:
        made[name] = self
        self.wanted = [Interest(tenant_id, topic_filter, QoS(qos)) for tenant_id, topic_filter, qos in interests]
        self.batches: list[Sequence[Delivered]] = []
        self.fails = 0  # so often
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for batch in self.batches for message in batch]

    async def interests(self) -> Collection[Interest]:
        return self.wanted

    async def deliver(self, messages: Sequence[Delivered]) -> None:
        self.may_go_on.wait(10)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the queue is away")
        self.batches.append(messages)


class HangingSink(Sink):
    async def deliver(self, messages: Sequence[Delivered]) -> None:
        if self.fails:
            self.fails -= 1
            await trio.sleep_forever()
        await super().deliver(messages)


def broker_for(
    *interests: tuple[str, str, int], use: str = "Sink", sections: dict[str, Any] | None = None, **words: Any
) -> AbstractAsyncContextManager[Broker]:
    section = {"use": f"{__name__}:{use}", "refresh_s": 0.01, "options": {"interests": list(interests)}, **words}
    return broker_with(plugins={"it": section}, **(sections or {}))


async def subscribed(broker: Broker, count: int) -> None:
    """Wait until sub-brokers have so many subscriptions."""

    async def are_there() -> bool:
        return sum(shard.subscriptions for shard in await broker.statistics()) == count

    with trio.fail_after(10):
        while not await are_there():
            await trio.lowlevel.checkpoint()


async def test_messages_of_a_tenant_come_with_everything_that_they_have() -> None:
    async with broker_for(("acme", "a/+", 1)) as broker:
        await subscribed(broker, 1)
        async with (
            connect(broker, client_id="w", username="acme/bob") as writer,
            connect(broker, client_id="w", username="other/bob") as stranger,
        ):
            await stranger.publish("a/b", b"of another tenant", qos=1)
            await writer.publish("a", b"of another topic", qos=1)
            await writer.publish(
                "a/b",
                b"x",
                qos=1,
                retain=True,
                content_type="text/plain",
                payload_format_indicator=1,
                response_topic="r",
                correlation_data=b"c",
                user_properties=(("k", "v"),),
            )
            sink: Sink = made["it"]
            await eventually(lambda: len(sink.batches) == 1)
        assert list(sink.batches[0]) == [
            Delivered(
                tenant_id="acme",
                topic="a/b",
                payload=b"x",
                qos=QoS.AT_LEAST_ONCE,
                retain=True,
                is_repeated=False,
                message_expiry_interval=None,
                is_text=True,
                content_type="text/plain",
                response_topic="r",
                correlation_data=b"c",
                user_properties=(("k", "v"),),
            )
        ]
        (state,) = broker.plugins.states
        assert state.points == ("SubBroker",)
        assert state.deliveries is not None
        assert (state.deliveries.delivered, state.deliveries.connections) == (1, 1)


async def test_many_messages_come_in_order_and_in_few_calls() -> None:
    async with broker_for(("acme", "#", 1)) as broker:
        await subscribed(broker, 1)
        sink: Sink = made["it"]
        async with connect(broker, client_id="w", username="acme/bob") as writer:
            sink.may_go_on.clear()
            payloads = [b"%d" % number for number in range(1500)]
            for index, payload in enumerate(payloads):
                await writer.publish("a", payload, qos=index % 2)
            sink.may_go_on.set()
            await eventually(lambda: len(sink.payloads) == 1500)
        assert sorted(sink.payloads) == sorted(payloads)
        for parity in (0, 1):  # Order holds for messages of one QoS [MQTT-4.6.0-6].
            kept = [payload for payload in sink.payloads if int(payload) % 2 == parity]
            assert kept == payloads[parity::2]
        assert max(map(len, sink.batches)) <= BATCH_LIMIT
        assert len(sink.batches) < 300


async def test_qos_1_comes_again_after_a_failure_and_qos_0_is_lost() -> None:
    async with broker_for(("acme", "#", 1)) as broker:
        await subscribed(broker, 1)
        sink: Sink = made["it"]
        sink.fails = 2
        async with connect(broker, client_id="w", username="acme/bob") as writer:
            await writer.publish("a", b"gone", qos=0)
            await writer.publish("a", b"kept", qos=1)
            await eventually(lambda: b"kept" in sink.payloads)
            await writer.publish("a", b"next", qos=0)
            await eventually(lambda: b"next" in sink.payloads)
        assert sink.payloads == [b"kept", b"next"]
        deliveries = broker.plugins.states[0].deliveries
        assert deliveries is not None
        assert (deliveries.delivered, deliveries.lost, deliveries.failures) == (2, 1, 2)


async def test_call_that_takes_too_long_is_a_failure() -> None:
    async with broker_for(("acme", "#", 1), use="HangingSink", timeout_s=0.05) as broker:
        await subscribed(broker, 1)
        sink: Sink = made["it"]
        sink.fails = 1
        async with connect(broker, client_id="w", username="acme/bob") as writer:
            await writer.publish("a", b"x", qos=1)
            await eventually(lambda: sink.payloads == [b"x"])
        deliveries = broker.plugins.states[0].deliveries
        assert deliveries is not None
        assert deliveries.failures == 1


async def test_sub_broker_that_blocks_holds_up_nobody_and_loses_only_its_own_messages() -> None:
    sections = {"settings": {"SessionInboxSize": 10}}
    async with broker_for(("acme", "#", 0), sections=sections) as broker:
        await subscribed(broker, 1)
        sink: Sink = made["it"]
        sink.may_go_on.clear()
        async with connect(broker, client_id="c", username="acme/bob") as client:
            await client.subscribe("b", qos=1)
            payload = bytes(100_000)
            for _ in range(100):
                await client.publish("a", payload, qos=1)
            with trio.fail_after(5):
                await client.publish("b", b"still here", qos=1)
                assert (await client.receive_message()).payload == b"still here"
        sink.may_go_on.set()
        dropped = sum(shard.messages_dropped for shard in await broker.statistics())
        assert dropped > 0
        await eventually(lambda: len(sink.payloads) == 101 - dropped)


async def test_interests_follow_the_plugin_and_tenants_come_and_go() -> None:
    async with broker_for(("acme", "a", 1), ("acme", "b", 1)) as broker:
        await subscribed(broker, 2)
        sink: Sink = made["it"]
        sink.wanted = [Interest("acme", "b", QoS.AT_LEAST_ONCE), Interest("other", "c"), Interest("other", "d")]
        await subscribed(broker, 3)
        async with (
            connect(broker, client_id="w", username="acme/bob") as writer,
            connect(broker, client_id="w", username="other/bob") as other,
        ):
            for topic in "abcd":
                await writer.publish(topic, b"acme", qos=1)
                await other.publish(topic, b"other", qos=1)
            await eventually(lambda: len(sink.payloads) == 3)
        messages = [message for batch in sink.batches for message in batch]
        assert {(message.tenant_id, message.topic) for message in messages} == {
            ("acme", "b"),
            ("other", "c"),
            ("other", "d"),
        }
        sink.wanted = []
        await subscribed(broker, 0)


async def test_topic_filter_that_the_tenant_does_not_allow_is_counted_and_others_hold() -> None:
    sections = {"settings": {"WildcardSubscriptionEnabled": False}}
    async with broker_for(("acme", "a/#", 0), ("acme", "b", 0), sections=sections) as broker:
        await subscribed(broker, 1)
        deliveries = broker.plugins.states[0].deliveries
        assert deliveries is not None
        await eventually(lambda: deliveries.refused == 1)


async def test_courier_comes_back_when_its_connection_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rookery.server.plugins.sub_brokers.RECONNECT_S", 0.01)
    async with broker_for(("acme", "#", 1)) as broker:
        await subscribed(broker, 1)
        assert await broker.sessions.kill("acme", "$plugin/it", "it")
        deliveries = broker.plugins.states[0].deliveries
        assert deliveries is not None
        await eventually(lambda: deliveries.connections == 2)
        await subscribed(broker, 1)
        async with connect(broker, client_id="w", username="acme/bob") as writer:
            await writer.publish("a", b"x", qos=1)
            await eventually(lambda: made["it"].payloads == [b"x"])


async def test_courier_that_the_tenant_does_not_allow_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rookery.server.plugins.sub_brokers.RECONNECT_S", 0.01)
    async with broker_for(("acme", "#", 1), sections={"settings": {"MQTT5Enabled": False}}) as broker:
        deliveries = broker.plugins.states[0].deliveries
        assert deliveries is not None
        await eventually(lambda: deliveries.rejected == 2)
        assert deliveries.connections == 0
        broker.settings.put("acme", Layer.DATABASE, {"MQTT5Enabled": True})
        await subscribed(broker, 1)


async def test_permission_rules_and_authentication_do_not_concern_it(tmp_path: Any) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\neffect = "allow"\naction = "publish"\nfilter = "#"\n')
    async with broker_for(("acme", "#", 1), sections={"permissions": {"file": str(rules)}}) as broker:
        await subscribed(broker, 1)


async def test_nobody_else_gets_in_as_a_plugin() -> None:
    class Forger:
        async def authenticate(self, request: ConnectRequested) -> Decision:
            return Admitted("acme", "$plugin/it")

    async with broker_with(Forger()) as broker:
        with pytest.raises(mqtt_client.ConnectionRefused) as refusal:
            async with connect(broker, client_id="it"):
                pytest.fail("it was let in")
        assert refusal.value.connack.reason_code == 0x87


@pytest.mark.parametrize(
    ("interests", "message"),
    [
        ([Interest("acme", "a/#/b")], "topic filter 'a/#/b'"),
        ([Interest("acme", "a", QoS.EXACTLY_ONCE)], "qos of 'a' is 2, it must be 0 or 1"),
        ([Interest("", "a")], "is no interest in a tenant"),
        (["a"], "'a' is no interest in a tenant"),
        ([Interest(f"t{number}", "a") for number in range(TENANTS_PER_PLUGIN + 1)], "1001 tenants, the limit is 1000"),
    ],
)
def test_interests_that_cannot_be_had_are_named(interests: list[Any], message: str) -> None:
    with pytest.raises(InterestError, match=message):
        sort_interests(interests)


def test_interests_are_sorted_by_tenant_and_the_higher_qos_counts() -> None:
    interests = [Interest("a", "x", QoS(1)), Interest("b", "y"), Interest("a", "x"), Interest("a", "z")]
    assert sort_interests(interests) == {"a": {"x": 1, "z": 0}, "b": {"y": 0}}


async def test_wrong_interests_are_a_failure_that_changes_nothing() -> None:
    async with broker_for(("acme", "a", 0)) as broker:
        await subscribed(broker, 1)
        made["it"].wanted = [Interest("acme", "#/a")]
        (state,) = broker.plugins.states
        await eventually(lambda: state.counters.failures > 0)
        await subscribed(broker, 1)
