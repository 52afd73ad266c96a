"""Tokens as passwords: who gets in, what the claims do, and that nothing but a right signature counts."""

import base64
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import paho.mqtt.client as paho
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import ValidationError

from rookery.api.cli import main
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.key_set import KeySetError
from rookery.server.broker import Broker
from rookery.server.exit_code import ExitCode
from support.document_server import Answer, Asked, serve_documents
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect, make_config
from support.packets import Connack, Disconnect

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SECRET = "a secret of thirty-two bytes, or more"
ALGORITHMS = ["HS256", "RS256", "PS256", "ES256", "EdDSA"]


def jwk(algorithm: str, key: Any, **fields: str) -> dict[str, str]:
    made: dict[str, str] = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key()))
    return {**made, **fields}


KEYS = {
    "keys": [
        jwk("RS256", RSA_KEY, kid="rsa"),
        jwk("ES256", EC_KEY, kid="ec", use="sig"),
        jwk("EdDSA", ED_KEY, kid="ed"),
        {"kty": "unheard of", "kid": "x"},
        "nonsense",
    ]
}
SIGNERS: dict[str, Any] = {"HS256": SECRET, "RS256": RSA_KEY, "PS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
KEY_IDS = {"HS256": None, "RS256": "rsa", "PS256": "rsa", "ES256": "ec", "EdDSA": "ed"}


def token(
    algorithm: str = "RS256",
    *,
    key: Any = None,
    key_id: str | None = "",
    **claims: Any,
) -> bytes:
    """A token of bob of acme that holds for an hour; a claim that is None is left out."""
    payload = {"tenant": "acme", "sub": "bob", "exp": int(time.time()) + 3600, **claims}
    names = {"kid": KEY_IDS[algorithm] if key_id == "" else key_id}
    return jwt.encode(
        {name: value for name, value in payload.items() if value is not None},
        SIGNERS[algorithm] if key is None else key,
        algorithm,
        headers={name: value for name, value in names.items() if value is not None},
    ).encode()


def by_hand(header: object, claims: object = None, signature: bytes = b"") -> bytes:
    """A token that no library would make."""
    claims = {"tenant": "acme", "sub": "bob", "exp": int(time.time()) + 3600} if claims is None else claims
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims, signature)]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(KEYS))
    return file


def sections(keys: object, **section: Any) -> dict[str, Any]:
    return {
        "authentication": {"chain": ["jwt"]},
        "jwt": {"keys": str(keys), "algorithms": ALGORITHMS, "secret": SECRET, **section},
    }


@pytest.fixture
async def broker(keys_file: Path) -> AsyncIterator[Broker]:
    async with broker_with(**sections(keys_file)) as opened:
        yield opened


async def answer_to(
    broker: Broker, password: bytes | None, username: str | None = None, *, version: int = 5
) -> tuple[int, str | None]:
    """Reason code and reason string of CONNACK."""
    try:
        async with connect(broker, client_id="c", username=username, password=password, version=version):
            return 0, None
    except ConnectionRefused as refused:
        connack: Connack = refused.connack
        return connack.reason_code, connack.reason_string


# Who gets in.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("named", [True, False])
async def test_token_of_every_algorithm_lets_in_with_and_without_the_name_of_its_key(
    broker: Broker, algorithm: str, named: bool
) -> None:
    password = token(algorithm, key_id="" if named else None)
    async with connect(broker, client_id="c", username="anything", password=password):
        assert await broker.sessions.find("acme", "bob", "c") is not None


async def test_token_lets_in_clients_of_3_1_1(broker: Broker) -> None:
    assert await answer_to(broker, token(), "x", version=4) == (0, None)
    assert (await answer_to(broker, token(exp=1), "x", version=4))[0] == 4


async def test_attributes_of_the_token_are_those_of_the_session(broker: Broker) -> None:
    password = token(attributes={"site": "b1", "floor": 3, "is_new": True})
    async with connect(broker, client_id="c", password=password):
        session = await broker.sessions.find("acme", "bob", "c")
    assert session is not None
    assert json.loads(session.attributes) == {"site": "b1", "floor": "3", "is_new": "true"}


