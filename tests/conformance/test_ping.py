"""PINGREQ and PINGRESP [MQTT5 3.12, 3.13]."""

import pytest

from support import raw
from support.memory_broker import Broker, expel
from support.packets import Pingreq, Pingresp


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_12_4_1_mqtt311_3_12_4_1_pingreq_is_answered(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.send(Pingreq(), Pingreq(), Pingreq())
    assert client.take_all() == [Pingresp()] * 3


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_pingreq_has_no_body(broker: Broker, version: int) -> None:
    expel(broker, b"\xc0\x01\x00", version=version)
