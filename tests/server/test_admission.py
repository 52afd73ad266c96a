"""CONNECTs and the authenticators that decide about them: real ones, slow ones, broken ones."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted, Decision, Refused
from rookery.server.broker import Broker
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect
from support.waiting import eventually


class Waiting:
    """An authenticator that runs a function of the test."""

    def __init__(self, decide: Callable[[ConnectRequested], Awaitable[Decision]]) -> None:
        self._decide = decide

    async def authenticate(self, request: ConnectRequested) -> Decision:
        return await self._decide(request)


class Immediate:
    """An authenticator that decides at once, by a function of the test."""

    def __init__(self, decide: Callable[[ConnectRequested], Decision | None]) -> None:
        self.decide = decide

    async def authenticate(self, request: ConnectRequested) -> Decision:
        await trio.lowlevel.checkpoint()
        return Admitted("late", "waited")


async def refusal_of(broker: Broker, **fields: object) -> ConnectionRefused:
    with pytest.raises(ConnectionRefused) as raised:
        async with connect(broker, client_id="c", **fields):
            pass
    return raised.value


async def test_development_authenticator_names_tenant_and_user(broker: Broker) -> None:
    async with connect(broker, client_id="c", username="acme/bob", password=b"x"):
        info = await broker.sessions.find("acme", "bob", "c")
    assert info is not None
    assert (info.tenant_id, info.user_id, info.client_id) == ("acme", "bob", "c")
    assert broker.admission.admitted_count == 1


async def test_authenticator_sees_what_the_client_sent() -> None:
    seen: list[ConnectRequested] = []

    async def decide(request: ConnectRequested) -> Decision:
        seen.append(request)
        return Admitted("t", "u", {"color": "blue"})

    async with (
        broker_with(Waiting(decide)) as broker,
        connect(broker, client_id="ü", username="name", password=b"\x00secret", version=4),
    ):
        info = await broker.sessions.find("t", "u", "ü")
    (request,) = seen
    assert (request.client_id, request.username, request.password) == ("ü", "name", b"\x00secret")
    assert (request.protocol_version, request.clean_start) == (4, True)
    assert request.peer.startswith("127.0.0.1:")
    assert info is not None
    assert info.attributes == b'{"color": "blue"}'


async def test_refusal_reaches_the_client_with_code_and_reason() -> None:
    async def decide(request: ConnectRequested) -> Decision:
        return Refused(ReasonCode.BANNED, "not you")

    async with broker_with(Waiting(decide)) as broker:
        refusal = await refusal_of(broker)
        assert broker.admission.refused_count == 1
    assert (refusal.connack.reason_code, refusal.connack.reason_string) == (ReasonCode.BANNED, "not you")


@pytest.mark.parametrize(
    ("reason_code", "return_code"),
    [(ReasonCode.BAD_USER_NAME_OR_PASSWORD, 4), (ReasonCode.NOT_AUTHORIZED, 5), (ReasonCode.UNSPECIFIED_ERROR, 3)],
)
async def test_refusal_of_a_3_1_1_client_is_the_nearest_return_code(reason_code: ReasonCode, return_code: int) -> None:
    async def decide(request: ConnectRequested) -> Decision:
        return Refused(reason_code, "no")

    async with broker_with(Waiting(decide)) as broker:
        assert (await refusal_of(broker, version=4)).connack.reason_code == return_code


# Failures never let anybody in.


async def raise_error(request: ConnectRequested) -> Decision:
    raise RuntimeError(f"database lost for {request.password!r}")


async def raise_group(request: ConnectRequested) -> Decision:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_error, request)
    raise AssertionError


async def decide_nonsense(request: ConnectRequested) -> Decision:
    return True  # type: ignore[return-value]


async def decide_nothing(request: ConnectRequested) -> Decision:
    return None  # type: ignore[return-value]


async def admit_to_no_tenant(request: ConnectRequested) -> Decision:
    return Admitted("", "user")


async def admit_as_too_long(request: ConnectRequested) -> Decision:
    return Admitted("t", "u" * 65536)


async def admit_as_no_text(request: ConnectRequested) -> Decision:
    return Admitted("t", "\ud800")


@pytest.mark.parametrize(
    "decide",
    [
        raise_error,
        raise_group,
        decide_nonsense,
        decide_nothing,
        admit_to_no_tenant,
        admit_as_too_long,
        admit_as_no_text,
    ],
)
async def test_broken_authenticator_refuses_and_harms_nobody_else(
    decide: Callable[[ConnectRequested], Awaitable[Decision]],
) -> None:
    async def break_for_some(request: ConnectRequested) -> Decision:
        return Admitted("t", "u") if request.client_id == "good" else await decide(request)

    async with broker_with(Waiting(break_for_some)) as broker, connect(broker, client_id="good") as good:
        assert (await refusal_of(broker)).connack.reason_code == ReasonCode.UNSPECIFIED_ERROR
        await good.ping()
        assert (broker.admission.failed_count, broker.admission.in_work_count) == (1, 0)


async def test_immediate_authenticator_that_raises_refuses() -> None:
    def decide(request: ConnectRequested) -> Decision:
        raise RuntimeError

    async with broker_with(Immediate(decide)) as broker:
        assert (await refusal_of(broker)).connack.reason_code == ReasonCode.UNSPECIFIED_ERROR


async def test_immediate_authenticator_may_leave_a_decision_for_later() -> None:
    async with broker_with(Immediate(lambda request: None)) as broker, connect(broker, client_id="c"):
        assert await broker.sessions.find("late", "waited", "c") is not None


async def test_authenticator_that_hangs_refuses_at_its_deadline() -> None:
    async def hang(request: ConnectRequested) -> Decision:
        return await trio.sleep_forever()

    async with broker_with(Waiting(hang), authentication={"timeout_s": 0.02}) as broker:
        assert (await refusal_of(broker)).connack.reason_code == ReasonCode.UNSPECIFIED_ERROR
        assert broker.admission.failed_count == 1


async def test_others_are_served_while_one_waits_for_its_decision() -> None:
    asked, let_in = trio.Event(), trio.Event()

    async def decide(request: ConnectRequested) -> Decision:
        if request.client_id == "slow":
            asked.set()
            await let_in.wait()
        return Admitted("t", "u")

    async with broker_with(Waiting(decide)) as broker, trio.open_nursery() as nursery:

        async def connect_slowly() -> None:
            async with connect(broker, client_id="slow") as client:
                await client.ping()

        nursery.start_soon(connect_slowly)
        await asked.wait()
        async with connect(broker, client_id="fast") as client:
            await client.ping()
        let_in.set()


async def test_decisions_that_wait_are_bounded_and_more_clients_are_told_to_come_back() -> None:
    asked, let_in = trio.Event(), trio.Event()

    async def decide(request: ConnectRequested) -> Decision:
        asked.set()
        await let_in.wait()
        return Admitted("t", "u")

    async with (
        broker_with(Waiting(decide), authentication={"in_work_limit": 1}) as broker,
        trio.open_nursery() as nursery,
    ):

        async def connect_slowly() -> None:
            async with connect(broker, client_id="first") as client:
                await client.ping()

        nursery.start_soon(connect_slowly)
        await asked.wait()
        for _ in range(2):
            assert (await refusal_of(broker)).connack.reason_code == ReasonCode.SERVER_BUSY
        assert (broker.admission.busy_count, broker.admission.refused_count) == (2, 2)
        let_in.set()


async def test_client_that_leaves_while_its_decision_waits_harms_nobody() -> None:
    asked, let_in = trio.Event(), trio.Event()

    async def decide(request: ConnectRequested) -> Decision:
        if request.client_id == "gone":
            asked.set()
            await let_in.wait()
        return Admitted("t", "u")

    async with broker_with(Waiting(decide)) as broker:
        async with trio.open_nursery() as nursery:

            async def connect_and_leave() -> None:
                async with connect(broker, client_id="gone"):
                    pass

            nursery.start_soon(connect_and_leave)
            await asked.wait()
            nursery.cancel_scope.cancel()
        let_in.set()
        async with connect(broker, client_id="c") as client:
            await client.ping()


# Tenants share what decisions wait for.


async def test_storm_of_one_tenant_that_waits_turns_away_its_own_client_for_anothers() -> None:
    let_in = trio.Event()

    async def decide(request: ConnectRequested) -> Decision:
        tenant_id = (request.username or "").partition("/")[0]
        if request.client_id != "known":
            await let_in.wait()
        return Admitted(tenant_id, "u")

    async with broker_with(Waiting(decide), authentication={"in_work_limit": 3}) as broker:
        for tenant_id in ("noisy", "calm"):
            async with connect(broker, client_id="known", username=f"{tenant_id}/u"):
                pass
        answers: list[ReasonCode | int] = []

        async def come(username: str, client_id: str) -> None:
            try:
                async with connect(broker, client_id=client_id, username=username):
                    answers.append(ReasonCode.SUCCESS)
            except ConnectionRefused as refusal:
                answers.append(refusal.connack.reason_code)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(come, "noisy/u", f"n{number}")
            await eventually(lambda: broker.admission.in_work_count == 3)
            nursery.start_soon(come, "calm/u", "c")
            await eventually(lambda: broker.admission.busy_count == 1)
            await eventually(lambda: answers == [ReasonCode.SERVER_BUSY])
            assert broker.admission.in_work_count == 3
            let_in.set()
        assert sorted(answers) == [ReasonCode.SUCCESS] * 3 + [ReasonCode.SERVER_BUSY]
        assert broker.admission.failed_count == 0
