"""AUTH, enhanced authentication and re-authentication [MQTT5 3.15, 4.12], redirection [4.11]."""

import random
from collections.abc import Callable

import pytest

from rookery.core.events import AuthReceived, ConnectRequested, ReauthenticationRequested
from support import packets, raw
from support.memory_broker import Admitted, Broker, Challenged, Client, Refused, Verdict
from support.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Subscribe,
    Subscription,
    Will,
)

MakeBroker = Callable[..., Broker]
CONTINUE, REAUTHENTICATE = 0x18, 0x19
METHOD = "steps"


class Steps:
    """An authenticator: data b"2" is let in after two challenges, b"no" is refused, b"wait" gets no answer.

    Each answer counts down; whatever is no number is a wrong password.
    """

    def __init__(self, **words: object) -> None:
        self.words = words
        self.seen: list[ConnectRequested | AuthReceived | ReauthenticationRequested] = []

    def decide(self, event: ConnectRequested | AuthReceived | ReauthenticationRequested) -> Verdict | None:
        self.seen.append(event)
        data = event.authentication_data
        if data == b"wait":
            return None
        if data is None or not data.isdigit():
            return Refused(0x87, "wrong password", **self.words)
        if data == b"0":
            return Admitted(authentication_data=b"welcome")
        return Challenged(b"now %d" % (int(data) - 1), **self.words)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def broker(make_broker: MakeBroker, steps: Steps) -> Broker:
    return make_broker(decide=steps.decide, answer=steps.decide)


def auth(data: bytes | None, reason_code: int = CONTINUE, method: str = METHOD, **fields: object) -> Auth:
    return Auth(
        reason_code=reason_code,
        authentication_method=method,
        authentication_data=data,
        **fields,  # type: ignore[arg-type]
    )


def begin(broker: Broker, data: bytes | None, **fields: object) -> Client:
    """A client that has sent CONNECT with this data."""
    client = broker.open()
    fields.setdefault("client_id", "client")
    client.send(Connect(authentication_method=METHOD, authentication_data=data, **fields))  # type: ignore[arg-type]
    return client


def let_in(broker: Broker, **fields: object) -> Client:
    """A client that was let in after one challenge."""
    client = begin(broker, b"1", **fields)
    client.take(Auth)
    client.send(auth(b"0"))
    assert client.take(Connack).reason_code == 0
    return client


# Before CONNACK.


def test_mqtt5_4_12_0_1_an_unknown_method_ends_the_connection(make_broker: MakeBroker) -> None:
    broker = make_broker()  # It offers none.
    client = begin(broker, b"1")
    assert client.take(Connack).reason_code == 0x8C
    assert client.expect_closed() is None


def test_mqtt5_4_12_0_2_an_auth_that_asks_for_more_has_0x18(broker: Broker) -> None:
    client = begin(broker, b"2")
    assert client.take(Auth) == auth(b"now 1")
    client.send(auth(b"1"))
    assert client.take(Auth) == auth(b"now 0")
    client.send(auth(b"0"))
    assert client.take(Connack).reason_code == 0
    client.ping()


def test_mqtt5_4_12_0_3_a_client_answers_with_0x18(broker: Broker) -> None:
    for reason_code in (REAUTHENTICATE, 0x00):
        client = begin(broker, b"1")
        client.take(Auth)
        client.send(auth(b"0", reason_code))
        connack = client.take(Connack)
        assert connack.reason_code == 0x82
        assert client.expect_closed() is None


@pytest.mark.parametrize("steps_before", [0, 1, 2])
def test_mqtt5_4_12_0_4_a_rejection_at_any_point_ends_the_connection(broker: Broker, steps_before: int) -> None:
    client = begin(broker, b"5" if steps_before else b"wrong")
    for step in range(steps_before):
        client.take(Auth)
        client.send(auth(b"4" if step + 1 < steps_before else b"wrong"))
    connack = client.take(Connack)
    assert (connack.reason_code, connack.reason_string) == (0x87, "wrong password")
    assert client.expect_closed() is None
    assert broker.session("client") is None


