"""The sections about what is listened on: `[mqtt]`, `[connections]`, `[listeners.NAME]` and `[api]`."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from pydantic import Field, SecretStr

from .address import Address
from .config_fields import (
    COUNT_MAXIMUM,
    RATE_MAXIMUM,
    Bind,
    Chain,
    FileMode,
    KeyPath,
    ListenerBind,
    Network,
    Section,
)
from .tls.terms import ClientCertificates, TlsTerms, TlsVersion

API_KEY_LENGTH_MINIMUM = 32  # characters: it is looked up, not hashed slowly, so nobody may be able to guess it
_CLIENT_ROLE = r"(viewer|publisher|admin)(:[^/\x00]+)?"

_CONNECTIONS_LIMIT = "connections to this listener at once; more are closed; 0 = unlimited"
_CONNECTIONS_RATE = "connections that may come to this listener per second; 0 = unlimited"

_TENANT = "tenant of all clients of this listener; empty = as authenticators say"
_TENANT_PATTERN = r"^[^/\x00]*$"
_CERTIFICATE_FILES = "PEM with chain, for TLS; of several the client's SNI chooses, else the first"
_LISTENER_CHAIN = "who is asked here, in order, instead of `authentication.chain`; empty = that"


class MqttSection(Section):
    """`[mqtt]`: the listener of MQTT over TCP."""

    bind: Bind = Field(default=Address("127.0.0.1", 1883), description="address of MQTT over TCP")
    backlog: int = Field(
        default=4096, ge=1, le=65535, description="connections that the kernel holds until they are accepted"
    )
    connections_limit: int = Field(default=0, ge=0, le=COUNT_MAXIMUM, description=_CONNECTIONS_LIMIT)
    connections_rate_per_s: int = Field(default=0, ge=0, le=RATE_MAXIMUM, description=_CONNECTIONS_RATE)
    tenant: str = Field(default="", pattern=_TENANT_PATTERN, description=_TENANT)
    authenticators: Chain = Field(default=(), description=_LISTENER_CHAIN)


class ConnectionsSection(Section):
    """`[connections]`: how many there may be, over all listeners. 0 = unlimited."""

    limit: int = Field(default=0, ge=0, le=COUNT_MAXIMUM, description="connections at once; more are closed")
    rate_per_s: int = Field(default=0, ge=0, le=RATE_MAXIMUM, description="connections that may come per second")
    network_limit: int = Field(default=0, ge=0, le=COUNT_MAXIMUM, description="connections at once from one network")
    network_rate_per_s: int = Field(
        default=0, ge=0, le=RATE_MAXIMUM, description="connections per second from one network"
    )
    network_ipv4_bits: int = Field(default=32, ge=1, le=32, description="of an IPv4 address that make its network")
    network_ipv6_bits: int = Field(default=64, ge=1, le=64, description="of an IPv6 address that make its network")
    timeout_s: float = Field(
        default=20.0, gt=0, le=3600, description="from accept (or the end of the handshake) to the verdict on CONNECT"
    )
    packet_timeout_s: float = Field(
        default=60.0, ge=0, le=86_400, description="from the first byte of a client's packet to its last; 0 = for ever"
    )


class TlsSection(Section):
    """What sections with a listener that may speak TLS have in common."""

    certificate_files: Chain = Field(default=(), description=_CERTIFICATE_FILES)
    key_files: Chain = Field(default=(), description="PEM, in the same order; empty = in the files of the certificates")
    client_certificates: ClientCertificates = Field(
        default="none", description="none: not asked for; optional: verified if there is one; required"
    )
    client_ca_files: Chain = Field(default=(), description="PEM: authorities of the certificates of clients")
    client_crl_files: Chain = Field(default=(), description="PEM: revocation lists of these authorities, one per file")
    tls_version_minimum: TlsVersion = Field(default="1.2", description="oldest version of TLS, 1.2 or 1.3")
    ciphers: str = Field(default="", description="of TLS 1.2, as OpenSSL writes them; empty = its choice")
    ciphersuites: str = Field(
        default="", description="of TLS 1.3, as OpenSSL writes them; empty = AES-128, AES-256, ChaCha20"
    )
    groups: str = Field(
        default="",
        description="for the agreement on keys, as `X25519:P-256`, as OpenSSL writes them; empty = its choice",
    )
    session_lifetime_s: int = Field(
        default=7200, ge=0, le=86_400, description="for which a client may resume its TLS session; 0 = never"
    )

    def terms_for(self, protocol: bytes) -> TlsTerms:
        """For clients that speak this protocol, by its name in ALPN."""
        return TlsTerms(
            certificate_files=self.certificate_files,
            key_files=self.key_files,
            client_certificates=self.client_certificates,
            client_ca_files=self.client_ca_files,
            client_crl_files=self.client_crl_files,
            version_minimum=self.tls_version_minimum,
            ciphers=self.ciphers,
            ciphersuites=self.ciphersuites,
            groups=self.groups,
            session_lifetime_s=self.session_lifetime_s,
            protocols=(protocol,),
        )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself where there is TLS, by key."""
        if self.key_files and len(self.key_files) != len(self.certificate_files):
            counts = f"names {len(self.key_files)} files, and there are {len(self.certificate_files)} certificates"
            yield "key_files", counts
        if self.client_certificates == "none":
            for key in ("client_ca_files", "client_crl_files"):
                if getattr(self, key):
                    yield key, "has no effect, as client_certificates is none"
        elif not self.client_ca_files:
            yield "client_ca_files", f"has to be set, as client_certificates is {self.client_certificates}"


