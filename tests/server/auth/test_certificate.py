"""Certificates of clients: whom they name, and that one that does not name exactly one is refused."""

import datetime
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted, Refused
from rookery.server.auth.certificate import CertificateAuthenticator
from rookery.server.auth.chain import NOT_MINE
from rookery.server.config import CertificateSection
from support.own_broker import make_config

KEY = ec.generate_private_key(ec.SECP256R1())
OIDS = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "UID": NameOID.USER_ID,
}
END = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=1)


def certificate(*subject: tuple[str, str], names: tuple[x509.GeneralName, ...] = ()) -> bytes:
    """DER of a certificate with this subject and these alternative names, as an authority might sign it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(OIDS[name], value) for name, value in subject]))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(0xBEEF)
        .not_valid_before(END - datetime.timedelta(hours=2))
        .not_valid_after(END)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


BOB = certificate(("O", "acme"), ("CN", "bob"))


def kind_of(value: object) -> str:
    """The name of a parameter: the bytes of a certificate differ from process to process."""
    return type(value).__name__


def request_of(der: bytes | None, username: str | None = None) -> ConnectRequested:
    return ConnectRequested(1, 0, "192.0.2.1:1", 5, "c", username, None, clean_start=True, certificate=der)


def answer_to(der: bytes | None, said: str | None = None, **section: Any) -> Any:
    return CertificateAuthenticator(CertificateSection(**section).terms).decide(request_of(der, said))


def names_of(der: bytes, **section: Any) -> tuple[str, str]:
    admitted = answer_to(der, **section)
    assert isinstance(admitted, Admitted), admitted
    return admitted.tenant_id, admitted.user_id


async def test_subject_names_tenant_and_user_until_the_certificate_ends() -> None:
    authenticator = CertificateAuthenticator(CertificateSection().terms)
    admitted = await authenticator.authenticate(request_of(BOB))
    assert isinstance(admitted, Admitted)
    assert (admitted.tenant_id, admitted.user_id) == ("acme", "bob")
    assert admitted.attributes["certificate_serial"] == "beef"
    assert len(admitted.attributes["certificate_sha256"]) == 64
    assert admitted.expires_at_s == END.timestamp() > time.time()


def test_client_without_a_certificate_is_left_to_the_next() -> None:
    assert answer_to(None) is NOT_MINE


@pytest.mark.parametrize(
    ("der", "section", "names"),
    [
        (BOB, {"tenant": "fixed"}, ("fixed", "bob")),
        (
            certificate(("OU", "acme"), ("UID", "7")),
            {"tenant_field": "subject.OU", "user_field": "subject.UID"},
            ("acme", "7"),
        ),
        (
            certificate(("O", "acme"), names=(x509.DNSName("d.example"),)),
            {"user_field": "san.dns"},
            ("acme", "d.example"),
        ),
        (certificate(("O", "acme"), names=(x509.RFC822Name("b@x"),)), {"user_field": "san.email"}, ("acme", "b@x")),
        (
            certificate(names=(x509.DNSName("x"), x509.UniformResourceIdentifier("urn:device:acme:bob"))),
            {"user_field": "san.uri", "user_pattern": "urn:device:(?P<tenant>[^:]+):(?P<user>.+)"},
            ("acme", "bob"),
        ),
        (BOB, {"user_pattern": "(?P<user>b).*"}, ("acme", "b")),
        (certificate(("O", "Ünï"), ("CN", "bob/1")), {}, ("Ünï", "bob/1")),
    ],
    ids=kind_of,
)
def test_fields_that_the_configuration_names_are_used(
    der: bytes, section: dict[str, str], names: tuple[str, str]
) -> None:
    assert names_of(der, **section) == names


@pytest.mark.parametrize(
    ("der", "section"),
    [
        (certificate(), {}),
        (certificate(("CN", "bob")), {}),
        (certificate(("O", "acme")), {}),
        (certificate(("O", "acme"), ("CN", "bob"), ("CN", "root")), {}),
        (certificate(("O", "acme"), ("O", "other"), ("CN", "bob")), {}),
        (certificate(("O", "acme/x"), ("CN", "bob")), {}),
        (certificate(("O", "acme"), ("CN", "bob\0")), {}),
        (certificate(("O", "acme"), names=(x509.DNSName("a"), x509.DNSName("b"))), {"user_field": "san.dns"}),
        (BOB, {"user_pattern": "(?P<user>eve)"}),
        (BOB, {"user_pattern": "(?P<user>bo)"}),
        (BOB, {"user_pattern": "(?P<user>)bob"}),
    ],
    ids=kind_of,
)
def test_certificate_that_does_not_name_one_tenant_and_one_user_is_refused(der: bytes, section: dict[str, str]) -> None:
    assert answer_to(der, **section) == Refused(
        ReasonCode.BAD_USER_NAME_OR_PASSWORD, "the certificate does not name one tenant and one user"
    )


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x82\xff\xff", BOB[:-1], BOB[:100], BOB + b"x"], ids=kind_of)
def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    refused = answer_to(der)
    assert isinstance(refused, Refused)
    assert refused.reason_string == "the certificate cannot be read"


@pytest.mark.parametrize(
    ("wanted", "username", "is_admitted"),
    [
        ("any", None, True),
        ("any", "eve", True),
        ("user", "bob", True),
        ("user", None, False),
        ("user", "eve", False),
        ("tenant/user", "acme/bob", True),
        ("tenant/user", "bob", False),
    ],
)
def test_user_name_is_what_the_configuration_wants(wanted: str, username: str | None, is_admitted: bool) -> None:
    assert isinstance(answer_to(BOB, username, username=wanted), Admitted) == is_admitted


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"user_pattern": "("}, "is no regular expression"),
        ({"user_pattern": ".*"}, "has no group"),
        ({"user_field": "subject.X"}, "Input should be"),
    ],
)
def test_configuration_that_could_not_work_is_refused(section: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        make_config(authentication={"chain": ["certificate"]}, certificate=section)