@pytest.mark.parametrize("shard_count", [1, 3])
def test_mqtt5_4_12_0_5_auth_and_an_accepting_connack_repeat_the_method(
    make_broker: MakeBroker, steps: Steps, shard_count: int
) -> None:
    broker = make_broker(decide=steps.decide, answer=steps.decide, shard_count=shard_count)
    for number in range(2 * shard_count):
        client = begin(broker, b"2", client_id=f"client {number}")
        for data in (b"1", b"0"):
            assert client.take(Auth).authentication_method == METHOD
            client.send(auth(data))
        connack = client.take(Connack)
        assert (connack.authentication_method, connack.authentication_data) == (METHOD, b"welcome")
        client.send(auth(b"0", REAUTHENTICATE))
        assert client.take(Auth) == auth(b"welcome", 0x00)


def test_a_method_may_need_no_challenge(broker: Broker) -> None:
    client = begin(broker, b"0")
    connack = client.take(Connack)
    assert (connack.reason_code, connack.authentication_method) == (0, METHOD)


def test_mqtt5_4_12_0_6_without_a_method_there_is_none_in_connack_and_no_auth(make_broker: MakeBroker) -> None:
    # Whatever the control plane says.
    broker = make_broker(decide=lambda request: Challenged(b"more") if request.client_id == "asked" else Admitted())
    asked = broker.open()
    asked.send(Connect(client_id="asked"))
    asked.expect_nothing()
    assert asked.is_open
    broker.advance(20)  # It runs into the time-out of CONNECT.
    broker = make_broker(decide=lambda request: Admitted(authentication_data=b"data"))
    client = broker.open()
    connack = client.connect(client_id="client")
    assert (connack.authentication_method, connack.authentication_data) == (None, None)


@pytest.mark.parametrize("reason_code", [CONTINUE, REAUTHENTICATE])
def test_mqtt5_4_12_0_7_an_auth_without_a_method_in_connect_ends_the_connection(
    make_broker: MakeBroker, reason_code: int
) -> None:
    client = make_broker().connect("client")
    client.send(auth(b"0", reason_code))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x82


OUT_OF_TURN = {
    "PINGREQ": Pingreq(),
    "PUBLISH": Publish(topic="a", payload=b"too early", qos=1, packet_id=1),
    "SUBSCRIBE": Subscribe(packet_id=1, subscriptions=(Subscription("a", 0),)),
    "CONNECT": Connect(client_id="client", authentication_method=METHOD, authentication_data=b"0"),
    "PUBACK": Puback(packet_id=1),
}


@pytest.mark.parametrize("packet", OUT_OF_TURN.values(), ids=OUT_OF_TURN)
def test_mqtt5_3_1_2_30_another_packet_than_auth_before_connack_is_a_protocol_error(
    broker: Broker, packet: Packet
) -> None:
    client = begin(broker, b"1")
    client.take(Auth)
    client.send(packet)
    assert client.take(Connack).reason_code == 0x82
    assert client.expect_closed() is None
    assert broker.abandoned != []


def test_a_client_may_leave_before_connack(broker: Broker) -> None:
    client = begin(broker, b"1", will=Will(topic="a"))
    client.take(Auth)
    client.disconnect()
    assert len(broker.abandoned) == 1
    assert broker.count("messages_received") == 0


def test_another_method_before_connack_is_a_protocol_error(broker: Broker) -> None:
    for method in ("step", "stepS", "steps "):
        client = begin(broker, b"1")
        client.take(Auth)
        client.send(auth(b"0", method=method))
        assert client.take(Connack).reason_code == 0x82
        assert client.expect_closed() is None


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_auth_as_the_first_packet_closes_without_a_word(broker: Broker, version: int) -> None:
    client = broker.open(version)
    client.send_bytes(packets.encode(auth(b"0"), 5))
    assert client.expect_closed() is None


@pytest.mark.parametrize("version", [3, 4])
def test_auth_is_unknown_to_3_1_1(make_broker: MakeBroker, version: int) -> None:
    client = make_broker().connect("client", version=version)
    client.send_bytes(packets.encode(auth(b"0"), 5))
    assert client.expect_closed() is None


def test_data_without_a_method_is_a_protocol_error(broker: Broker) -> None:
    client = broker.open()
    client.send_bytes(raw.connect(raw.text(b"client"), properties=b"\x16\x00\x01x"))
    assert client.take(Connack).reason_code == 0x82
    assert client.expect_closed() is None


