"""TLS for measurements: a certificate of P-256 for the brokers, and what the generator needs of OpenSSL."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from rookery.server.tls.openssl import address_of_function, prepare_context, set_groups


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Files with a certificate that has signed itself, ECDSA with P-256, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def client_context(groups: str) -> SSL.Context:
    """TLS 1.3 that believes whatever certificate there is: brokers are measured, not trusted."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    prepare_context(context)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_NONE)
    if groups:
        set_groups(context, groups)
    return context


def function_addresses() -> dict[str, int]:
    """By the names of wire.WireLibrary."""
    names = {
        "new": "SSL_new",
        "set_descriptor": "SSL_set_fd",
        "set_connect_state": "SSL_set_connect_state",
        "read": "SSL_read",
        "write": "SSL_write",
        "get_error": "SSL_get_error",
        "free": "SSL_free",
        "clear_errors": "ERR_clear_error",
    }
    return {name: address_of_function(function) for name, function in names.items()}
