"""Files and rules of a TLS listener that cannot be used are told in one line, by key and file."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rookery.server.tls.contexts import TlsContexts, TlsFileError
from rookery.server.tls.openssl import version
from rookery.server.tls.terms import TlsTerms
from support.tls import Authority


def _refusal(terms: TlsTerms) -> str:
    with pytest.raises(TlsFileError) as raised:
        TlsContexts("listeners.x", terms)
    (line,) = str(raised.value).splitlines()
    return line


def test_version_of_the_library_is_told() -> None:
    assert version().startswith("OpenSSL ")


@pytest.mark.parametrize("key", ["certificate_files", "key_files", "client_ca_files", "client_crl_files"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense\n"], ids=["missing", "empty", "nonsense"])
def test_file_that_cannot_be_used_is_named(
    authority: Authority, tmp_path: Path, key: str, content: bytes | None
) -> None:
    good = authority.issue("server.pem", "localhost")
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    files = {"certificate_files": (good,), "key_files": (good,), "client_ca_files": (authority.file,)}
    refusal = _refusal(TlsTerms(**{**files, key: (str(bad),)}, client_certificates="required"))  # type: ignore[arg-type]
    verb = "read" if content is None else "use"
    assert refusal.startswith(f"listeners.x.{key}: cannot {verb} {bad}: ")


def test_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = authority.issue("one.pem", "localhost"), authority.issue("other.pem", "localhost")
    assert "key values mismatch" in _refusal(TlsTerms((one,), (other,)))


def test_encrypted_key_is_refused_without_asking_anybody(authority: Authority, tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    terms = TlsTerms((authority.issue("server.pem", "localhost"),), (str(encrypted),))
    assert _refusal(terms) == f"listeners.x.key_files: cannot use {encrypted}: the key is encrypted"


@pytest.mark.parametrize("key", ["ciphers", "ciphersuites", "groups"])
def test_unknown_cipher_or_group_is_refused(authority: Authority, key: str) -> None:
    terms = TlsTerms((authority.issue("server.pem", "localhost"),), (), **{key: "NO_SUCH_CIPHER"})  # type: ignore[arg-type]
    assert _refusal(terms).startswith(f"listeners.x.{key}: cannot use NO_SUCH_CIPHER: ")