def test_auth_may_come_in_pieces_and_with_the_next_packet(broker: Broker) -> None:
    client = begin(broker, b"1")
    client.take(Auth)
    for byte in packets.encode(auth(b"0"), 5) + packets.encode(Pingreq(), 5):
        client.send_bytes(bytes((byte,)))
    assert client.take(Connack).reason_code == 0
    client.take(Pingresp)


def test_what_comes_with_connect_waits_for_its_turn(broker: Broker) -> None:
    client = broker.open()
    client.send(
        Connect(client_id="client", authentication_method=METHOD, authentication_data=b"1"), auth(b"0"), Pingreq()
    )
    assert client.take(Auth) == auth(b"now 0")
    assert client.take(Connack).reason_code == 0
    client.take(Pingresp)


def test_the_control_plane_sees_everything_of_connect_and_auth(broker: Broker, steps: Steps) -> None:
    properties = (("a", "1"), ("a", "2"), ("", "ü"))
    client = begin(
        broker,
        b"1",
        username="name",
        keep_alive=30,
        session_expiry_interval=100,
        user_properties=properties,
        request_response_information=1,
        will=Will(topic="will/topic", qos=1, retain=True),
    )
    client.take(Auth)
    client.send(auth(b"0", reason_string="because", user_properties=properties))
    client.take(Connack)
    client.send(auth(None, REAUTHENTICATE, user_properties=properties))
    asked, answer, again = steps.seen
    assert isinstance(asked, ConnectRequested)
    assert (asked.authentication_method, asked.authentication_data, asked.username) == (METHOD, b"1", "name")
    assert (asked.keep_alive, asked.session_expiry_interval, asked.request_response_information) == (30, 100, True)
    assert (asked.will_topic, asked.will_qos, asked.will_retain) == ("will/topic", 1, True)
    assert asked.user_properties == properties
    assert isinstance(answer, AuthReceived)
    assert answer.connection == asked.connection
    assert (answer.authentication_data, answer.reason_string, answer.user_properties) == (b"0", "because", properties)
    assert isinstance(again, ReauthenticationRequested)
    assert (again.tenant_id, again.user_id, again.client_id) == ("tenant", "user", "client")
    assert (again.authentication_method, again.authentication_data) == (METHOD, None)
    assert (again.peer, again.user_properties) == ("memory", properties)


def test_a_connect_without_extras_is_told_as_such(make_broker: MakeBroker) -> None:
    seen: list[ConnectRequested] = []

    def decide(request: ConnectRequested) -> Verdict:
        seen.append(request)
        return Admitted()

    broker = make_broker(decide=decide)
    for version in (4, 5):
        broker.connect(f"{version}", version=version)
        request = seen.pop()
        assert (request.authentication_method, request.authentication_data) == (None, None)
        assert (request.will_topic, request.user_properties, request.request_response_information) == (None, (), False)


# AUTH itself.


@pytest.mark.parametrize("is_connected", [False, True])
@pytest.mark.parametrize("flags", [1, 2, 4, 8])
def test_mqtt5_3_15_1_1_auth_with_reserved_flags_is_malformed(broker: Broker, flags: int, is_connected: bool) -> None:
    client = let_in(broker) if is_connected else begin(broker, b"1")
    client.take_all()
    encoded = packets.encode(auth(b"0", REAUTHENTICATE if is_connected else CONTINUE), 5)
    client.send_bytes(bytes((encoded[0] | flags,)) + encoded[1:])
    answer = client.take(Disconnect) if is_connected else client.take(Connack)
    assert answer.reason_code == 0x81
    assert client.expect_closed() is None


@pytest.mark.parametrize("is_connected", [False, True])
@pytest.mark.parametrize("reason_code", [0x00, 0x01, 0x1A, 0x87])
def test_mqtt5_3_15_2_1_the_reason_code_is_one_of_auths(broker: Broker, reason_code: int, is_connected: bool) -> None:
    client = let_in(broker) if is_connected else begin(broker, b"1")
    client.take_all()
    client.send(auth(b"0", reason_code))
    answer = client.take(Disconnect) if is_connected else client.take(Connack)
    assert answer.reason_code == 0x82
    assert client.expect_closed() is None