async def test_rules_of_the_token_hold_for_its_client(broker: Broker) -> None:
    rules = [{"effect": "allow", "action": "all", "filter": "dev/%c/#", "max_qos": 1}]
    async with connect(broker, client_id="c", password=token(rules=rules)) as client:
        assert (await client.subscribe("dev/c/#", "dev/d/#", "#", qos=2)).reason_codes == (1, 0x87, 0x87)
    async with connect(broker, client_id="c", password=token(rules=[])) as client:
        assert (await client.subscribe("dev/c/#")).reason_codes == (0x87,)
    async with connect(broker, client_id="c", password=token()) as client:
        assert (await client.subscribe("#")).reason_codes == (0,)


async def test_claims_have_the_names_that_the_configuration_says(keys_file: Path) -> None:
    section = {"tenant": "fixed", "user_claim": "https://example.org/user"}
    claims: dict[str, Any] = {"https://example.org/user": "eve"}
    async with broker_with(**sections(keys_file, **section)) as broker:
        password = token(**claims)
        async with connect(broker, client_id="c", password=password):
            assert await broker.sessions.find("fixed", "eve", "c") is not None


@pytest.mark.parametrize(
    ("wanted", "username", "code"),
    [
        ("any", None, 0),
        ("any", "eve", 0),
        ("user", "bob", 0),
        ("user", "acme/bob", 0x86),
        ("user", None, 0x86),
        ("tenant/user", "acme/bob", 0),
        ("tenant/user", "bob", 0x86),
        ("tenant/user", "other/bob", 0x86),
    ],
)
async def test_user_name_is_what_the_configuration_wants(
    keys_file: Path, wanted: str, username: str | None, code: int
) -> None:
    async with broker_with(**sections(keys_file, username=wanted)) as broker:
        assert (await answer_to(broker, token(), username))[0] == code


# Who does not.


async def test_algorithm_none_is_refused_in_every_spelling(broker: Broker) -> None:
    for name in ("none", "None", "NONE", "nOnE", ""):
        assert (await answer_to(broker, by_hand({"alg": name})))[0] == ReasonCode.BAD_USER_NAME_OR_PASSWORD, name
        assert (await answer_to(broker, by_hand({"alg": name}, None, b"x")))[0] == 0x86, name


async def test_algorithm_that_is_not_allowed_is_refused(keys_file: Path) -> None:
    async with broker_with(**sections(keys_file, algorithms=["ES256"], secret="")) as broker:
        assert (await answer_to(broker, token("ES256")))[0] == 0
        for algorithm in ("RS256", "HS256", "EdDSA"):
            assert (await answer_to(broker, token(algorithm)))[0] == 0x86, algorithm


async def test_public_key_is_no_shared_secret(broker: Broker) -> None:
    """The oldest attack: sign with HS256 and the public key, which everybody has."""
    public = RSA_KEY.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, der, json.dumps(KEYS["keys"][0]).encode(), str(public.public_numbers().n).encode()):
        forged = by_hand({"alg": "HS256", "kid": "rsa"}).rpartition(b".")[0]
        signature = base64.urlsafe_b64encode(hmac.digest(secret, forged, "sha256")).rstrip(b"=")
        assert (await answer_to(broker, forged + b"." + signature))[0] == 0x86


