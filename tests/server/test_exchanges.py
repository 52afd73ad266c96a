"""Enhanced authenticators that work, hang, break and forget, and clients that answer, wait and go."""

import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rookery.core.events import ConnectRequested, ReauthenticationRequested
from rookery.core.permissions.rule_set import Permissions
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted, Challenge, Decision, Refused
from rookery.server.broker import Broker
from rookery.server.events import AuthenticationAborted
from support.mqtt_client import Client
from support.own_broker import broker_with, open_client
from support.packets import Auth, Connack, Connect, Disconnect
from support.permission_rules import allow
from support.waiting import eventually

Request = ConnectRequested | ReauthenticationRequested
Play = Callable[[Request, Challenge], Awaitable[Decision]]
ADMITTED = Admitted("t", "u")


class Script:
    """An enhanced authenticator that runs a function of the test."""

    def __init__(self, play: Play, *methods: str) -> None:
        self.methods = methods or ("m",)
        self._play = play

    async def exchange(self, request: Request, challenge: Challenge) -> Decision:
        return await self._play(request, challenge)


async def ask_once(request: Request, challenge: Challenge) -> Decision:
    answer = await challenge(b"who?", reason_string="tell me")
    return Admitted("t", "u", authentication_data=answer) if answer == b"me" else Refused(ReasonCode.BANNED)


def auth(data: bytes | None, reason_code: int = 0x18) -> Auth:
    return Auth(reason_code=reason_code, authentication_method="m", authentication_data=data)


async def begin(client: Client, method: str = "m") -> Auth | Connack:
    await client.send(Connect(client_id="c", authentication_method=method, authentication_data=b""))
    answer = await client.receive()
    assert isinstance(answer, Auth | Connack)
    return answer


async def let_in(client: Client) -> None:
    await begin(client)
    await client.send(auth(b"me"))
    connack = await client.receive()
    assert isinstance(connack, Connack)
    assert connack.reason_code == 0


def counts(broker: Broker) -> tuple[int, int]:
    return broker.admission.exchanges.stranger_count, broker.admission.exchanges.reauthentication_count


async def test_a_challenge_brings_the_answer_and_the_decision_its_data() -> None:
    async with broker_with(enhanced_authenticators=[Script(ask_once)]) as broker, open_client(broker) as client:
        challenge = await begin(client)
        assert isinstance(challenge, Auth)
        assert (challenge.authentication_data, challenge.reason_string) == (b"who?", "tell me")
        await client.send(auth(b"me"))
        connack = await client.receive()
        assert isinstance(connack, Connack)
        assert connack.authentication_data == b"me"
        assert broker.admission.admitted_count == 1
        assert counts(broker) == (0, 0)


async def test_the_first_that_offers_a_method_has_it() -> None:
    async def refuse(request: Request, challenge: Challenge) -> Decision:
        return Refused(ReasonCode.NOT_AUTHORIZED, request.authentication_method or "")

    first, second = Script(ask_once, "m"), Script(refuse, "m", "n")
    async with broker_with(enhanced_authenticators=[first, second]) as broker:
        async with open_client(broker) as client:
            assert isinstance(await begin(client), Auth)
        async with open_client(broker) as client:
            answer = await begin(client, "n")
            assert isinstance(answer, Connack)
            assert answer.reason_string == "n"
        async with open_client(broker) as client:
            answer = await begin(client, "o")
            assert isinstance(answer, Connack)
            assert answer.reason_code == 0x8C


async def test_an_authenticator_may_be_both() -> None:
    class Both(Script):
        async def authenticate(self, request: ConnectRequested) -> Decision:
            return Refused(ReasonCode.NOT_AUTHORIZED)

    async with broker_with(Both(ask_once)) as broker, open_client(broker) as client:
        await let_in(client)


# Failures never let anybody in.


async def raise_error(request: Request, challenge: Challenge) -> Decision:
    raise RuntimeError


async def raise_after_answer(request: Request, challenge: Challenge) -> Decision:
    await challenge(b"")
    raise RuntimeError


async def decide_nonsense(request: Request, challenge: Challenge) -> Decision:
    return True  # type: ignore[return-value]


async def ask_too_much(request: Request, challenge: Challenge) -> Decision:
    await challenge(bytes(65536))
    return ADMITTED


async def hang(request: Request, challenge: Challenge) -> Decision:
    return await trio.sleep_forever()


BROKEN = [raise_error, raise_after_answer, decide_nonsense, ask_too_much, hang]


@pytest.mark.parametrize("play", BROKEN)
async def test_a_broken_authenticator_refuses_a_stranger(play: Play) -> None:
    script = Script(play)
    async with (
        broker_with(enhanced_authenticators=[script], authentication={"timeout_s": 0.05}) as broker,
        open_client(broker) as client,
    ):
        answer = await begin(client)
        if isinstance(answer, Auth):
            await client.send(auth(b""))
            second = await client.receive()
            assert isinstance(second, Connack)
            answer = second
        assert isinstance(answer, Connack)
        assert answer.reason_code == 0x80
        assert counts(broker) == (0, 0)


