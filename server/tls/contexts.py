"""The TLS contexts of a listener: made of files, chosen by server name, made anew when the files change.

A handshake keeps the context that it began with, and so does the connection that comes of it: a reload touches nobody
who is connected. Tickets for the resumption of sessions are sealed with a key of the context. After a reload nobody can
resume therefore, and certificates are verified anew, by the lists of then.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import trio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from .openssl import prefer_our_ciphers, prepare_context, set_groups
from .terms import TlsTerms

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_VERIFY = {
    "none": SSL.VERIFY_NONE,
    "optional": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
# OpenSSL's, with the one of half the work first; but a client that likes ChaCha20 best, as those without instructions
# for AES do, gets it.
_CIPHERSUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_SESSION_ID_CONTEXT = b"rookery"  # OpenSSL resumes no session with a client certificate without one.

T = TypeVar("T")

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey

Signature = tuple[tuple[int, int, int] | None, ...]


class TlsFileError(Exception):
    """A file of a listener cannot be used; the text is one line for the operator and names key and file."""


class NoCommonProtocol(Exception):
    """The client offers protocols by ALPN, and MQTT is none of them."""


class TlsContexts:
    """Those of one listener. Raises TlsFileError when the files cannot be used."""

    def __init__(self, section: str, terms: TlsTerms) -> None:
        """section: of the configuration, as `listeners.NAME`."""
        self._section = section
        self._terms = terms
        self._signature = self._sign()
        self.default = self._load()

    async def reload(self) -> None:
        """Read the files again, in a thread. When that raises, the contexts of before stay."""
        self._signature = self._sign()
        self.default = await trio.to_thread.run_sync(self._load)

    def have_files_changed(self) -> bool:
        """Since they were last read, be it with success or without."""
        return self._sign() != self._signature

    def _sign(self) -> Signature:
        """What tells a changed file from the one of before, without reading it."""
        found: list[tuple[int, int, int] | None] = []
        for file in self._terms.files:
            try:
                status = os.stat(file)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _load(self) -> SSL.Context:
        """The context for whoever names no host; it hands over to the others by itself."""
        terms = self._terms
        revoked = [self._read("client_crl_files", file, x509.load_pem_x509_crl) for file in terms.client_crl_files]
        contexts: list[SSL.Context] = []
        by_name: dict[str, SSL.Context] = {}
        for number, file in enumerate(terms.certificate_files):
            certificate = self._read("certificate_files", file, x509.load_pem_x509_certificate)
            contexts.append(self._load_one(number, revoked))
            for server_name in _server_names(certificate):
                by_name.setdefault(server_name, contexts[-1])
        if len(contexts) > 1:
            contexts[0].set_tlsext_servername_callback(_chooser(by_name))
        return contexts[0]

    def _load_one(self, number: int, revoked: list[x509.CertificateRevocationList]) -> SSL.Context:
        terms = self._terms
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        prepare_context(context)
        prefer_our_ciphers(context)
        context.set_min_proto_version(_VERSIONS[terms.version_minimum])
        context.set_session_id(_SESSION_ID_CONTEXT)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # Tickets keep sessions, at the clients.
        if terms.session_lifetime_s:
            context.set_timeout(terms.session_lifetime_s)
        else:
            context.set_options(SSL.OP_NO_TICKET)
        context.set_alpn_select_callback(_protocol_chooser(terms.protocols))
        if terms.ciphers:
            self._use("ciphers", terms.ciphers, lambda: context.set_cipher_list(terms.ciphers.encode()))
        if terms.ciphersuites:
            self._use(
                "ciphersuites", terms.ciphersuites, lambda: context.set_tls13_ciphersuites(terms.ciphersuites.encode())
            )
        else:
            context.set_tls13_ciphersuites(_CIPHERSUITES)
        if terms.groups:
            self._use("groups", terms.groups, lambda: set_groups(context, terms.groups))
        certificate = terms.certificate_files[number]
        key = terms.key_files[number] if terms.key_files else certificate
        self._use("certificate_files", certificate, lambda: context.use_certificate_chain_file(certificate))
        secret = self._read("key_files", key, _load_key)
        self._use("key_files", key, lambda: context.use_privatekey(secret))
        self._use("key_files", key, context.check_privatekey)
        context.set_verify(_VERIFY[terms.client_certificates])
        for file in terms.client_ca_files:
            # Clients are told of whose certificates are asked for.
            for authority in self._read("client_ca_files", file, x509.load_pem_x509_certificates):
                context.add_client_ca(authority)
            self._use("client_ca_files", file, lambda file=file: context.load_verify_locations(file))  # type: ignore[misc]
        if revoked:
            store = context.get_cert_store()
            assert store is not None
            for revocations in revoked:
                store.add_crl(revocations)
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK)
        return context

    def _read(self, key: str, file: str, parse: Callable[[bytes], T]) -> T:
        return self._use(key, file, lambda: parse(Path(file).read_bytes()))

    def _use(self, key: str, value: str, use: Callable[[], T]) -> T:
        """Whatever goes wrong is said in terms of the configuration."""
        try:
            return use()
        except OSError as error:
            raise TlsFileError(f"{self._section}.{key}: cannot read {value}: {error.strerror}") from error
        except SSL.Error as error:
            raise TlsFileError(f"{self._section}.{key}: cannot use {value}: {explain(error)}") from error
        except ValueError as error:
            raise TlsFileError(f"{self._section}.{key}: cannot use {value}: {error}") from error


def _load_key(data: bytes) -> PrivateKey:
    """The key in a PEM file, which may hold certificates, too. Raises ValueError."""
    try:
        key = load_pem_private_key(data, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        # Nobody is there to type a password.
        raise ValueError("the key is encrypted" if isinstance(error, TypeError) else str(error)) from None
    if not isinstance(key, PrivateKey):
        raise ValueError(f"a key of the kind {type(key).__name__} is of no use for TLS")
    return key


def explain(error: SSL.Error) -> str:
    """What OpenSSL complains of, without its places in the source: `no shared cipher`."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [str(entry[2]) for entry in entries if len(entry) > 2 and entry[2]]
    return ", ".join(dict.fromkeys(reasons)) or str(error) or type(error).__name__


def _server_names(certificate: x509.Certificate) -> Iterator[str]:
    """The host names of a certificate; of a wildcard the whole `*.example.org`."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    for name in extension.value.get_values_for_type(x509.DNSName):
        yield name.lower()


def _chooser(by_name: dict[str, SSL.Context]) -> Callable[[SSL.Connection], None]:
    def choose(connection: SSL.Connection) -> None:
        name = server_name_of(connection)
        _, _, domain = name.partition(".")
        context = by_name.get(name) or by_name.get(f"*.{domain}")
        if context is not None:
            connection.set_context(context)

    return choose


def server_name_of(connection: SSL.Connection) -> str:
    """The host that the client names (SNI), in small letters; empty = none."""
    return (connection.get_servername() or b"").decode("ascii", "replace").lower()


def _protocol_chooser(protocols: tuple[bytes, ...]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for protocol in protocols:
            if protocol in offered:
                return protocol
        # OpenSSL sends the alert no_application_protocol [RFC 7301 3.2].
        raise NoCommonProtocol(", ".join(repr(each.decode("ascii", "replace")) for each in offered[:4]))

    return choose