async def test_signature_of_another_key_or_over_other_claims_is_refused(broker: Broker) -> None:
    assert (await answer_to(broker, token(key=OTHER_RSA_KEY)))[0] == 0x86
    assert (await answer_to(broker, token(key=OTHER_RSA_KEY, key_id="rsa")))[0] == 0x86
    assert (await answer_to(broker, token(key_id="ec")))[0] == 0x86
    header, _, signature = token().split(b".")
    claims = by_hand({}, {"tenant": "acme", "sub": "root", "exp": int(time.time()) + 60}).split(b".")[1]
    assert (await answer_to(broker, b".".join((header, claims, signature))))[0] == 0x86
    assert (await answer_to(broker, b".".join((header, claims, b""))))[0] == 0x86


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "the token has expired"),
        ({"exp": int(time.time()) - 60}, "the token has expired"),
        ({"exp": None}, "the token lacks a claim"),
        ({"exp": "soon"}, "wrong user name or password"),
        ({"exp": float("inf")}, "wrong user name or password"),
        ({"exp": float("nan")}, "wrong user name or password"),
        ({"exp": [1]}, "wrong user name or password"),
        ({"nbf": int(time.time()) + 600}, "the token is not valid yet"),
        ({"iat": int(time.time()) + 600}, "the token is not valid yet"),
        ({"aud": "somebody else"}, "the token is for somebody else"),
        ({"iss": "evil", "aud": "rookery"}, "the token is of another issuer"),
        ({"tenant": None}, "the token names no tenant or no user"),
        ({"tenant": ""}, "the token names no tenant or no user"),
        ({"tenant": 7}, "the token names no tenant or no user"),
        ({"tenant": ["acme"]}, "the token names no tenant or no user"),
        ({"tenant": "a\0"}, "the token names no tenant or no user"),
        ({"tenant": "\ud800"}, "the token names no tenant or no user"),
        ({"sub": None}, "the token names no tenant or no user"),
        ({"sub": ""}, "the token names no tenant or no user"),
    ],
)
async def test_claim_that_is_wrong_refuses_and_says_so(keys_file: Path, claims: dict[str, Any], reason: str) -> None:
    async with broker_with(**sections(keys_file, issuer="https://issuer", audience=["rookery"])) as broker:
        password = token(**{"iss": "https://issuer", "aud": "rookery", **claims})
        assert await answer_to(broker, password) == (ReasonCode.BAD_USER_NAME_OR_PASSWORD, reason)
        assert (await answer_to(broker, token(iss="https://issuer", aud=["x", "rookery"])))[0] == 0


async def test_token_for_an_audience_is_refused_where_none_is_configured(broker: Broker) -> None:
    assert (await answer_to(broker, token(aud="rookery")))[0] == 0x86


async def test_clocks_may_differ_by_the_leeway(keys_file: Path) -> None:
    now = int(time.time())
    async with broker_with(**sections(keys_file, leeway_s=60)) as broker:
        assert (await answer_to(broker, token(exp=now - 30, nbf=now + 30)))[0] == 0
        assert (await answer_to(broker, token(exp=now - 90)))[0] == 0x86


async def test_token_without_expiry_is_taken_only_where_the_configuration_says_so(keys_file: Path) -> None:
    async with broker_with(**sections(keys_file, require_expiry=False)) as broker:
        assert (await answer_to(broker, token(exp=None)))[0] == 0
        assert (await answer_to(broker, token(exp=1)))[0] == 0x86


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"rules": {"effect": "allow"}}, "the rules of the token cannot be used: they are no array"),
        ({"rules": None, "attributes": []}, "the attributes of the token cannot be used"),
        ({"rules": ["#"]}, "the rules of the token cannot be used: rule 1: expected a table"),
        (
            {"rules": [{"effect": "allow", "action": "all", "filter": "a#"}]},
            "the rules of the token cannot be used: rule 1",
        ),
        ({"rules": [{}] * 1001}, "the rules of the token cannot be used: 1001 rules, the limit is 1000"),
        ({"attributes": {"a": ["b"]}}, "the attributes of the token cannot be used"),
        ({"attributes": "a"}, "the attributes of the token cannot be used"),
    ],
)
async def test_claims_that_cannot_be_used_refuse(broker: Broker, claims: dict[str, Any], reason: str) -> None:
    code, said = await answer_to(broker, token(**claims))
    assert code == ReasonCode.NOT_AUTHORIZED
    assert said is not None
    assert said.startswith(reason)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "crit": ["b64"], "b64": False},
        {"alg": "HS256", "crit": []},
        {"alg": "HS256", "b64": False},
        {"alg": ["HS256"]},
        {"alg": None},
        {},
        [],
        b"[" * 9000,
        b'{"alg": "HS256"',
        b"\xff",
    ],
)
async def test_header_that_is_not_understood_is_refused(broker: Broker, header: object) -> None:
    assert (await answer_to(broker, by_hand(header)))[0] == 0x86


