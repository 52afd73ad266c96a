"""TLS listeners: what flows through them, and how connections end."""

import ssl

import pytest
import trio

from support import mqtt_client, packets, tls, websocket
from support.mqtt_client import DEADLINE_S, Client
from support.own_broker import broker_with
from support.packets import MQTT_5_0
from support.tls import (
    VERSIONS,
    Authority,
    Section,
    client_context,
    open_tls,
)
from support.waiting import eventually


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shard_count", [1, 3])
async def test_clients_of_all_listeners_meet(
    authority: Authority, secure: Section, version: ssl.TLSVersion, shard_count: int
) -> None:
    context = client_context(authority, version=version)
    web = client_context(authority, version=version, protocols=["http/1.1"])
    listeners = {"secure": secure, "browsers": {**secure, "kind": "wss"}}
    sizes = [0, 1, 125, 16_383, 16_384, 16_385, 70_000, 200_000]
    async with (
        broker_with(listeners=listeners, shards={"count": shard_count}) as broker,
        tls.connect(broker.addresses["secure"], context, client_id="one") as one,
        tls.connect(broker.addresses["secure"], context, client_id="two") as two,
        websocket.connect(broker.addresses["browsers"], tls=web, client_id="page") as page,
        mqtt_client.connect((broker.mqtt_address.host, broker.mqtt_address.port), client_id="plain") as plain,
    ):
        clients = (one, two, page, plain)
        for client in clients:
            await client.subscribe("a/#", qos=2)
        for sender in clients:
            for size in sizes:
                await sender.publish("a/b", bytes(size), qos=1)
            for client in clients:
                assert [len((await client.receive_message()).payload) for _ in sizes] == sizes
        assert broker.entrances["secure"].counts.admitted == 2
        assert broker.entrances["browsers"].counts.admitted == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["tls", "wss"])
async def test_flood_to_a_slow_reader_arrives_whole(
    authority: Authority, secure: Section, version: ssl.TLSVersion, kind: str
) -> None:
    """Writes that find no room go on where they stopped, with the same bytes."""
    secure["kind"] = kind
    context = client_context(authority, version=version, protocols=())
    payloads = [bytes([number % 251]) * (number * 97 % 60_000) for number in range(300)]
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        mqtt_client.connect((broker.mqtt_address.host, broker.mqtt_address.port), client_id="writer") as writer,
    ):
        address = broker.addresses["secure"]
        reader_opening = (
            tls.connect(address, context, client_id="reader")
            if kind == "tls"
            else websocket.connect(address, tls=context, client_id="reader")
        )
        async with reader_opening as reader:
            await reader.subscribe("a", qos=0)
            # Some 9 MB: more than the sockets between the two hold.
            for payload in payloads:
                await writer.publish("a", payload)
            await writer.publish("end", b"", qos=1)
            for payload in payloads:
                assert (await reader.receive_message()).payload == payload


async def test_connection_that_moves_to_another_shard_is_reported_once(authority: Authority, secure: Section) -> None:
    context = client_context(authority)
    async with broker_with(listeners={"secure": secure}, shards={"count": 3}) as broker:
        for number in range(6):
            async with tls.connect(broker.addresses["secure"], context, client_id=f"client-{number}"):
                assert len(broker.arrivals) == 1
            await eventually(lambda: len(broker.arrivals) == 0)


async def test_packet_in_the_record_of_the_handshake_is_not_lost(authority: Authority, secure: Section) -> None:
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        await trio.open_tcp_stream("127.0.0.1", broker.addresses["secure"].port) as wire,
    ):
        # With `Finished` in one segment: the server sees it before the shard has the connection.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with trio.fail_after(DEADLINE_S):
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await wire.send_all(outgoing.read())
                    incoming.write(await wire.receive_some())
            client.write(packets.encode(packets.Connect(client_id="early"), MQTT_5_0))
            await wire.send_all(outgoing.read())
            while True:
                try:
                    received = client.read()
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await wire.receive_some())
        assert received[:1] == b"\x20"


# The end


@pytest.mark.parametrize("version", VERSIONS)
async def test_broker_ends_a_connection_with_close_notify(
    authority: Authority, secure: Section, version: ssl.TLSVersion
) -> None:
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        tls.connect(broker.addresses["secure"], client_context(authority, version=version), client_id="c") as client,
    ):
        await client.send(packets.Disconnect())
        with trio.fail_after(DEADLINE_S):
            assert await client.stream.receive_some() == b""  # Without close_notify it raises.


@pytest.mark.parametrize("is_polite", [True, False], ids=["close_notify", "end of the socket"])
async def test_end_of_the_connection_without_disconnect_publishes_the_will(
    authority: Authority, secure: Section, is_polite: bool
) -> None:
    context = client_context(authority)
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        tls.connect(broker.addresses["secure"], context, client_id="watcher") as watcher,
    ):
        await watcher.subscribe("#")
        async with open_tls(broker.addresses["secure"], context) as stream:
            await Client(stream).connect(client_id="c", will=packets.Will(topic="will", payload=b"gone"))
            if is_polite:
                with trio.fail_after(DEADLINE_S):
                    await stream.unwrap()
        assert (await watcher.receive_message()).topic == "will"


async def test_clients_are_told_when_the_broker_stops(authority: Authority, secure: Section) -> None:
    async with (
        broker_with(listeners={"secure": secure}) as broker,
        open_tls(broker.addresses["secure"], client_context(authority)) as stream,
    ):
        client = Client(stream)
        await client.connect(client_id="c")
        broker._stop()
        assert (await client.receive_first(packets.Disconnect)).reason_code == 0x8B
        with trio.fail_after(DEADLINE_S):
            assert await stream.receive_some() == b""
