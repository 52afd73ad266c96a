"""The only place that reaches behind pyOpenSSL: to the OpenSSL that `cryptography` brings.

After a handshake a shard reads and writes with the SSL object that pyOpenSSL made, without the GIL (core/streams/tls).
For that it needs the address of the object, the right to free it, and the addresses of OpenSSL's functions. These are
private names of the two libraries: pyproject.toml pins their major versions, tests/server/tls proves that all are
there.
"""

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from rookery.core.engine import Engine

_OP_PRIORITIZE_CHACHA = 1 << 21  # SSL_OP_PRIORITIZE_CHACHA of OpenSSL's ssl.h, which no package names

_lib, _ffi = _openssl.lib, _openssl.ffi

# Engine.use_tls -> OpenSSL
_FUNCTIONS = {
    "read": "SSL_read",
    "write": "SSL_write",
    "get_error": "SSL_get_error",
    "pending": "SSL_pending",
    "do_handshake": "SSL_do_handshake",
    "shutdown": "SSL_shutdown",
    "release": "SSL_free",
    "clear_errors": "ERR_clear_error",
}


def version() -> str:
    """That of the library, as `OpenSSL 4.0.3 29 Sep 2026`."""
    text: bytes = _ffi.string(_lib.OpenSSL_version(_lib.OPENSSL_VERSION))
    return text.decode()


def lend_functions(engine: Engine) -> None:
    """Tell the engine where OpenSSL's functions are; they stay there until the process ends."""
    engine.use_tls(**{name: address_of_function(function) for name, function in _FUNCTIONS.items()})


def address_of_function(name: str) -> int:
    """Of OpenSSL's function of this name."""
    return int(_ffi.cast("uintptr_t", _ffi.addressof(_lib, name)))


def address_of_context(context: SSL.Context) -> int:
    """Of the SSL_CTX, which lives as long as context."""
    return int(_ffi.cast("uintptr_t", context._context))


def prepare_context(context: SSL.Context) -> None:
    """What the core expects of an SSL object, see core/streams/tls.pxd."""
    context.set_mode(
        _lib.SSL_MODE_RELEASE_BUFFERS  # An idle connection keeps no buffers: 32 KiB less each.
        | _lib.SSL_MODE_ENABLE_PARTIAL_WRITE
        | _lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    )
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)


def prefer_our_ciphers(context: SSL.Context) -> None:
    """The server's order counts; but ChaCha20 comes first for clients that like it best."""
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | _OP_PRIORITIZE_CHACHA)


def set_groups(context: SSL.Context, groups: str) -> None:
    """Agree on keys by one of these, as `X25519MLKEM768:X25519:P-256`. Raises SSL.Error when one is unknown."""
    if _lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) != 1:
        _lib.ERR_clear_error()
        raise SSL.Error([("SSL routines", "", "an unknown group")])


def address_of(connection: SSL.Connection) -> int:
    """Of the SSL object."""
    return int(_ffi.cast("uintptr_t", connection._ssl))


def disown(connection: SSL.Connection) -> None:
    """Somebody else frees the SSL object from now on; connection must not be used any more, only forgotten."""
    _ffi.gc(connection._ssl, None)


def verification_complaint(connection: SSL.Connection) -> str:
    """What is wrong with the certificate of the peer; empty when it has none or it is good."""
    result = _lib.SSL_get_verify_result(connection._ssl)
    if result == 0:
        return ""
    text: bytes = _ffi.string(_lib.X509_verify_cert_error_string(result))
    return text.decode()


def was_resumed(connection: SSL.Connection) -> bool:
    """The handshake went on with a session of before: no certificate was verified anew."""
    return bool(_lib.SSL_session_reused(connection._ssl))
