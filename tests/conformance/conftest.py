"""The brokers of the conformance tests: in this process, without sockets, in time that the tests make."""

from collections.abc import Callable, Iterator

import pytest

from support.memory_broker import Broker


@pytest.fixture
def make_broker() -> Iterator[Callable[..., Broker]]:
    """Makes brokers with the given settings; they are closed after the test."""
    brokers: list[Broker] = []

    def make(**arguments: object) -> Broker:
        brokers.append(Broker(**arguments))  # type: ignore[arg-type]  # settings by name
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """A broker with the default settings."""
    return make_broker()
