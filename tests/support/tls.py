"""TLS from the client's side, and certificates of authorities that the test makes up."""

import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rookery.server.address import Address
from rookery.server.broker import Broker

from . import packets
from .mqtt_client import DEADLINE_S, Client
from .packets import MQTT_5_0
from .waiting import eventually

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH

DAY = datetime.timedelta(days=1)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

Section = dict[str, Any]  # `[listeners.NAME]` of the configuration


def now() -> datetime.datetime:
    """As certificates have it."""
    return datetime.datetime.now(datetime.UTC)


def with_clients(section: Section, authority: "Authority", rule: str = "required") -> Section:
    """The section of a listener that asks its clients for certificates of authority."""
    return {**section, "client_certificates": rule, "client_ca_files": [authority.file]}


class Authority:
    """Signs certificates and revokes them; everything lies in files of one directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._revoked: list[x509.Certificate] = []
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = self._write(f"{name}.pem", _pem(self._certificate))

    def issue(
        self,
        file_name: str,
        *hosts: str,
        subject: Iterable[tuple[x509.ObjectIdentifier, str]] = (),
        usages: Iterable[x509.ObjectIdentifier] = (SERVER_AUTH,),
        valid_from: datetime.datetime | None = None,
        valid_until: datetime.datetime | None = None,
    ) -> str:
        """The file of a new certificate for these hosts, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(identifier, value) for identifier, value in subject])
        builder = self._builder(name, key.public_key(), valid_from, valid_until).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=not subject
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return self._write(file_name, _secret(key) + _pem(certificate))

    def issue_client(self, user_id: str = "user", tenant_id: str = "tenant") -> str:
        """The file of a certificate for a client: CN and O of its subject are user and tenant."""
        subject = ((NameOID.ORGANIZATION_NAME, tenant_id), (NameOID.COMMON_NAME, user_id))
        return self.issue(f"{tenant_id}-{user_id}.pem", subject=subject, usages=(CLIENT_AUTH,))

    def pretend(self) -> str:
        """The file of a certificate for a client that nobody but its own key has signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "itself")])
        builder = self._builder(name, key.public_key(), issuer=name)
        return self._write("itself.pem", _secret(key) + _pem(builder.sign(key, hashes.SHA256())))

    def revoke(self, *files: str) -> str:
        """The file of a list of all certificates that were ever revoked, these among them."""
        self._revoked.extend(x509.load_pem_x509_certificate(Path(file).read_bytes()) for file in files)
        moment = now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(moment - DAY)
            .next_update(moment + DAY)
        )
        for certificate in self._revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(moment - DAY)
                .build()
            )
        crl = builder.sign(self._key, hashes.SHA256())
        return self._write("revoked.pem", crl.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        valid_from: datetime.datetime | None = None,
        valid_until: datetime.datetime | None = None,
        issuer: x509.Name | None = None,
    ) -> x509.CertificateBuilder:
        moment = now()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer or self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(valid_from or moment - DAY)
            .not_valid_after(valid_until or moment + DAY)
        )

    def _write(self, file_name: str, content: bytes) -> str:
        # All at once, as tools do that renew certificates.
        path = self._directory / file_name
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.rename(path)
        return str(path)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _secret(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def client_context(
    authority: Authority,
    certificate: str | None = None,
    *,
    version: ssl.TLSVersion | None = None,
    protocols: Iterable[str] = ("mqtt",),
) -> ssl.SSLContext:
    """What a careful client uses; with version no other one is spoken."""
    context = ssl.create_default_context(cafile=authority.file)
    if certificate is not None:
        context.load_cert_chain(certificate)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


Stream = trio.SSLStream[trio.SocketStream]


@asynccontextmanager
async def open_tls(
    address: Address, context: ssl.SSLContext, server_name: str | None = "localhost"
) -> AsyncIterator[Stream]:
    """A connection after its handshake. Raises trio.BrokenResourceError whose cause is the ssl.SSLError of an alert.

    Leaving the block closes the socket without a close_notify. In TLS 1.3 a client is done before the server has seen
    its certificate: the alert comes when it reads.
    """
    with trio.fail_after(DEADLINE_S):
        wire = await trio.open_tcp_stream(address.host, address.port)
    async with wire:
        stream = trio.SSLStream(wire, context, server_hostname=server_name)
        with trio.fail_after(DEADLINE_S):
            await stream.do_handshake()
        yield stream


@asynccontextmanager
async def connect(
    address: Address, context: ssl.SSLContext, *, version: int = MQTT_5_0, **fields: object
) -> AsyncIterator[Client]:
    """A client that is connected over TLS; fields are those of CONNECT."""
    async with open_tls(address, context) as stream:
        client = Client(stream, version)
        connack = await client.connect(**fields)
        assert connack.reason_code == 0
        yield client


async def read_to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    """All that comes. Raises trio.BrokenResourceError for an alert, or an end without close_notify."""
    received = b""
    with trio.fail_after(DEADLINE_S):
        while data := await stream.receive_some():
            received += data
    return received


async def count_one_failure(broker: Broker, admitted: int = 0) -> None:
    """At the listener `secure`, beside those that were let in."""
    counts = broker.entrances["secure"].counts
    await eventually(lambda: counts.failed == 1)
    assert (counts.admitted, counts.turned_away) == (admitted, 0)


def resume(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """Whether a new connection resumes session, and a session to resume next."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(packets.encode(packets.Connect(client_id="c"), MQTT_5_0))
        assert connection.recv(1) == b"\x20"  # Tickets of TLS 1.3 come with the first bytes.
        return bool(connection.session_reused), connection.session


class Failures:
    """One line of the log each."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def reasons(self) -> list[str]:
        """In their order."""
        lines = [record.msg for record in self._caplog.records if isinstance(record.msg, dict)]
        return [line["reason"] for line in lines if line["event"] in ("handshake_failed", "upgrade_failed")]