@pytest.mark.parametrize(
    "password",
    [None, b"", b".", b"..", b"a.b.c", b"eyJ", b"\xff\0\xff", b"x" * 65535, b"eyJhbGciOiJIUzI1NiJ9.e30.%%", b"a.b"],
)
async def test_password_that_is_no_token_is_refused(broker: Broker, password: bytes | None) -> None:
    assert (await answer_to(broker, password, "bob"))[0] == 0x86


async def test_claims_that_are_signed_but_no_object_are_refused(broker: Broker) -> None:
    for claims in (b"[]", b"nonsense", b'"x"', b"[" * 5000, b'{"exp": ' + b"9" * 5000 + b"}"):
        password = jwt.api_jws.encode(claims, SECRET, "HS256").encode()
        assert (await answer_to(broker, password))[0] == 0x86, claims[:10]


async def test_token_that_is_too_large_is_refused_unread(broker: Broker) -> None:
    assert (await answer_to(broker, token(padding="x" * 20_000)))[0] == 0x86


async def test_other_passwords_are_left_to_the_next_of_the_chain(keys_file: Path) -> None:
    chain = {**sections(keys_file), "authentication": {"chain": ["jwt", "users"]}}
    async with broker_with(**chain) as broker:
        await broker.users.put("acme", "eve", password="a.b.c")
        assert (await answer_to(broker, b"a.b.c", "acme/eve"))[0] == 0
        assert (await answer_to(broker, token()))[0] == 0
        await broker.users.put("acme", "eve", password=token(exp=1).decode())
        assert (await answer_to(broker, token(exp=1), "acme/eve"))[0] == 0x86


# The end of a token.


async def test_connection_ends_with_its_token(broker: Broker) -> None:
    end_s = int(time.time()) + 2
    password = token(exp=end_s)
    async with connect(broker, client_id="c", password=password, keep_alive=0) as client:
        farewell = await client.receive()
        assert isinstance(farewell, Disconnect)
        assert farewell.reason_code == ReasonCode.MAXIMUM_CONNECT_TIME
        assert time.time() >= end_s
        assert time.time() >= end_s


# Keys.


async def test_new_key_is_fetched_when_a_token_names_it_and_old_ones_go() -> None:
    documents = {"keys": [jwk("ES256", EC_KEY, kid="ec")]}

    def answer(asked: Asked) -> Answer:
        return 200, json.dumps(documents).encode()

    with serve_documents(answer) as server:
        async with broker_with(**sections(f"{server.url}/keys", secret="", algorithms=["RS256", "ES256"])) as broker:
            assert (await answer_to(broker, token("ES256")))[0] == 0
            assert len(server.asked) == 1
            documents["keys"] = [jwk("RS256", RSA_KEY, kid="rsa")]
            assert (await answer_to(broker, token("RS256")))[0] == 0x86  # Not so soon again.
            assert len(server.asked) == 1
            await broker.reload()
            assert (await answer_to(broker, token("RS256")))[0] == 0
            assert (await answer_to(broker, token("ES256")))[0] == 0x86
            assert {asked.path for asked in server.asked} == {"/keys"}