_KEYS_OF_KINDS = {
    ("tls", "wss"): tuple(TlsSection.__annotations__),
    ("ws", "wss"): ("path", "origins"),
    ("unix",): ("mode",),
}


class ListenerSection(TlsSection):
    """`[listeners.NAME]`: a listener beside that of `[mqtt]`."""

    kind: Literal["tcp", "tls", "ws", "wss", "unix"] = Field(
        description="tcp: MQTT as it is; ws: MQTT in WebSocket frames; tls, wss: the same over TLS; unix: a Unix socket"
    )
    bind: ListenerBind = Field(
        description="address; conventional ports are 1883 (tcp), 8883 (tls), 8080 (ws), 8443 (wss); unix: absolute path"
    )
    backlog: int = Field(
        default=4096, ge=1, le=65535, description="connections that the kernel holds until they are accepted"
    )
    connections_limit: int = Field(default=0, ge=0, le=COUNT_MAXIMUM, description=_CONNECTIONS_LIMIT)
    connections_rate_per_s: int = Field(default=0, ge=0, le=RATE_MAXIMUM, description=_CONNECTIONS_RATE)
    tenant: str = Field(default="", pattern=_TENANT_PATTERN, description=_TENANT)
    tenant_from: Literal["", "server_name", "path", "certificate"] = Field(
        default="", description="what names the tenant of a client: first label of SNI, end of the path, certificate"
    )
    authenticators: Chain = Field(default=(), description=_LISTENER_CHAIN)
    mode: FileMode = Field(default=0o660, description="unix: permissions of the socket")
    proxy_protocol: bool = Field(default=False, description="connections begin with a PROXY header, of version 1 or 2")
    proxy_trusted: tuple[Network, ...] = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="networks of the proxies; connections from elsewhere are closed",
    )
    path: str = Field(default="/mqtt", pattern="^/", description="ws, wss: where MQTT is; 404 elsewhere")
    origins: list[str] = Field(
        default_factory=list, description="ws, wss: pages that may connect, as `https://example.org`; empty = all"
    )
    handshake_timeout_s: float = Field(
        default=10.0, gt=0, description="for the handshake of TLS and the upgrade to WebSocket together"
    )
    handshakes_limit: int = Field(default=1000, ge=1, description="handshakes and upgrades at once; more are closed")

    @property
    def is_tls(self) -> bool:
        return self.kind in ("tls", "wss")

    @property
    def is_accepted_by_shards(self) -> bool:
        """Nothing has to happen before the first byte of MQTT."""
        return self.kind in ("tcp", "unix") and not self.proxy_protocol

    @property
    def is_websocket(self) -> bool:
        return self.kind in ("ws", "wss")

    @property
    def tls_terms(self) -> TlsTerms:
        return self.terms_for(b"http/1.1" if self.is_websocket else b"mqtt")

    def problems(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself, by key."""
        for kinds, keys in _KEYS_OF_KINDS.items():
            for key in keys:
                if key in self.model_fields_set and self.kind not in kinds:
                    yield key, f"is for {' and '.join(kinds)}, and kind is {self.kind}"
        if self.bind.is_path != (self.kind == "unix"):
            expected = "the absolute path of a socket" if self.kind == "unix" else "HOST:PORT"
            yield "bind", f"expected {expected}, as kind is {self.kind}"
        if self.tenant and self.tenant_from:
            yield "tenant_from", "has no effect, as tenant names one"
        can_tell = {
            "server_name": self.is_tls or self.proxy_protocol,
            "path": self.is_websocket,
            "certificate": self.client_certificates != "none" or self.proxy_protocol,
        }
        if not can_tell.get(self.tenant_from, True):
            yield "tenant_from", f"is {self.tenant_from}, and clients of this listener have none"
        if "proxy_trusted" in self.model_fields_set and not self.proxy_protocol:
            yield "proxy_trusted", "has no effect without proxy_protocol"
        if not self.is_tls:
            return
        if not self.certificate_files:
            yield "certificate_files", f"has to name the certificate of the server, as kind is {self.kind}"
        yield from self.contradictions()


class ApiSection(TlsSection):
    """`[api]`: the HTTP listener and what one client of it may use up."""

    bind: Bind = Field(default=Address("127.0.0.1", 8091), description="address of the HTTP API")
    body_limit_bytes: int = Field(
        default=262_144, ge=1, le=256 * 1024 * 1024, description="largest request body of any tenant; 413 above it"
    )
    batch_limit_bytes: int = Field(
        default=16_777_216, ge=1, le=256 * 1024 * 1024, description="largest body of a batch of messages; 413 above it"
    )
    # A topic of 65535 bytes and 32 KiB of other headers.
    header_limit_bytes: int = Field(
        default=98_304, ge=4096, le=1024 * 1024, description="largest request line and header block; 431 above it"
    )
    connections_limit: int = Field(default=1024, ge=1, description="open HTTP connections; more are closed at once")
    requests_in_work_limit: int = Field(default=256, ge=1, description="requests in work; 503 above it")
    request_timeout_s: float = Field(default=10.0, gt=0, description="for the request to arrive whole")
    keep_alive_timeout_s: float = Field(default=30.0, gt=0, description="between two requests of a connection")
    require_key: bool = Field(default=False, description="every request needs an API key, but for health")
    admin_key: SecretStr = Field(
        default=SecretStr(""), description="a key that may do everything, beside those of the database; empty = none"
    )
    requests_per_second: float = Field(default=0.0, ge=0, description="of one key or address; 429 above it; 0 = any")
    backup_dir: str = Field(default="", description="where `POST /v1/backups` puts them; empty = it makes none")
    metrics_tenants_limit: int = Field(
        default=1000, ge=0, le=100_000, description="tenants with metrics of their own; the others are summed up"
    )
    client_roles: dict[str, str] = Field(
        default_factory=dict,
        description="common name of a client's certificate -> `viewer`, `publisher` or `admin`, `:TENANT` behind it",
    )

    @property
    def is_tls(self) -> bool:
        return bool(self.certificate_files)

    @property
    def asks_who_calls(self) -> bool:
        """Is there a proof that every caller has to bring?"""
        return self.require_key or self.client_certificates == "required"

    @property
    def tls_terms(self) -> TlsTerms:
        return self.terms_for(b"http/1.1")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """What contradicts itself, by the path below `api`."""
        if 0 < len(self.admin_key.get_secret_value()) < API_KEY_LENGTH_MINIMUM:
            yield ("admin_key",), f"is shorter than {API_KEY_LENGTH_MINIMUM} characters"
        if self.is_tls:
            for key, problem in self.contradictions():
                yield (key,), problem
        else:
            for key in TlsSection.__annotations__:
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield (key,), "has no effect without certificate_files"
        if self.client_roles and self.client_certificates == "none":
            yield ("client_roles",), "has no effect, as client_certificates is none"
        for name, role in self.client_roles.items():
            if not re.fullmatch(_CLIENT_ROLE, role):
                yield ("client_roles", name), f"expected viewer, publisher or admin, or one with :TENANT, got {role!r}"