BROKEN = {
    "no body": (b"\xf0\x00", 0x82),
    "no method": (b"\xf0\x02\x18\x00", 0x82),
    "no property length": (b"\xf0\x01\x18", 0x81),
    "a method twice": (raw.frame(0xF0, b"\x18\x0c\x15\x00\x03one\x15\x00\x03two"), 0x82),
    "data twice": (raw.frame(0xF0, b"\x18\x10\x15\x00\x05steps\x16\x00\x01a\x16\x00\x01b"), 0x82),
    "a property of others": (raw.frame(0xF0, b"\x18\x0b\x15\x00\x05steps\x23\x00\x01"), 0x81),
    "a method that ends early": (raw.frame(0xF0, b"\x18\x05\x15\x00\x05st"), 0x81),
    "bytes behind it": (raw.frame(0xF0, b"\x18\x08\x15\x00\x05stepsx"), 0x81),
    "a method that is not UTF-8": (raw.frame(0xF0, b"\x18\x04\x15\x00\x01\xff"), 0x81),
}


@pytest.mark.parametrize("is_connected", [False, True])
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_auth_ends_the_connection_with_a_reason(broker: Broker, case: str, is_connected: bool) -> None:
    data, reason_code = BROKEN[case]
    client = let_in(broker) if is_connected else begin(broker, b"1")
    client.take_all()
    client.send_bytes(data)
    answer = client.take(Disconnect) if is_connected else client.take(Connack)
    assert answer.reason_code == reason_code
    assert client.expect_closed() is None


LONG = (("name", "value" * 40),)


@pytest.mark.parametrize(
    ("maximum", "has_reason", "has_properties"), [(None, True, True), (150, True, False), (40, False, False)]
)
def test_mqtt5_3_15_2_2_mqtt5_3_15_2_3_words_do_not_push_auth_over_the_maximum_packet_size(
    make_broker: MakeBroker, maximum: int | None, has_reason: bool, has_properties: bool
) -> None:
    steps = Steps(reason_string="once more" * 5, user_properties=LONG)
    broker = make_broker(decide=steps.decide, answer=steps.decide)
    client = begin(broker, b"1", maximum_packet_size=maximum)
    challenge = client.take(Auth)
    assert challenge.authentication_data == b"now 0"
    assert (challenge.reason_string is not None, challenge.user_properties != ()) == (has_reason, has_properties)


def test_words_of_auth_are_kept_from_a_client_that_wants_none(make_broker: MakeBroker) -> None:
    steps = Steps(reason_string="once more", user_properties=LONG)
    broker = make_broker(decide=steps.decide, answer=steps.decide)
    client = begin(broker, b"1", request_problem_information=0)
    assert client.take(Auth) == auth(b"now 0")


def test_a_challenge_that_the_client_cannot_take_ends_the_connection(make_broker: MakeBroker) -> None:
    broker = make_broker(decide=lambda request: Challenged(bytes(100)), answer=Steps().decide)
    client = begin(broker, b"1", maximum_packet_size=100)
    assert client.take(Connack).reason_code == 0x95
    assert client.expect_closed() is None


# Limits.


def test_an_exchange_has_a_limited_number_of_steps(broker: Broker) -> None:
    client = begin(broker, b"100")
    for left in range(99, 83, -1):
        client.take(Auth)
        client.send(auth(b"%d" % left))
    client.take(Auth)
    client.send(auth(b"83"))
    assert client.take(Connack).reason_code == 0x97
    assert client.expect_closed() is None
    assert len(broker.abandoned) == 1


def test_an_auth_has_a_limited_size(broker: Broker) -> None:
    fitting = auth(b"0", user_properties=(("x", "y" * 60_000),))
    client = begin(broker, b"1")
    client.take(Auth)
    client.send(fitting)
    assert client.take(Connack).reason_code == 0
    too_large = auth(b"0", user_properties=(("x", "y" * 65_535),))
    client = begin(broker, b"1", client_id="other")
    client.take(Auth)
    client.send(too_large)
    assert client.take(Connack).reason_code == 0x95
    assert client.expect_closed() is None
    client = let_in(broker, client_id="third")
    client.send(auth(b"0", REAUTHENTICATE, user_properties=(("x", "y" * 65_535),)))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x95


