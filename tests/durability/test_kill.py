"""kill -9 under load: what was acknowledged arrives, QoS 2 once, in order. `make crash-test` takes 200 rounds."""

import os
from pathlib import Path

import pytest

from support.crash import crash_rounds

ROUNDS = int(os.environ.get("ROOKERY_TEST_CRASHES", "10"))


@pytest.mark.parametrize("shards", [[1], [2]], ids=["one shard", "two shards"])
async def test_nothing_that_was_acknowledged_is_lost(tmp_path: Path, shards: list[int]) -> None:
    crowd = await crash_rounds(tmp_path / "data", seed=ROUNDS, rounds=ROUNDS // 2, shards=shards)
    # The test is worth nothing if the publishers got nowhere.
    assert min(publisher.acknowledged for publisher in crowd.publishers) > 2 * ROUNDS