@pytest.mark.parametrize("play", BROKEN)
async def test_a_broken_authenticator_ends_a_re_authentication(play: Play) -> None:
    async def fail_later(request: Request, challenge: Challenge) -> Decision:
        is_first = isinstance(request, ConnectRequested)
        return await (ask_once if is_first else play)(request, challenge)

    async with (
        broker_with(enhanced_authenticators=[Script(fail_later)], authentication={"timeout_s": 0.05}) as broker,
        open_client(broker) as client,
    ):
        await let_in(client)
        await client.send(auth(b"", 0x19))
        answer = await client.receive()
        if isinstance(answer, Auth):
            await client.send(auth(b""))
            answer = await client.receive()
        assert isinstance(answer, Disconnect)
        assert answer.reason_code == 0x80
        assert counts(broker) == (0, 0)


@pytest.mark.parametrize(
    ("decision", "reason_code"),
    [
        (Refused(ReasonCode.BANNED, "x"), 0x87),
        (Refused(ReasonCode.BAD_AUTHENTICATION_METHOD), 0x87),
        (Refused(ReasonCode.SERVER_BUSY), 0x89),
        (Refused(ReasonCode.SERVER_MOVED, server_reference="other"), 0x9D),
        (Admitted("t", "other"), 0x87),
        (Admitted("other", "u"), 0x87),
    ],
)
async def test_a_re_authentication_that_fails_is_told_in_a_code_of_disconnect(
    decision: Decision, reason_code: int
) -> None:
    async def decide_later(request: Request, challenge: Challenge) -> Decision:
        return decision if isinstance(request, ReauthenticationRequested) else await ask_once(request, challenge)

    async with (
        broker_with(enhanced_authenticators=[Script(decide_later)]) as broker,
        open_client(broker) as client,
    ):
        await let_in(client)
        await client.send(auth(b"", 0x19))
        farewell = await client.receive()
        assert isinstance(farewell, Disconnect)
        assert farewell.reason_code == reason_code


async def test_a_client_that_does_not_answer_is_refused() -> None:
    async with (
        broker_with(enhanced_authenticators=[Script(ask_once)], authentication={"timeout_s": 0.05}) as broker,
        open_client(broker) as client,
    ):
        assert isinstance(await begin(client), Auth)
        connack = await client.receive()
        assert isinstance(connack, Connack)
        assert (connack.reason_code, connack.reason_string) == (0x87, "the authentication took too long")
        assert broker.admission.exchanges.failed_count == 0


async def test_a_client_that_leaves_ends_its_exchange_at_once() -> None:
    ended = trio.Event()

    async def watch(request: Request, challenge: Challenge) -> Decision:
        try:
            return await ask_once(request, challenge)
        finally:
            ended.set()

    async with broker_with(enhanced_authenticators=[Script(watch)]) as broker:
        with broker.events.subscribe(AuthenticationAborted) as stream:
            async with open_client(broker) as client:
                assert isinstance(await begin(client), Auth)
            with trio.fail_after(5):
                aborted = await stream.receive()
                await ended.wait()
                await wait_all_tasks_blocked()
        assert isinstance(aborted, AuthenticationAborted)
        assert aborted.authentication_method == "m"
        assert aborted.peer.startswith("127.0.0.1:")
        assert counts(broker) == (0, 0)
        assert (broker.admission.refused_count, broker.admission.admitted_count) == (0, 0)


async def test_exchanges_are_limited_and_those_of_clients_apart() -> None:
    async with (
        broker_with(enhanced_authenticators=[Script(ask_once)], authentication={"exchange_limit": 1}) as broker,
        open_client(broker) as known,
        open_client(broker) as waiting,
    ):
        await let_in(known)
        assert isinstance(await begin(waiting), Auth)
        async with open_client(broker) as client:
            answer = await begin(client)
            assert isinstance(answer, Connack)
            assert answer.reason_code == 0x89
        await known.send(auth(b"", 0x19))
        assert isinstance(await known.receive(), Auth)
        assert counts(broker) == (1, 1)
        assert broker.admission.busy_count == 1
        # Of those who are connected there may be one, too.
        async with open_client(broker) as other:
            await waiting.send(Disconnect())
            await waiting.expect_closed()
            await eventually(lambda: counts(broker)[0] == 0)
            await other.send(Connect(client_id="other", authentication_method="m"))
            assert isinstance(await other.receive(), Auth)
            await other.send(auth(b"me"))
            assert isinstance(await other.receive(), Connack)
            await other.send(auth(b"", 0x19))
            farewell = await other.receive()
            assert isinstance(farewell, Disconnect)
            assert farewell.reason_code == 0x89
        await known.send(auth(b"me"))
        assert await known.receive() == auth(b"me", 0)