def test_the_whole_exchange_has_the_time_of_a_connect(broker: Broker) -> None:
    client = begin(broker, b"3")
    client.take(Auth)
    broker.advance(10)
    client.send(auth(b"2"))
    client.take(Auth)
    broker.advance(9)
    assert client.is_open
    broker.advance(2)
    connack = client.take(Connack)
    assert connack.reason_code == 0x87
    assert client.expect_closed() is None
    assert len(broker.abandoned) == 1


def test_a_time_out_while_the_control_plane_thinks_is_told_to_both(broker: Broker) -> None:
    client = begin(broker, b"1")
    client.take(Auth)
    client.send(auth(b"wait"))
    broker.advance(21)
    assert client.take(Connack).reason_code == 0x88
    assert client.expect_closed() is None
    assert len(broker.abandoned) == 1


def test_an_exchange_that_is_cut_leaves_nothing_behind(broker: Broker) -> None:
    for _ in range(30):
        begin(broker, b"1").drop()
        client = begin(broker, b"1")
        client.take(Auth)
        client.send(auth(b"wait"))
        client.drop()
        client = let_in(broker)
        client.send(auth(b"1", REAUTHENTICATE))
        client.drop()
    broker.advance(25)
    assert [broker.count(what) for what in ("connections", "sessions", "tenants")] == [0, 0, 0]
    assert len(broker.abandoned) == 90


# Re-authentication.


def test_mqtt5_4_12_1_1_re_authentication_keeps_the_method_of_connect(broker: Broker) -> None:
    client = let_in(broker)
    client.send(auth(b"1", REAUTHENTICATE))
    assert client.take(Auth) == auth(b"now 0")
    client.send(auth(b"0"))
    assert client.take(Auth) == auth(b"welcome", 0x00)
    client.send(auth(b"0", REAUTHENTICATE, method="other"))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x82


@pytest.mark.parametrize("at_once", [True, False])
def test_mqtt5_4_12_1_2_a_re_authentication_that_fails_ends_the_connection_with_a_reason(
    broker: Broker, at_once: bool
) -> None:
    witness = let_in(broker, client_id="witness")
    witness.subscribe("will")
    client = let_in(broker, will=Will(topic="will", payload=b"gone"))
    client.send(auth(b"wrong" if at_once else b"1", REAUTHENTICATE))
    if not at_once:
        client.take(Auth)
        client.send(auth(b"wrong"))
    farewell = client.expect_closed()
    assert farewell is not None
    assert (farewell.reason_code, farewell.reason_string) == (0x87, "wrong password")
    assert witness.take_message().payload == b"gone"


def test_messages_go_on_during_a_re_authentication(broker: Broker) -> None:
    client = let_in(broker)
    client.subscribe("a", qos=2)
    client.send(auth(b"2", REAUTHENTICATE))
    for data in (b"1", b"0"):
        client.take(Auth)
        for qos in (0, 1, 2):
            client.publish("a", b"%d" % qos, qos=qos)
            assert client.take_message().payload == b"%d" % qos
        client.ping()
        client.send(auth(data))
    assert client.take(Auth).reason_code == 0
    client.ping()


@pytest.mark.parametrize("turn", ["client", "server"])
def test_a_second_re_authentication_within_the_first_is_a_protocol_error(broker: Broker, turn: str) -> None:
    client = let_in(broker)
    client.send(auth(b"1" if turn == "client" else b"wait", REAUTHENTICATE))
    client.take_all()
    client.send(auth(b"0", REAUTHENTICATE))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x82
    assert len(broker.abandoned) == 1


def test_an_answer_that_nobody_asked_for_is_a_protocol_error(broker: Broker) -> None:
    client = let_in(broker)
    client.send(auth(b"0"))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x82


def test_a_client_may_authenticate_again_and_again(broker: Broker) -> None:
    client = let_in(broker)
    for _ in range(40):  # Each has the full number of steps.
        client.send(auth(b"1", REAUTHENTICATE))
        client.take(Auth)
        client.send(auth(b"0"))
        assert client.take(Auth).reason_code == 0


@pytest.mark.parametrize("data", [b"1", b"wait"])
def test_a_re_authentication_has_limited_time(broker: Broker, data: bytes) -> None:
    client = let_in(broker)
    client.send(auth(data, REAUTHENTICATE))
    client.take_all()
    broker.advance(18)
    client.ping()
    broker.advance(3)
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x87
    assert len(broker.abandoned) == 1


