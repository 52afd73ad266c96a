"""Brokers without sockets, threads and clocks, of one shard and of three."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.memory_broker import Broker

MakeBroker = Callable[..., Broker]


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def make_broker(request: pytest.FixtureRequest) -> Iterator[MakeBroker]:
    """Makes brokers with the given settings; after the test everybody hangs up and nothing may be left."""
    brokers: list[Broker] = []

    def make(**settings: Any) -> Broker:
        brokers.append(Broker(shard_count=request.param, **settings))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()
