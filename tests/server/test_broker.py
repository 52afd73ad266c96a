"""The broker inside a trio program: its calls, its readiness, its end."""

import threading
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from rookery.core.engine import Engine
from rookery.core.events import PublishOutcome
from rookery.core.topics.names import InvalidTopic
from rookery.server.address import Address
from rookery.server.auth.development import DevelopmentAuthenticator
from rookery.server.auth.opening import OpenedAuthenticators
from rookery.server.auth.passwords import PasswordVerifier
from rookery.server.broker import Broker
from rookery.server.durable_data import DurableData
from rookery.server.errors import BrokerStopping, ShardFailed
from rookery.server.listeners import AddressInUse, open_listener
from rookery.server.opening import open_broker
from rookery.server.plugins.host import PluginHost
from rookery.server.shard_threads import ShardThreads
from rookery.server.store.database import Database
from rookery.server.store.store import Store
from support.mqtt_client import Client, ConnectionClosed
from support.own_broker import broker_with, connect, make_config
from support.packets import Disconnect

SERVER_SHUTTING_DOWN = 0x8B

any_shard_count = pytest.mark.parametrize("shard_count", [1, 3])


def is_shard(thread: threading.Thread) -> bool:
    return thread.name.startswith("rookery-shard")


# Calls.


@any_shard_count
async def test_publication_reaches_every_subscriber_of_the_tenant_on_every_shard(shard_count: int) -> None:
    async with broker_with(shards={"count": shard_count}) as broker, trio.open_nursery() as nursery:
        subscribed = trio.open_memory_channel[None](12)
        done = trio.Event()

        async def subscribe(number: int) -> None:
            async with connect(broker, client_id=f"c{number}", username="acme/bob") as client:
                await client.subscribe("a/+", qos=1)
                await subscribed[0].send(None)
                message = await client.receive_message()
                assert (message.topic, message.payload, message.qos) == ("a/b", b"x", 1)
                await done.wait()

        async with connect(broker, client_id="stranger", username="other/bob") as stranger:
            await stranger.subscribe("#")
            for number in range(12):
                nursery.start_soon(subscribe, number)
            for _ in range(12):
                await subscribed[1].receive()
            outcome = await broker.publish("acme", "a/b", b"x", qos=2)
            assert outcome == PublishOutcome(matched=12, queued=12)
            await stranger.expect_nothing()
        done.set()


@any_shard_count
async def test_publication_without_subscriber_matches_nobody(shard_count: int) -> None:
    async with broker_with(shards={"count": shard_count}) as broker:
        assert await broker.publish("acme", "a/b", b"x") == PublishOutcome()


async def test_message_expiry_interval_goes_with_the_message(broker: Broker) -> None:
    async with connect(broker, client_id="c", username="acme/bob") as client:
        await client.subscribe("a")
        await broker.publish("acme", "a", b"", message_expiry_interval=77)
        assert (await client.receive_message()).message_expiry_interval in (76, 77)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "x" * 65536, "/" * 128])
async def test_topic_that_is_none_is_refused(broker: Broker, topic: str) -> None:
    with pytest.raises(InvalidTopic):
        await broker.publish("acme", topic, b"x")


async def test_topic_is_held_to_the_limits_of_its_tenant() -> None:
    async with broker_with(tenants={"small": {"settings": {"MaxTopicLevels": 2}}}) as broker:
        await broker.publish("large", "a/b/c", b"x")
        await broker.publish("small", "a/b", b"x")
        with pytest.raises(InvalidTopic):
            await broker.publish("small", "a/b/c", b"x")


async def test_clients_are_held_to_the_settings_of_their_tenant() -> None:
    async with broker_with(tenants={"small": {"settings": {"MaximumQoS": 1}}}) as broker:
        async with connect(broker, client_id="c", username="small/u") as client:
            assert client.connack is not None
            assert client.connack.maximum_qos == 1
        async with connect(broker, client_id="c", username="other/u") as client:
            assert client.connack is not None
            assert client.connack.maximum_qos is None


@any_shard_count
async def test_session_is_found_by_its_whole_key_only(shard_count: int) -> None:
    async with (
        broker_with(shards={"count": shard_count}) as broker,
        connect(broker, client_id="c", username="acme/bob", keep_alive=33, session_expiry_interval=100) as client,
    ):
        await client.subscribe("a", "b")
        info = await broker.sessions.find("acme", "bob", "c")
        assert info is not None
        assert (info.is_online, info.is_persistent, info.protocol_version) == (True, True, 5)
        assert (info.keep_alive, info.session_expiry_interval, info.subscription_count) == (33, 100, 2)
        assert info.peer.startswith("127.0.0.1:")
        assert info.channel_id
        for key in (("acme", "bob", "d"), ("acme", "eve", "c"), ("other", "bob", "c")):
            assert await broker.sessions.find(*key) is None


