"""A mosquitto for the whole run: the generator is tried on a broker that is not ours."""

from collections.abc import Iterator

import pytest

from rookery.bench.brokers import Broker, mosquitto


@pytest.fixture(scope="session")
def peer() -> Iterator[Broker]:
    """mosquitto as the comparison starts it; without the package the tests fail, they are not skipped."""
    with mosquitto() as broker:
        yield broker