@pytest.mark.parametrize(
    ("keeper_decision", "reason_code"), [(Refused(ReasonCode.USE_ANOTHER_SERVER), 0x9C), (None, 0)]
)
async def test_doorkeepers_are_asked_about_those_whom_an_exchange_lets_in(
    keeper_decision: Refused | None, reason_code: int
) -> None:
    async def keep(request: ConnectRequested, admitted: Admitted) -> Decision:
        return keeper_decision or admitted

    async with broker_with(enhanced_authenticators=[Script(ask_once)]) as broker, open_client(broker) as client:
        broker.admission.doorkeepers = (keep,)
        await begin(client)
        await client.send(auth(b"me"))
        connack = await client.receive()
        assert isinstance(connack, Connack)
        assert connack.reason_code == reason_code
        assert (counts(broker), broker.admission.in_work_count) == ((0, 0), 0)


# Plugins: the same exchanges, in a loop of their own.

threads: list[int] = []  # in which plugins were asked


class PluginSteps:
    """Asks twice, and whoever answers b"1" and b"2" is let in; other answers break it in their own ways."""

    methods = ("m",)

    async def exchange(self, request: Request, challenge: Challenge) -> Decision:
        threads.append(threading.get_ident())
        if await challenge(b"first", reason_string="one of two") == b"raise":
            raise RuntimeError
        answer = await challenge(b"second")
        if answer == b"hang":
            await trio.sleep_forever()
        return Admitted("t", "u", authentication_data=answer) if answer == b"2" else Refused(ReasonCode.NOT_AUTHORIZED)


PLUGIN = {"steps": {"use": f"{__name__}:PluginSteps", "timeout_s": 0.2}}


async def walk(client: Client, *answers: bytes) -> tuple[Connack, list[bytes | None]]:
    """Answer the challenges one by one; the CONNACK, and what was asked."""
    asked = []
    step = await begin(client)
    for answer in answers:
        assert isinstance(step, Auth)
        asked.append(step.authentication_data)
        await client.send(auth(answer))
        received = await client.receive()
        assert isinstance(received, Auth | Connack)
        step = received
    assert isinstance(step, Connack)
    return step, asked


async def test_a_plugin_may_be_an_enhanced_authenticator() -> None:
    threads.clear()
    async with broker_with(plugins=PLUGIN) as broker, open_client(broker) as client:
        connack, asked = await walk(client, b"1", b"2")
        assert asked == [b"first", b"second"]
        assert (connack.reason_code, connack.authentication_data) == (0, b"2")
        await client.send(auth(b"", 0x19))
        for answer in (b"1", b"2"):
            assert isinstance(await client.receive(), Auth)
            await client.send(auth(answer))
        assert await client.receive() == auth(b"2", 0)
        assert threading.get_ident() not in threads
        (state,) = broker.plugins.states
        assert state.points == ("EnhancedAuthenticator",)


@pytest.mark.parametrize(
    ("answers", "reason_code", "failures", "timeouts"),
    [((b"raise",), 0x80, 1, 0), ((b"1", b"hang"), 0x80, 0, 1), ((b"1", b"no"), 0x87, 0, 0)],
)
async def test_a_plugin_that_fails_or_hangs_refuses(
    answers: tuple[bytes, ...], reason_code: int, failures: int, timeouts: int
) -> None:
    async with broker_with(plugins=PLUGIN) as broker, open_client(broker) as client:
        connack, _ = await walk(client, *answers)
        assert connack.reason_code == reason_code
        (state,) = broker.plugins.states
        assert (state.counters.failures, state.counters.timeouts) == (failures, timeouts)


async def test_clients_that_think_or_leave_do_not_open_the_breaker_of_a_plugin() -> None:
    async with broker_with(plugins=PLUGIN, authentication={"timeout_s": 0.3}) as broker:
        for _ in range(8):
            async with open_client(broker) as client:
                assert isinstance(await begin(client), Auth)
        async with open_client(broker) as client:
            assert isinstance(await begin(client), Auth)
            connack = await client.receive()  # after 0.3 s, longer than the plugin may take
            assert isinstance(connack, Connack)
            assert connack.reason_code == 0x87
        async with open_client(broker) as client:
            assert (await walk(client, b"1", b"2"))[0].reason_code == 0
        (state,) = broker.plugins.states
        assert (state.is_open, state.counters.failures, state.counters.timeouts) == (False, 0, 0)
        assert counts(broker) == (0, 0)


async def test_reauthentication_brings_the_rules_of_its_decision() -> None:
    async def play(request: Request, challenge: Challenge) -> Decision:
        await trio.lowlevel.checkpoint()
        is_first = isinstance(request, ConnectRequested)
        return Admitted("t", "u", permissions=Permissions([allow("before" if is_first else "after")]))

    async with broker_with(enhanced_authenticators=[Script(play)]) as broker, open_client(broker) as client:
        await begin(client)
        assert (await client.subscribe("before", "after")).reason_codes == (0, ReasonCode.NOT_AUTHORIZED)
        await client.send(auth(b"", reason_code=0x19))
        confirmation = await client.receive()
        assert isinstance(confirmation, Auth)
        assert confirmation.reason_code == 0
        assert (await client.subscribe("before", "after")).reason_codes == (ReasonCode.NOT_AUTHORIZED, 0)
        info = await broker.sessions.find("t", "u", "c")
        assert info is not None
        assert info.subscription_count == 1