async def test_statistics_count_what_each_shard_has(broker: Broker) -> None:
    async with connect(broker, client_id="c") as client:
        await client.subscribe("a")
        (statistics,) = await broker.statistics()
    assert (statistics.connections, statistics.sessions, statistics.subscriptions) == (1, 1, 1)


@any_shard_count
async def test_many_calls_at_once_each_get_their_own_answer(shard_count: int) -> None:
    async with broker_with(shards={"count": shard_count}) as broker, trio.open_nursery() as nursery:

        async def find(number: int) -> None:
            info = await broker.sessions.find("DevOnly", "DevUser", f"c{number}")
            assert (info is not None and info.client_id) == (f"c{number}" if number < 5 else False)

        async def hold(number: int, *, task_status: trio.TaskStatus[None]) -> None:
            async with connect(broker, client_id=f"c{number}"):
                task_status.started()
                await trio.sleep_forever()

        for number in range(5):
            await nursery.start(hold, number)
        async with trio.open_nursery() as calls:
            for number in range(200):
                calls.start_soon(find, number % 10)
        nursery.cancel_scope.cancel()


# Readiness.


async def test_running_broker_is_ready_and_a_stopping_one_is_not(broker: Broker) -> None:
    assert await broker.unready_reasons() == ()
    broker.begin_stop()
    assert await broker.unready_reasons() == ("stopping",)


async def test_broker_that_has_not_started_is_not_ready() -> None:
    engine = Engine()
    with open_listener(Address("127.0.0.1", 0), 5) as listener:
        broker = Broker(
            make_config(),
            engine,
            ShardThreads(engine, stop_grace_s=0),
            DurableData(None),
            Store(Database.open(None)),
            PluginHost(()),
            DevelopmentAuthenticator(),
            (),
            OpenedAuthenticators(PasswordVerifier(threads=1, remember_s=0, remember_limit=1)),
            None,
            listener,
            {},
            {},
        )
        assert await broker.unready_reasons() == ("starting",)


# The end.


async def expect_farewell(client: Client) -> None:
    packet = await client.receive()
    assert isinstance(packet, Disconnect)
    assert packet.reason_code == SERVER_SHUTTING_DOWN
    with pytest.raises(ConnectionClosed):
        await client.receive()


@any_shard_count
async def test_end_of_the_block_tells_clients_and_leaves_no_thread(shard_count: int) -> None:
    async with AsyncExitStack() as clients:
        async with broker_with(shards={"count": shard_count}) as broker:
            client = await clients.enter_async_context(connect(broker, client_id="new"))
            old_client = await clients.enter_async_context(connect(broker, client_id="old", version=4))
        await expect_farewell(client)
        with pytest.raises(ConnectionClosed):
            await old_client.receive()
        assert not any(map(is_shard, threading.enumerate()))
        with pytest.raises(BrokerStopping):
            await broker.statistics()


async def test_cancelled_block_tells_clients_too() -> None:
    async with AsyncExitStack() as clients:
        with trio.CancelScope() as scope:
            async with broker_with() as broker:
                client = await clients.enter_async_context(connect(broker, client_id="c"))
                scope.cancel()
                await trio.sleep_forever()
        await expect_farewell(client)


async def test_error_of_the_block_leaves_as_itself() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with broker_with():
            raise ValueError("mine")


async def test_cancelled_start_leaves_no_thread() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with broker_with():
            raise AssertionError
    assert not any(map(is_shard, threading.enumerate()))


async def test_shard_that_ends_unasked_takes_the_block_down_with_its_error() -> None:
    async def end_the_shard_behind_its_back() -> None:
        async with broker_with(server={"stop_grace_s": 0.1}) as broker:
            broker._engine.stop(0)
            await trio.sleep_forever()

    with pytest.raises(ShardFailed, match=r"^shard 0 ended without being told to$"), trio.fail_after(10):
        await end_the_shard_behind_its_back()


async def test_two_brokers_live_in_one_process_without_knowing_each_other() -> None:
    async with broker_with() as one, broker_with() as other, connect(one, client_id="c") as client:
        await client.subscribe("a")
        assert (await other.publish("DevOnly", "a", b"x")).matched == 0
        assert (await one.publish("DevOnly", "a", b"x")).matched == 1
        assert one.server_id != other.server_id


async def test_broker_without_configuration_takes_a_free_port_of_the_loopback_address() -> None:
    async with open_broker() as broker, connect(broker, client_id="c") as client:
        assert broker.mqtt_address.host == "127.0.0.1"
        await client.ping()


async def test_port_in_use_is_said_before_anything_starts(broker: Broker) -> None:
    with pytest.raises(AddressInUse):
        async with broker_with(mqtt={"bind": str(broker.mqtt_address)}):
            raise AssertionError