@pytest.mark.parametrize("answer", [(500, b""), (404, b"{}"), (200, b"no JSON"), (200, b'{"keys": []}'), (302, b"")])
async def test_keys_that_cannot_be_had_let_nobody_in(answer: Answer) -> None:
    with serve_documents(lambda asked: answer) as server:
        async with broker_with(**sections(server.url, secret="", algorithms=["RS256"])) as broker:
            assert (await answer_to(broker, token()))[0] == ReasonCode.UNSPECIFIED_ERROR
            assert (await answer_to(broker, b"no token"))[0] == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_server_of_keys_that_is_not_there_lets_nobody_in() -> None:
    with serve_documents(lambda asked: (200, b"")) as server:
        url = server.url
    async with broker_with(**sections(url, secret="", algorithms=["RS256"])) as broker:
        assert (await answer_to(broker, token()))[0] == ReasonCode.UNSPECIFIED_ERROR


async def test_broken_file_keeps_the_keys_that_were_read(broker: Broker, keys_file: Path) -> None:
    await trio.Path(keys_file).write_text("nonsense")
    await broker.reload()
    assert (await answer_to(broker, token()))[0] == 0
    await trio.Path(keys_file).write_text(json.dumps({"keys": [jwk("ES256", EC_KEY)]}))
    await broker.reload()
    assert (await answer_to(broker, token()))[0] == 0x86


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", 'no JSON object with an array "keys"'),
        ('{"keys": {}}', "is no array of at most 100 keys"),
        (json.dumps({"keys": [{}] * 101}), "is no array of at most 100 keys"),
        ('{"keys": []}', "has no key for ES256, EdDSA"),
        (json.dumps({"keys": [jwk("ES256", EC_KEY, use="enc")]}), "has no key for"),
        ('{"keys": [{"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"}]}', "key 'k' cannot be used for"),
        ('{"keys": [{"kty": "oct", "kid": "k", "k": "c2hvcnQ"}]}', "key 'k': "),
    ],
)
async def test_file_without_keys_of_use_keeps_the_broker_from_opening(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)  # a few bytes
    with pytest.raises(KeySetError, match=problem) as raised:
        async with broker_with(**sections(file)):
            pass
    assert str(file) in str(raised.value)
    assert "c2hvcnQ" not in str(raised.value)


def test_check_finds_keys_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys_file: Path
) -> None:
    config = tmp_path / "rookery.toml"

    def check(section: str) -> int:
        config.write_text(f'[authentication]\nchain = ["jwt"]\n[jwt]\n{section}\n')
        return main(["check", "--config", str(config)])

    assert check(f'keys = "{tmp_path}/missing"') == ExitCode.CONFIG
    assert "No such file" in capsys.readouterr().err
    assert check('algorithms = ["HS256"]\nsecret = "short"') == ExitCode.CONFIG
    assert "short" not in capsys.readouterr().err.replace("is below", "")
    assert check(f'algorithms = ["HS256"]\nsecret = "{SECRET}"') == ExitCode.OK
    assert SECRET not in capsys.readouterr().out
    assert check(f'keys = "{keys_file}"') == ExitCode.OK


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({}, "or jwt.secret has to be set"),
        ({"keys": "http://example.org/keys"}, "has no TLS"),
        ({"keys": "ftp://example.org/keys"}, "no URL that begins with https://"),
        ({"keys": "https://me:secret@example.org/keys"}, "may not hold a password"),
        ({"keys": "k", "algorithms": []}, "at least 1 item"),
        ({"keys": "k", "algorithms": ["none"]}, "Input should be"),
        ({"secret": SECRET}, "jwt.algorithms has none of them"),
    ],
)
def test_configuration_that_could_not_work_is_refused(section: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        make_config(authentication={"chain": ["jwt"]}, jwt=section)


# Strangers.


async def test_paho_gets_in_by_a_token(broker: Broker) -> None:
    connected = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho")
    client.on_connect = lambda client, data, flags, reason, properties: connected.set()
    client.username_pw_set("device", token("ES256").decode())
    client.connect(broker.mqtt_address.host, broker.mqtt_address.port)
    client.loop_start()
    assert await trio.to_thread.run_sync(connected.wait, 10)
    assert await broker.sessions.find("acme", "bob", "paho") is not None
    client.disconnect()
    await trio.to_thread.run_sync(client.loop_stop)