def test_a_taken_over_connection_gives_its_re_authentication_up(broker: Broker) -> None:
    client = let_in(broker)
    client.send(auth(b"wait", REAUTHENTICATE))
    other = let_in(broker)
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x8E
    assert len(broker.abandoned) == 1
    other.ping()


@pytest.mark.parametrize("is_connected", [False, True])
def test_exchanges_of_strangers_and_of_clients_are_limited_apart(
    make_broker: MakeBroker, steps: Steps, is_connected: bool
) -> None:
    # The limits are those of a shard.
    broker = make_broker(decide=steps.decide, answer=steps.decide, shard_count=1)
    crowd = [broker.open() for _ in range(4096)]  # PENDING_AUTHENTICATIONS, PENDING_REAUTHENTICATIONS
    connects = [
        Connect(client_id=f"{number}", authentication_method=METHOD, authentication_data=b"0" if is_connected else b"1")
        for number in range(len(crowd))
    ]
    for client, connect in zip(crowd, connects, strict=True):
        broker.engine.feed(client._link, packets.encode(connect, 5))
        if is_connected:
            broker.engine.feed(client._link, packets.encode(auth(b"1", REAUTHENTICATE), 5))
    broker.settle()
    assert all(isinstance(client.take_all()[-1], Auth) for client in crowd)
    stranger = begin(broker, b"1")
    if not is_connected:
        assert stranger.take(Connack).reason_code == 0x89
        assert stranger.expect_closed() is None
    else:
        stranger.take(Auth)
    known = begin(broker, b"0", client_id="known")
    assert known.take(Connack).reason_code == 0
    known.send(auth(b"1", REAUTHENTICATE))
    if is_connected:
        farewell = known.expect_closed()
        assert farewell is not None
        assert farewell.reason_code == 0x89
    else:
        known.take(Auth)
    for client in crowd:
        broker.engine.hang_up(client._link)
        broker._clients.remove(client)
    broker.settle()
    let_in(broker, client_id="later").ping()


# Words and redirection.


def test_response_information_is_told_to_who_asks_for_it(make_broker: MakeBroker) -> None:
    broker = make_broker(decide=lambda request: Admitted(response_information="acme/responses"))
    for asked, told in ((1, "acme/responses"), (0, None), (None, None)):
        connack = broker.open().connect(client_id="client", request_response_information=asked)
        assert connack.response_information == told
    assert broker.open(4).connect(client_id="client").reason_code == 0


@pytest.mark.parametrize("verdict", [Admitted, lambda **words: Refused(0x87, **words)])
def test_words_of_connack_are_told_to_who_wants_them(make_broker: MakeBroker, verdict: Callable[..., Verdict]) -> None:
    properties = (("a", "1"), ("a", "2"))
    broker = make_broker(decide=lambda request: verdict(reason_string="because", user_properties=properties))
    told = broker.open().connect(client_id="client")
    assert (told.reason_string, told.user_properties) == ("because", properties)
    untold = broker.open().connect(client_id="client", request_problem_information=0)
    assert (untold.reason_string, untold.user_properties) == (None, ())
    assert untold.reason_code == told.reason_code


@pytest.mark.parametrize(
    ("maximum", "has_reason", "has_properties"), [(None, True, True), (150, True, False), (40, False, False)]
)
@pytest.mark.parametrize("verdict", [Admitted, lambda **words: Refused(0x87, **words)])
def test_mqtt5_3_2_2_20_user_properties_do_not_push_connack_over_the_maximum_packet_size(
    make_broker: MakeBroker,
    verdict: Callable[..., Verdict],
    maximum: int | None,
    has_reason: bool,
    has_properties: bool,
) -> None:
    broker = make_broker(decide=lambda request: verdict(reason_string="because " * 5, user_properties=LONG))
    connack = broker.open().connect(client_id="client", maximum_packet_size=maximum)
    assert (connack.reason_string is not None, connack.user_properties != ()) == (has_reason, has_properties)


