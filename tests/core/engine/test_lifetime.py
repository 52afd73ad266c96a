"""A connection whose authentication holds for a time only, and ends with it."""

import pytest

from rookery.core.events import AuthReceived, ReauthenticationRequested
from support.memory_broker import Admitted, Broker, Verdict
from support.packets import MQTT_3_1_1, Auth, Disconnect

MAXIMUM_CONNECT_TIME = 0xA0


def test_connection_ends_with_its_lifetime_and_its_session_stays() -> None:
    broker = Broker(decide=lambda request: Admitted(lifetime_ms=90_000))
    client = broker.connect("c", session_expiry_interval=3600)
    broker.advance(80)
    client.ping()
    broker.advance(9)
    assert not client.take_all()
    broker.advance(2)
    assert client.take(Disconnect).reason_code == MAXIMUM_CONNECT_TIME
    assert not client.is_open
    session = broker.session("c")
    assert session is not None
    assert not session.is_online
    broker.close()


def test_client_of_3_1_1_is_closed() -> None:
    broker = Broker(decide=lambda request: Admitted(lifetime_ms=1000))
    client = broker.connect("c", version=MQTT_3_1_1)
    broker.advance(2)
    assert not client.take_all()
    assert not client.is_open
    broker.close()


def test_lifetime_holds_on_the_shard_that_owns_the_session() -> None:
    broker = Broker(decide=lambda request: Admitted(lifetime_ms=1000), shard_count=3)
    clients = [broker.connect(f"c{number}") for number in range(9)]
    broker.advance(2)
    assert [client.is_open for client in clients] == [False] * 9
    broker.close()


def test_keep_alive_ends_a_silent_client_before_its_lifetime() -> None:
    broker = Broker(decide=lambda request: Admitted(lifetime_ms=60_000))
    client = broker.connect("c", keep_alive=10)
    broker.advance(20)
    assert client.take(Disconnect).reason_code == 0x8D
    broker.close()


@pytest.mark.parametrize("lifetime_ms", [0, 30_000])
def test_re_authentication_gives_a_new_lifetime(lifetime_ms: int) -> None:
    def answer(event: AuthReceived | ReauthenticationRequested) -> Verdict:
        return Admitted(lifetime_ms=lifetime_ms)

    broker = Broker(decide=lambda request: Admitted(lifetime_ms=10_000), answer=answer)
    client = broker.connect("c", authentication_method="m")
    broker.advance(5)
    client.send(Auth(reason_code=0x19, authentication_method="m"))
    assert client.take(Auth).reason_code == 0
    broker.advance(25)
    assert client.is_open
    broker.advance(10)
    assert client.is_open == (lifetime_ms == 0)
    broker.close()
