"""SCRAM-SHA-256 over AUTH: our server side against the client side of a library, credentials, what goes wrong."""

import pytest
import trio
from scramp import ScramClient, ScramException

from rookery.core.events import ConnectRequested
from rookery.server.auth import penalties
from rookery.server.auth.authenticator import Admitted, Refused
from rookery.server.auth.scram import (
    METHOD,
    ConfiguredUsers,
    ScramAuthenticator,
    ScramCredential,
    ScramUser,
    parse_username,
)
from rookery.server.broker import Broker
from support.mqtt_client import Client
from support.own_broker import broker_with, connect, open_client
from support.packets import Auth, Connack, Connect, Disconnect

PASSWORD = "pencil ü"
LINE = ScramCredential.of_password(PASSWORD).print()
SECTION = {"acme/bob": LINE, "acme/eve": ScramCredential.of_password("other", iterations=8000).print()}
# RFC 7677, section 3.
RFC_USER = "user"
RFC_CREDENTIAL = ScramCredential.of_password("pencil", salt=b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81")


async def log_in(client: Client, username: str = "acme/bob", password: str = PASSWORD, **fields: object) -> Connack:
    """Connect as a SCRAM client does; the CONNACK, whose signature has been checked if it accepts."""
    scram = ScramClient([METHOD], username, password)
    first = scram.get_client_first().encode()
    await client.send(
        Connect(client_id="c", authentication_method=METHOD, authentication_data=first, **fields)  # type: ignore[arg-type]
    )
    answer = await client.receive()
    while isinstance(answer, Auth):
        assert answer.reason_code == 0x18
        assert answer.authentication_data is not None
        scram.set_server_first(answer.authentication_data.decode())
        await client.send(answer_of(scram.get_client_final()))
        answer = await client.receive()
    assert isinstance(answer, Connack)
    if answer.reason_code == 0:
        assert answer.authentication_data is not None
        scram.set_server_final(answer.authentication_data.decode())
    return answer


def answer_of(text: str | bytes | None, reason_code: int = 0x18) -> Auth:
    data = text.encode() if isinstance(text, str) else text
    return Auth(reason_code=reason_code, authentication_method=METHOD, authentication_data=data)


async def log_in_again(client: Client, username: str, password: str) -> Auth | Disconnect:
    """Authenticate again; the last word, whose signature has been checked if it accepts."""
    scram = ScramClient([METHOD], username, password)
    await client.send(answer_of(scram.get_client_first(), 0x19))
    challenge = await client.receive()
    assert isinstance(challenge, Auth)
    assert challenge.authentication_data is not None
    scram.set_server_first(challenge.authentication_data.decode())
    await client.send(answer_of(scram.get_client_final()))
    answer = await client.receive()
    assert isinstance(answer, Auth | Disconnect)
    if isinstance(answer, Auth):
        assert answer.reason_code == 0
        assert answer.authentication_data is not None
        scram.set_server_final(answer.authentication_data.decode())
    return answer


async def test_a_client_logs_in_and_both_sides_know_each_other() -> None:
    async with broker_with(scram=SECTION) as broker, open_client(broker) as client:
        connack = await log_in(client)
        assert (connack.reason_code, connack.authentication_method) == (0, METHOD)
        assert await broker.sessions.find("acme", "bob", "c") is not None
        await client.ping()
        assert isinstance(await log_in_again(client, "acme/bob", PASSWORD), Auth)
        await client.ping()


@pytest.mark.parametrize(("username", "password"), [("acme/bob", "wrong"), ("acme/nobody", PASSWORD), ("x", "y")])
async def test_a_wrong_name_fails_like_a_wrong_password(username: str, password: str) -> None:
    async with broker_with(scram=SECTION) as broker, open_client(broker) as client:
        connack = await log_in(client, username, password)
        assert (connack.reason_code, connack.reason_string) == (0x87, "wrong user name or password")
        assert broker.admission.exchanges.stranger_count == 0


async def test_a_name_that_nobody_has_gets_the_same_salt_each_time() -> None:
    async with broker_with(scram=SECTION) as broker:
        salts = []
        for username in ("acme/nobody", "acme/nobody", "acme/none"):
            async with open_client(broker) as client:
                data = ScramClient([METHOD], username, "x").get_client_first().encode()
                await client.send(Connect(client_id="c", authentication_method=METHOD, authentication_data=data))
                challenge = await client.receive()
                assert isinstance(challenge, Auth)
                assert challenge.authentication_data is not None
                salts.append(challenge.authentication_data.split(b",")[1])
    assert salts[0] == salts[1] != salts[2]


@pytest.mark.parametrize(("username", "password"), [("acme/bob", "wrong"), ("acme/eve", "other")])
async def test_re_authentication_with_another_password_or_as_another_user_ends_the_connection(
    username: str, password: str
) -> None:
    async with broker_with(scram=SECTION) as broker, open_client(broker) as client:
        await log_in(client)
        answer = await log_in_again(client, username, password)
        assert isinstance(answer, Disconnect)
        assert answer.reason_code == 0x87
        assert broker.admission.exchanges.reauthentication_count == 0


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no header": b"n=acme/bob,r=abc",
    "channel binding": b"p=tls-unique,,n=acme/bob,r=abc",
    "another identity": b"n,a=acme/eve,n=acme/bob,r=abc",
    "no name": b"n,,n=,r=abc",
    "no nonce": b"n,,n=acme/bob",
    "mandatory extension": b"n,,m=x,n=acme/bob,r=abc",
    "escape": b"n,,n=a=2F,r=abc",
    "not UTF-8": b"n,,n=\xff,r=abc",
    "too long": b"n,,n=acme/bob,r=" + b"a" * 2048,
    "control characters": b"n,,n=a\x07,r=abc",
    "U+0000": b"n,,n=a\0,r=abc",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_a_message_that_is_none_is_refused(data: bytes) -> None:
    async with broker_with(scram=SECTION) as broker, open_client(broker) as client:
        await client.send(Connect(client_id="c", authentication_method=METHOD, authentication_data=data))
        connack = await client.receive()
        assert isinstance(connack, Connack)
        assert (connack.reason_code, connack.reason_string) == (0x87, "this is no SCRAM message")
        assert broker.admission.exchanges.failed_count == 0


@pytest.mark.parametrize("data", [None, b"", b"c=biws,r=abc,p=AAAA", b"c=biws", b"\xff", b"a" * 3000, b"c=biws,r=,p=="])
async def test_a_second_message_that_is_none_is_refused(data: bytes | None) -> None:
    async with broker_with(scram=SECTION) as broker, open_client(broker) as client:
        first = ScramClient([METHOD], "acme/bob", PASSWORD).get_client_first().encode()
        await client.send(Connect(client_id="c", authentication_method=METHOD, authentication_data=first))
        assert isinstance(await client.receive(), Auth)
        await client.send(answer_of(data))
        connack = await client.receive()
        assert isinstance(connack, Connack)
        assert connack.reason_code == 0x87
        assert broker.admission.exchanges.failed_count == 0


async def test_a_client_that_begins_without_data_is_asked_for_it() -> None:
    async with broker_with(scram=SECTION) as broker, open_client(broker) as client:
        await client.send(Connect(client_id="c", authentication_method=METHOD))
        assert await client.receive() == answer_of(None)
        scram = ScramClient([METHOD], "acme/bob", PASSWORD)
        await client.send(answer_of(scram.get_client_first()))
        challenge = await client.receive()
        assert isinstance(challenge, Auth)
        assert challenge.authentication_data is not None
        scram.set_server_first(challenge.authentication_data.decode())
        await client.send(answer_of(scram.get_client_final()))
        connack = await client.receive()
        assert isinstance(connack, Connack)
        assert connack.reason_code == 0


async def test_without_users_the_method_is_not_offered(broker: Broker) -> None:
    async with open_client(broker) as client:
        assert (await log_in(client)).reason_code == 0x8C


async def test_clients_without_a_method_go_to_the_other_authenticator() -> None:
    async with broker_with(scram=SECTION) as broker, connect(broker, client_id="plain", username="t/u"):
        assert await broker.sessions.find("t", "u", "plain") is not None


async def test_users_may_be_kept_elsewhere() -> None:
    class Table:
        async def find(self, username: str) -> ScramUser | None:
            if username == "gone":
                raise OSError("no table")
            return ScramUser("t", "u", RFC_CREDENTIAL, {"color": "blue"}) if username == RFC_USER else None

    authenticator = ScramAuthenticator(Table(), decoy_secret=b"secret")
    async with broker_with(enhanced_authenticators=[authenticator]) as broker:
        async with open_client(broker) as client:
            assert (await log_in(client, RFC_USER, "pencil")).reason_code == 0
            info = await broker.sessions.find("t", "u", "c")
            assert info is not None
            assert info.attributes == b'{"color": "blue"}'
        async with open_client(broker) as client:
            assert (await log_in(client, "gone", "pencil")).reason_code == 0x80
        assert broker.admission.exchanges.failed_count == 1


async def test_the_exchange_of_the_rfc_comes_to_the_signature_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scramp.core.token_hex", lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    answers = {
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096": (
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        )
    }

    async def challenge(data: bytes | None, **words: object) -> bytes | None:
        assert data is not None
        return answers[data]

    class Table:
        async def find(self, username: str) -> ScramUser | None:
            assert username == RFC_USER
            return ScramUser("t", "u", RFC_CREDENTIAL)

    request = ConnectRequested(
        connection=1,
        listener_id=0,
        peer="memory",
        protocol_version=5,
        client_id="c",
        username=None,
        password=None,
        clean_start=True,
        authentication_method=METHOD,
        authentication_data=b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    )
    decision = await ScramAuthenticator(Table(), decoy_secret=b"secret").exchange(request, challenge)
    assert decision == Admitted("t", "u", authentication_data=b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


# Credentials.


def test_a_credential_is_read_as_it_was_printed_and_shows_no_secret() -> None:
    credential = ScramCredential.parse(LINE)
    assert credential.print() == LINE
    assert repr(credential) == "ScramCredential(iterations=4096)"
    assert PASSWORD not in LINE
    assert ScramCredential.of_password(PASSWORD).salt != credential.salt
    assert ScramCredential.of_password(PASSWORD, salt=credential.salt) == credential


WRONG_LINES = {
    "plain": ("pencil", "expected SCRAM-SHA-256"),
    "another hash": (LINE.replace("256", "512"), "expected SCRAM-SHA-256"),
    "few iterations": (LINE.replace("4096", "4095"), "4095 iterations are out of range"),
    "many iterations": (LINE.replace("4096", "10000001"), "10000001 iterations are out of range"),
    "salt": ("SCRAM-SHA-256$4096:AAAA$" + LINE.split("$")[2], "the salt has 3 bytes"),
    "key": (LINE[: LINE.rindex(":")] + ":AAAA", "a key has 3 bytes"),
    "base64": (LINE[: LINE.rindex(":")] + ":A", "not base64"),
}


@pytest.mark.parametrize("case", WRONG_LINES)
def test_a_wrong_credential_is_refused_and_not_repeated(case: str) -> None:
    line, message = WRONG_LINES[case]
    with pytest.raises(ValueError, match=message) as raised:
        ScramCredential.parse(line)
    assert line not in str(raised.value)


@pytest.mark.parametrize(
    ("password", "iterations", "message"),
    [("", 4096, "empty"), ("a\x07", 4096, "cannot be used"), ("a", 100, "out of range"), ("a", 10**9, "out of range")],
)
def test_a_password_that_cannot_be_used_is_refused(password: str, iterations: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScramCredential.of_password(password, iterations=iterations)


@pytest.mark.parametrize("username", ["", "bob", "/bob", "acme/", "a/b/c"])
def test_a_name_without_tenant_and_user_is_refused(username: str) -> None:
    with pytest.raises(ValueError, match="expected tenant/user"):
        parse_username(username)
    with pytest.raises(ValueError, match="expected tenant/user"):
        ConfiguredUsers({username: LINE})


async def test_a_decoy_lets_nobody_in() -> None:
    authenticator = ScramAuthenticator(ConfiguredUsers({}), decoy_secret=b"secret")
    scram = ScramClient([METHOD], "nobody", "x")

    async def challenge(data: bytes | None, **words: object) -> bytes | None:
        assert data is not None
        scram.set_server_first(data.decode())
        return str(scram.get_client_final()).encode()

    request = ConnectRequested(
        1, 0, "memory", 5, "c", None, None, True, authentication_data=scram.get_client_first().encode()
    )
    decision = await authenticator.exchange(request, challenge)
    assert isinstance(decision, Refused)
    with pytest.raises(ScramException):
        scram.set_server_final("v=AAAA")


# Users of the admin database.


async def test_user_of_the_admin_database_logs_in_by_his_password() -> None:
    async with broker_with(authentication={"chain": ["users"]}) as broker:
        await broker.users.put("acme", "table", password=PASSWORD, attributes={"site": "b1"})
        async with open_client(broker) as client:
            assert (await log_in(client, "acme/table")).reason_code == 0
            session = await broker.sessions.find("acme", "table", "c")
            assert session is not None
            assert session.attributes == b'{"site": "b1"}'
        await broker.users.put("acme", "table", is_enabled=False)
        async with open_client(broker) as client:
            assert (await log_in(client, "acme/table")).reason_code == 0x87
        async with open_client(broker) as client:
            assert (await log_in(client, "acme/nobody")).reason_code == 0x87


async def test_users_of_configuration_and_database_log_in_side_by_side() -> None:
    async with broker_with(authentication={"chain": ["users"]}, scram=SECTION) as broker:
        await broker.users.put("acme", "table", password=PASSWORD)
        for username in ("acme/bob", "acme/table"):
            async with open_client(broker) as client:
                assert (await log_in(client, username)).reason_code == 0


async def test_wrong_proofs_are_slowed_and_right_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalties, "FREE_FAILURES", 1)
    monkeypatch.setattr(penalties, "FIRST_DELAY_S", 0.2)
    async with broker_with(scram=SECTION) as broker:
        took_s = []
        for password in ("wrong", "wrong", PASSWORD):
            began = trio.current_time()
            async with open_client(broker) as client:
                await log_in(client, password=password)
            took_s.append(trio.current_time() - began)
        assert took_s[1] >= 0.2
        assert took_s[2] < 0.2
        assert broker.admission.exchanges.stranger_count == 0
