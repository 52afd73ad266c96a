"""TLS and WebSocket under the generator: the same books are kept, whatever carries the messages."""

import pytest

from rookery.bench.brokers import Broker, BrokerError, launch, mosquitto
from rookery.bench.measure import Times, measure
from rookery.bench.plan import Transport
from rookery.bench.scenarios import SCENARIOS

FAST = Times(seconds=0.1, warm_up_s=0.02)


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        ("rookery", "tls-pairs-100-q0"),
        ("rookery", "websocket-pairs-100-q0"),
        ("mosquitto", "tls-pairs-100-q0"),
    ],
)
def test_scenario_yields_its_figures(name: str, scenario: str) -> None:
    case = SCENARIOS[scenario]
    with launch(name, None, case.traffic.transport) as broker:
        figures = measure(case, broker, FAST)
    assert figures.rate is not None
    assert figures.rate > 0


def test_broker_without_a_transport_is_a_failure() -> None:
    with pytest.raises(BrokerError, match="x does not listen for tls"):
        measure(SCENARIOS["tls-pairs-100-q0"], Broker("x", "127.0.0.1", 1), FAST)
    with pytest.raises(BrokerError, match="no WebSocket"), mosquitto(None, Transport.WEBSOCKET):
        pass
