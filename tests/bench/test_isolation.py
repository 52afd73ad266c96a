"""The measurement of isolation runs to its end, and each nuisance is one."""

import time
from collections.abc import Callable

import pytest
import trio
from click.testing import CliRunner

from rookery.bench.isolation import main
from rookery.bench.noise import Talker, churn, fetchers, flood, retain, slow, storm, talk
from support.own_broker import broker_with

NOISE_S = 0.3


def _soon() -> Callable[[], bool]:
    end = time.monotonic() + NOISE_S
    return lambda: time.monotonic() > end


def test_calm_tenant_is_watched_alone_and_beside_each_nuisance() -> None:
    arguments = ["--nuisance", "retained", "--seconds", "0.2", "--rounds", "1", "--retained", "1000"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    _, _, free, limited, _, connects = result.output.splitlines()
    assert free.startswith("| retained: ")
    assert "| none |" in free
    assert "TotalRetainMatchBytesPerSecond" in limited
    assert "connects/s, 200 at a time, p99" in connects


@pytest.mark.parametrize("make", [flood, churn, fetchers, slow])
async def test_talkers_keep_a_broker_busy(make: Callable[[str], list[Talker]]) -> None:
    async with broker_with() as broker:
        address = (broker.mqtt_address.host, broker.mqtt_address.port)
        await trio.to_thread.run_sync(retain, address, "noisy/user", 100)
        statistics = await broker.statistics()
        assert sum(shard.retained_messages for shard in statistics) == 100
        before = sum(shard.bytes_received for shard in statistics)
        written, read = await trio.to_thread.run_sync(talk, address, make("noisy/user"), _soon())
        after = sum(shard.bytes_received for shard in await broker.statistics())
        assert read > 0
        assert 1000 < after - before <= written


async def test_storm_connects_again_and_again() -> None:
    async with broker_with() as broker:
        address = (broker.mqtt_address.host, broker.mqtt_address.port)
        count = await trio.to_thread.run_sync(storm, address, "noisy/user", _soon())
        assert count > 0
        assert broker.admission.admitted_count > 0