@pytest.mark.parametrize("reason_code", [0x9C, 0x9D])
def test_a_refused_client_is_sent_elsewhere(make_broker: MakeBroker, reason_code: int) -> None:
    broker = make_broker(decide=lambda request: Refused(reason_code, server_reference="other.example:1883"))
    client = broker.open()
    connack = client.connect(client_id="client", request_problem_information=0)
    assert (connack.reason_code, connack.server_reference) == (reason_code, "other.example:1883")
    assert client.expect_closed() is None
    for version in (3, 4):
        client = broker.open(version)
        assert client.connect(client_id="client").reason_code == 3
        assert client.expect_closed() is None


@pytest.mark.parametrize("reason_code", [0x9C, 0x9D])
def test_a_connected_client_is_sent_elsewhere(make_broker: MakeBroker, reason_code: int) -> None:
    steps = Steps()
    broker = make_broker(
        decide=steps.decide,
        answer=lambda event: (
            Refused(reason_code, "full", server_reference="other.example")
            if isinstance(event, ReauthenticationRequested)
            else steps.decide(event)
        ),
    )
    client = let_in(broker)
    client.send(auth(b"0", REAUTHENTICATE))
    farewell = client.expect_closed()
    assert farewell == Disconnect(reason_code=reason_code, reason_string="full", server_reference="other.example")


WRONG_WORDS: dict[str, tuple[str, dict[str, object]]] = {
    "reason with U+0000": ("refuse", {"reason_code": 0x87, "reason_string": "a\0b"}),
    "reference without redirection": ("refuse", {"reason_code": 0x87, "server_reference": "x"}),
    "reference too long": ("refuse", {"reason_code": 0x9C, "server_reference": "x" * 65536}),
    "no refusal": ("refuse", {"reason_code": 0x18}),
    "no farewell of servers": ("disconnect", {"reason_code": 0x04}),
    "no farewell at all": ("disconnect", {"reason_code": 0x86}),
    "data too long": ("challenge", {"authentication_data": bytes(65536)}),
    "no text": ("challenge", {"authentication_data": b"", "reason_string": "\ud800"}),
    "too many properties": ("confirm", {"authentication_data": b"", "user_properties": (("a", "b" * 40000),) * 2}),
    "response information too long": (
        "admit",
        {"tenant_id": "t", "user_id": "u", "response_information": "x" * 65536},
    ),
    "property with U+0000": ("admit", {"tenant_id": "t", "user_id": "u", "user_properties": (("a\0", "b"),)}),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_words_that_have_no_form_on_the_wire_raise_and_do_nothing(broker: Broker, case: str) -> None:
    name, words = WRONG_WORDS[case]
    client = begin(broker, b"wait")
    (request,) = broker.waiting
    with pytest.raises(ValueError, match=r"limit|U\+0000|goes with|refusal has|no server sends|surrogates"):
        getattr(broker.engine, name)(request.connection, **words)
    broker.settle()
    client.expect_nothing()
    assert client.is_open
    broker.advance(20)


# Everything in any order.


@pytest.mark.parametrize("seed", range(40))
def test_auth_packets_in_any_order_end_one_connection_at_most(make_broker: MakeBroker, seed: int) -> None:
    chance = random.Random(seed)
    steps = Steps()
    broker = make_broker(decide=steps.decide, answer=steps.decide, shard_count=chance.choice([1, 2]))
    bystander = let_in(broker, client_id="bystander")
    bystander.subscribe("a")
    for number in range(25):
        client = broker.open()
        client.send(
            Connect(
                client_id=f"client {number % 4}",
                authentication_method=METHOD,
                authentication_data=chance.choice([b"0", b"1", b"3", b"wait", b"no", None]),
            )
        )
        for _ in range(chance.randrange(8)):
            choice = chance.randrange(12)
            if choice < 9:
                client.send(
                    auth(
                        chance.choice([b"0", b"1", b"2", b"wait", b"no", None]),
                        chance.choice([CONTINUE, CONTINUE, REAUTHENTICATE, 0]),
                        chance.choice([METHOD] * 9 + ["other"]),
                    )
                )
            elif choice == 9:
                client.send(Publish(topic="b"))
            elif choice == 10:
                broker.advance(chance.choice([1, 8]))
            else:
                client.drop()
            if not client.is_open:
                break
        if client.is_open and chance.random() < 0.5:
            client.drop()
    bystander.publish("a", b"still here")
    assert bystander.take_message().payload == b"still here"
    broker.advance(30)
    # Who is still there was let in.
    assert broker.count("connections") == broker.count("sessions")
