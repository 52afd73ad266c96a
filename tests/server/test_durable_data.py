"""What the broker tells of its durable log: figures, failures, and their end."""

import errno
import os
from pathlib import Path

import pytest
import trio

from rookery.server.broker import Broker
from rookery.server.errors import BrokerDiskFull
from rookery.server.events import StorageFailed, StorageRecovered
from support.own_broker import broker_with, connect
from support.packets import Puback, Publish
from support.process import OUTPUT_DEADLINE_S
from support.service import service_with
from support.waiting import eventually

KEPT = {"clean_start": False, "session_expiry_interval": 1000}


async def subscribe(broker: Broker) -> None:
    async with connect(broker, client_id="reader", **KEPT) as reader:
        await reader.subscribe("a", qos=1)


async def test_figures_of_the_log(tmp_path: Path) -> None:
    async with broker_with(data={"dir": str(tmp_path)}) as broker:
        await subscribe(broker)
        async with connect(broker) as writer:
            for _ in range(3):
                await writer.publish("a", b"x" * 1000, qos=1)
        state = broker.data.state()
        assert state is not None
        assert state.total_bytes > 3000
        assert state.segments == 1
        assert state.syncs >= 4
        assert 0 < state.last_sync_us <= state.sync_us
        assert (state.sync_failures, state.failures, state.last_error, state.failing_ms) == (0, 0, 0, 0)
        # What has no promise to wait for it may still be on its way.
        await eventually(lambda: broker.data.state().waiting_batches == 0)  # type: ignore[union-attr]


async def test_memory_has_no_figures() -> None:
    async with broker_with() as broker:
        assert broker.data.state() is None


async def test_failing_disk_and_its_end_are_told(tmp_path: Path) -> None:
    async with service_with(data={"dir": str(tmp_path)}) as service:
        broker = service.broker
        assert broker.data.log is not None
        await subscribe(broker)
        with broker.events.subscribe(StorageFailed, StorageRecovered) as stream:
            broker.data.log.fail(errno.ENOSPC, writable_bytes=0)
            async with connect(broker) as writer:
                await writer.send(Publish(topic="a", payload=b"x", qos=1, packet_id=1))
                with trio.fail_after(OUTPUT_DEADLINE_S):
                    failed = await anext(stream)
                assert isinstance(failed, StorageFailed)
                assert failed.reason == "No space left on device"
                state = broker.data.state()
                assert state is not None
                assert state.error == state.last_error == errno.ENOSPC
                assert state.waiting_batches > 0
                assert state.failing_ms > 0
                ready = await service.http.get("/readyz")
                assert ready.status_code == 503
                assert ready.json()["reasons"] == ["the durable log cannot be written: No space left on device"]
                broker.data.log.fail(0)
                with trio.fail_after(OUTPUT_DEADLINE_S):
                    recovered = await anext(stream)
                assert isinstance(recovered, StorageRecovered)
                assert recovered.at_ms - failed.at_ms == recovered.failed_ms
                assert (await writer.receive_first(Puback)).packet_id == 1
                assert (await service.http.get("/readyz")).status_code == 200


async def test_failure_that_is_over_at_once_is_told_too(tmp_path: Path) -> None:
    async with broker_with(data={"dir": str(tmp_path)}) as broker:
        log = broker.data.log
        assert log is not None
        await subscribe(broker)
        with broker.events.subscribe(StorageFailed, StorageRecovered) as stream:
            log.fail(errno.EIO, good_syncs=0)
            async with connect(broker) as writer:
                await writer.send(Publish(topic="a", payload=b"x", qos=1, packet_id=1))
                await eventually(lambda: log.state().failures > 0)
                log.fail(0)
                assert (await writer.receive_first(Puback)).packet_id == 1
            with trio.fail_after(OUTPUT_DEADLINE_S):
                failed = await anext(stream)
                assert isinstance(failed, StorageFailed)
                assert failed.reason == "Input/output error"
                assert isinstance(await anext(stream), StorageRecovered)
        assert log.state().sync_failures > 0


RETAIN = {"tenant_id": "acme", "topic": "r", "qos": "1", "client_type": "test"}


async def test_http_answer_waits_for_the_disk(tmp_path: Path) -> None:
    async with service_with(data={"dir": str(tmp_path)}) as service:
        log = service.broker.data.log
        assert log is not None
        answers: list[int] = []

        async def store() -> None:
            answers.append((await service.http.post("/retain", headers=RETAIN, content=b"x")).status_code)

        log.fail(errno.EIO, good_syncs=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store)
            await eventually(lambda: log.state().error == errno.EIO)
            # Whoever asks for nothing durable is answered meanwhile, by the same shards.
            assert (await service.publish(qos="0")).status_code == 200
            assert answers == []
            log.fail(0)
        assert answers == [200]


@pytest.mark.parametrize(("error", "status"), [(errno.EIO, 503), (errno.ENOSPC, 507)])
async def test_http_request_that_the_disk_cannot_take_is_answered_so(tmp_path: Path, error: int, status: int) -> None:
    late = {"data": {"dir": str(tmp_path)}, "server": {"reply_timeout_s": 0.2}}
    async with service_with(**late) as service:
        log = service.broker.data.log
        assert log is not None
        log.fail(error, writable_bytes=0)
        refused = await service.http.post("/retain", headers=RETAIN, content=b"x")
        assert (refused.status_code, refused.text) == (
            status,
            f"the durable log cannot be written: {os.strerror(error)}",
        )
        log.fail(0)
        await eventually(lambda: log.state().error == 0)
        assert (await service.http.post("/retain", headers=RETAIN, content=b"y")).status_code == 200


async def test_http_publication_is_refused_when_the_disk_has_failed_for_long(tmp_path: Path) -> None:
    options = {"data": {"dir": str(tmp_path), "refuse_after_ms": 0}, "server": {"reply_timeout_s": 0.2}}
    async with service_with(**options) as service:
        log = service.broker.data.log
        assert log is not None
        assert (await service.publish()).status_code == 200
        log.fail(errno.ENOSPC, writable_bytes=0)
        with pytest.raises(BrokerDiskFull):
            await service.broker.publish("acme", "r", b"x", retain=True)
        await eventually(lambda: log.is_refusing)
        for refused in (await service.publish(), await service.http.post("/retain", headers=RETAIN, content=b"x")):
            assert (refused.status_code, refused.text) == (
                507,
                "the durable log cannot be written: No space left on device",
            )
        assert (await service.publish(qos="0")).status_code == 200
        log.fail(0)
        await eventually(lambda: not log.is_refusing)
        assert (await service.publish()).status_code == 200
