"""The configuration as a typed model: its sections, their keys, defaults and ranges.

Constructing Config reads nothing but its arguments, so that a broker that a test or another program opens does not
depend on its surroundings; config_sources.load_config reads the places where operators write.
"""

import os
import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rookery.core.settings import PROFILES, ProfileName, SettingError, TenantSettings

from .address import Address
from .auth.certificate_terms import CertificateTerms, compile_pattern
from .auth.scram import ScramCredential, parse_username
from .auth.token_terms import TokenTerms
from .auth.urls import check_url
from .tls.terms import ClientCertificates, TlsTerms, TlsVersion

MEMORY = "memory"
UNIX_PATH_MAXIMUM = 107  # bytes, as the kernel has it
SHARD_COUNT_MAXIMUM = 64  # the core names the shards that want a topic filter by the bits of one word

API_KEY_LENGTH_MINIMUM = 32  # characters: it is looked up, not hashed slowly, so nobody may be able to guess it
COUNT_MAXIMUM = 10_000_000  # connections: more than any machine has descriptors
RATE_MAXIMUM = 1_000_000  # per second
_CONNECTIONS_LIMIT = "connections to this listener at once; more are closed; 0 = unlimited"
_CONNECTIONS_RATE = "connections that may come to this listener per second; 0 = unlimited"

_TENANT = "tenant of all clients of this listener; empty = as authenticators say"
_TENANT_PATTERN = r"^[^/\x00]*$"
_LISTENER_CHAIN = "who is asked here, in order, instead of `authentication.chain`; empty = that"

AUTHENTICATORS = ("development", "password-file", "users", "jwt", "call-out", "certificate")  # that a chain may name

KeyPath = tuple[str, ...]  # ("mqtt", "bind")
SettingValues = dict[str, bool | int | str]  # by BifroMQ's names


class Contradiction(ValueError):
    """What is wrong with fields that are fine one by one; reported under their paths, not under that of the model."""

    def __init__(self, problems: list[tuple[KeyPath, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def _parse_address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected HOST:PORT, got {value!r}")
    return Address.parse(value)


def _parse_settings(values: object) -> TenantSettings:
    if isinstance(values, TenantSettings):
        return values
    if not isinstance(values, dict):
        raise ValueError("expected a table of settings")
    named = dict(values)
    profile: ProfileName = named.pop("profile", "default")
    if not isinstance(profile, str) or profile not in PROFILES:
        raise Contradiction([(("profile",), f"expected one of {', '.join(PROFILES)}, got {profile!r}")])
    return TenantSettings.from_names(named, base=PROFILES[profile])


def _check_settings(values: SettingValues) -> SettingValues:
    TenantSettings.from_names(values)
    return values


def default_shard_count(cpu_count: int) -> int:
    """One shard on one or two CPUs, else one fewer than CPUs.

    The kernel's side of the network and the control plane want a core of their own; a second shard on two CPUs costs
    more in messages between shards than it gains.
    """
    return max(1, cpu_count - 1)


def _count_shards() -> int:
    return min(default_shard_count(len(os.sched_getaffinity(0))), SHARD_COUNT_MAXIMUM)


def _split_chain(value: object) -> object:
    """The environment has no lists: names with commas between them."""
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


def _parse_bind(value: object) -> Address:
    """Of a listener that may be a Unix socket."""
    if isinstance(value, str) and value.startswith("/"):
        if len(value.encode()) > UNIX_PATH_MAXIMUM or "\0" in value:
            raise ValueError(f"the path of a Unix socket has at most {UNIX_PATH_MAXIMUM} bytes")
        return Address(value, 0)
    return _parse_address(value)


def _parse_mode(value: object) -> object:
    if isinstance(value, str):
        if not re.fullmatch("[0-7]{3,4}", value):
            raise ValueError(f"expected octal digits as 0660, got {value!r}")
        return int(value, 8)
    return value


Chain = Annotated[tuple[str, ...], BeforeValidator(_split_chain)]
# Permissions of a file as chmod takes them: "0660".
FileMode = Annotated[int, BeforeValidator(_parse_mode), PlainSerializer(lambda mode: f"{mode:04o}")]
Network = Annotated[IPv4Network | IPv6Network, PlainSerializer(str)]
ListenerBind = Annotated[Address, PlainValidator(_parse_bind), PlainSerializer(str)]
Bind = Annotated[Address, PlainValidator(_parse_address), PlainSerializer(str)]
Defaults = Annotated[TenantSettings, PlainValidator(_parse_settings), PlainSerializer(TenantSettings.to_names)]


class Section(BaseModel):
    """What all sections have in common: no unknown keys, no change after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


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


_KEYS_OF_KINDS = {
    ("tls", "wss"): (
        "certificate_files",
        "key_files",
        "client_certificates",
        "client_ca_files",
        "client_crl_files",
        "tls_version_minimum",
        "ciphers",
        "ciphersuites",
        "session_lifetime_s",
    ),
    ("ws", "wss"): ("path", "origins"),
    ("unix",): ("mode",),
}


class ListenerSection(Section):
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
    certificate_files: Chain = Field(
        default=(), description="tls, wss: PEM with chain; of several the client's SNI chooses, else the first"
    )
    key_files: Chain = Field(default=(), description="PEM, in the same order; empty = in the files of the certificates")
    client_certificates: ClientCertificates = Field(
        default="none", description="none: not asked for; optional: verified if there is one; required"
    )
    client_ca_files: Chain = Field(default=(), description="PEM: authorities of the certificates of clients")
    client_crl_files: Chain = Field(default=(), description="PEM: revocation lists of these authorities, one per file")
    tls_version_minimum: TlsVersion = Field(default="1.2", description="oldest version of TLS, 1.2 or 1.3")
    ciphers: str = Field(default="", description="of TLS 1.2, as OpenSSL writes them; empty = its choice")
    ciphersuites: str = Field(default="", description="of TLS 1.3, as OpenSSL writes them; empty = its choice")
    session_lifetime_s: int = Field(
        default=7200, ge=0, le=86_400, description="for which a client may resume its TLS session; 0 = never"
    )

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
        return TlsTerms(
            certificate_files=self.certificate_files,
            key_files=self.key_files,
            client_certificates=self.client_certificates,
            client_ca_files=self.client_ca_files,
            client_crl_files=self.client_crl_files,
            version_minimum=self.tls_version_minimum,
            ciphers=self.ciphers,
            ciphersuites=self.ciphersuites,
            session_lifetime_s=self.session_lifetime_s,
            protocols=(b"http/1.1",) if self.is_websocket else (b"mqtt",),
        )

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
        if self.key_files and len(self.key_files) != len(self.certificate_files):
            counts = f"names {len(self.key_files)} files, and there are {len(self.certificate_files)} certificates"
            yield "key_files", counts
        if self.client_certificates == "none":
            for key in ("client_ca_files", "client_crl_files"):
                if getattr(self, key):
                    yield key, "has no effect, as client_certificates is none"
        elif not self.client_ca_files:
            yield "client_ca_files", f"has to be set, as client_certificates is {self.client_certificates}"


class ApiSection(Section):
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


class DataSection(Section):
    """`[data]`: where sessions and retained messages are kept, and when what is written is on the disk."""

    dir: str = Field(
        default=MEMORY,
        min_length=1,
        description=f"directory of durable data, or {MEMORY!r} for none; the command line has a default of its own",
    )
    sync: Literal["always", "interval", "never"] = Field(
        default="always", description="when an acknowledgement leaves: after the disk has it, or the kernel"
    )
    sync_interval_ms: int = Field(default=100, ge=1, le=60_000, description="with sync = 'interval': at the latest")
    segment_size_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024 * 1024, le=4 * 1024**3, description="size of one file of the durable log"
    )
    inbox_memory_bytes: int = Field(
        default=128 * 1024 * 1024,
        ge=0,
        description="of messages that wait in inboxes; what is beyond lies in files of the directory",
    )
    refuse_after_ms: int = Field(
        default=5000,
        ge=0,
        le=3_600_000,
        description="of a failing disk: then 5.0 clients get 0x97 instead of no answer",
    )

    @property
    def is_memory(self) -> bool:
        return self.dir == MEMORY

    @property
    def directory(self) -> Path | None:
        """None = nothing is written anywhere."""
        return None if self.is_memory else Path(self.dir)


class ShardsSection(Section):
    """`[shards]`: the threads that carry the messages."""

    count: int = Field(
        default_factory=_count_shards, ge=1, le=SHARD_COUNT_MAXIMUM, description="threads; by default as many as fit"
    )


class AuthenticationSection(Section):
    """`[authentication]`: who decides about a CONNECT."""

    chain: Chain = Field(
        default=("development",),
        description="who is asked, in order; all names are in [authentication.md](authentication.md)",
    )
    password_file: str = Field(default="", description="users of `password-file`, read again at SIGHUP")
    hashing_threads: int = Field(default=2, ge=1, le=64, description="password hashes computed at once, 19 MiB each")
    remember_s: float = Field(
        default=300.0, ge=0, le=86_400, description="a right password is not hashed again for so long; 0 = it always is"
    )
    remember_limit: int = Field(default=100_000, ge=1, description="right passwords remembered; the oldest go first")
    timeout_s: float = Field(default=10.0, gt=0, description="for one decision; none in time is a refusal")
    in_work_limit: int = Field(default=1000, ge=1, description="decisions that wait at once; more are refused as busy")
    exchange_limit: int = Field(
        default=1000, ge=1, description="enhanced authentications at once; those of connected clients are counted apart"
    )


JwtAlgorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class JwtSection(Section):
    """`[jwt]`: what tokens have to be like for `jwt` of the chain, and what their claims mean."""

    algorithms: Annotated[tuple[JwtAlgorithm, ...], BeforeValidator(_split_chain)] = Field(
        default=("RS256", "ES256", "EdDSA"), min_length=1, description="with which tokens may be signed, no other"
    )
    keys: str = Field(default="", description="JWKS with the public keys: a file, or a URL with https://")
    secret: SecretStr = Field(
        default=SecretStr(""), description="shared secret of HS256 (32 bytes or more), HS384, HS512"
    )
    ca_file: str = Field(default="", description="authorities of the URL of `keys`, PEM; empty = those of the system")
    timeout_s: float = Field(default=5.0, gt=0, description="for keys to arrive from a URL")
    refresh_s: float = Field(default=300.0, gt=0, description="keys are read again after so long, and for a new key")
    issuer: str = Field(default="", description="`iss` of every token; empty = any")
    audience: Chain = Field(default=(), description="`aud` has one of them; empty = only tokens without `aud`")
    leeway_s: float = Field(default=10.0, ge=0, le=3600, description="clocks may differ by so much")
    require_expiry: bool = Field(default=True, description="a token without `exp` is refused")
    tenant: str = Field(default="", description="tenant of all tokens; empty = as the claim says")
    tenant_claim: str = Field(default="tenant", min_length=1, description="claim that names the tenant")
    user_claim: str = Field(default="sub", min_length=1, description="claim that names the user")
    rules_claim: str = Field(default="rules", min_length=1, description="claim with permission rules")
    attributes_claim: str = Field(
        default="attributes", min_length=1, description="claim with attributes for the session"
    )
    username: Literal["any", "user", "tenant/user"] = Field(
        default="any", description="what the user name of CONNECT has to be: anything, or as the token says"
    )

    @property
    def keys_are_remote(self) -> bool:
        return "://" in self.keys

    @property
    def terms(self) -> TokenTerms:
        return TokenTerms(
            algorithms=frozenset(self.algorithms),
            issuer=self.issuer,
            audience=self.audience,
            leeway_s=self.leeway_s,
            require_expiry=self.require_expiry,
            tenant=self.tenant,
            tenant_claim=self.tenant_claim,
            user_claim=self.user_claim,
            rules_claim=self.rules_claim,
            attributes_claim=self.attributes_claim,
            username=self.username,
        )


def _check_pattern(text: str) -> str:
    compile_pattern(text)
    return text


CertificateField = Literal[
    "subject.CN",
    "subject.O",
    "subject.OU",
    "subject.UID",
    "subject.serialNumber",
    "subject.DC",
    "subject.emailAddress",
    "san.dns",
    "san.uri",
    "san.email",
]


class CertificateSection(Section):
    """`[certificate]`: what the certificates of clients have to say for `certificate` of the chain."""

    tenant: str = Field(default="", description="tenant of all certificates; empty = as `tenant_field` says")
    tenant_field: CertificateField = Field(default="subject.O", description="field that names the tenant")
    user_field: CertificateField = Field(default="subject.CN", description="field that names the user")
    user_pattern: Annotated[str, AfterValidator(_check_pattern)] = Field(
        default="", description="all of `user_field`: regular expression with groups `user` and, if it has it, `tenant`"
    )
    username: Literal["any", "user", "tenant/user"] = Field(
        default="any", description="what the user name of CONNECT has to be: anything, or as the certificate says"
    )

    @property
    def terms(self) -> CertificateTerms:
        return CertificateTerms(
            self.tenant, self.tenant_field, self.user_field, compile_pattern(self.user_pattern), self.username
        )


class CallOutSection(Section):
    """`[call_out]`, `[permission_call_out]`: a service that is asked over HTTP."""

    url: str = Field(default="", description="where it is asked, by POST; https://, or http:// on this machine")
    authorization: SecretStr = Field(
        default=SecretStr(""), description="header Authorization of each request: `Bearer ...`; empty = none"
    )
    ca_file: str = Field(default="", description="authorities of its certificate, PEM; empty = those of the system")
    timeout_s: float = Field(default=3.0, gt=0, description="for one answer; none in time has failed")
    breaker_s: float = Field(default=10.0, gt=0, description="it is not asked for so long after 5 failures in a row")
    connections_limit: int = Field(default=32, ge=1, le=1000, description="requests at once; more wait")
    cache_s: float = Field(default=60.0, ge=0, description="an answer that lets in holds for so long; 0 = never again")
    cache_limit: int = Field(default=100_000, ge=1, description="answers remembered; the oldest go first")


class PluginSection(Section):
    """`[plugins.NAME]`: a plugin and how it is called."""

    use: str = Field(min_length=1, description="`module:attribute`, or the name of an installed plugin")
    timeout_s: float = Field(default=5.0, gt=0, description="for one call; none in time has failed")
    breaker_s: float = Field(default=10.0, gt=0, description="it is not called for so long after 5 failures in a row")
    refresh_s: float = Field(
        default=60.0, gt=0, description="how often settings, throttled resources and interests are asked for again"
    )
    events_limit: int = Field(default=10_000, ge=1, description="events that may wait for it; more are lost")
    options: dict[str, Any] = Field(default_factory=dict, description="what it is made with: keyword arguments")


class PermissionsSection(Section):
    """`[permissions]`: what clients may do about whom their authenticator says nothing."""

    file: str = Field(default="", description="TOML file with rules, read again at SIGHUP; empty = none")
    database: bool = Field(
        default=False,
        description="rules of the admin database hold, too, behind those of the file; with neither all is allowed",
    )
    default: Literal["deny", "allow"] = Field(default="deny", description="where no rule decides")
    denied_publish: Literal["refuse", "disconnect"] = Field(
        default="refuse", description="what a 5.0 client gets: 0x87 in the acknowledgement, or DISCONNECT 0x87"
    )


class LogSection(Section):
    """`[log]`: what goes to stderr and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level shown")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto is console on a terminal and JSON lines elsewhere"
    )


class ServerSection(Section):
    """`[server]`: the process as a whole."""

    id: str = Field(default="", max_length=255, description="names this server to clients of the API; empty = made up")
    reply_timeout_s: float = Field(default=5.0, gt=0, description="for a shard to answer a command")
    stop_grace_s: float = Field(default=3.0, ge=0, le=60, description="for clients to take their last bytes at stop")


class TenantSection(Section):
    """`[tenants.NAME]`: what one tenant has otherwise than the others."""

    settings: Annotated[SettingValues, AfterValidator(_check_settings)] = Field(
        default_factory=dict, description="settings by BifroMQ's names"
    )


class Config(BaseSettings):
    """The whole configuration. Config() is every default; load_config reads the places where operators write."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    insecure: bool = Field(default=False, description="listen beyond this machine although nobody is asked who he is")
    server: ServerSection = ServerSection()
    mqtt: MqttSection = MqttSection()
    listeners: dict[str, ListenerSection] = Field(default_factory=dict)
    connections: ConnectionsSection = ConnectionsSection()
    api: ApiSection = ApiSection()
    data: DataSection = DataSection()
    shards: ShardsSection = ShardsSection()
    authentication: AuthenticationSection = AuthenticationSection()
    jwt: JwtSection = JwtSection()
    certificate: CertificateSection = CertificateSection()
    call_out: CallOutSection = CallOutSection()
    permission_call_out: CallOutSection = CallOutSection()
    permissions: PermissionsSection = PermissionsSection()
    log: LogSection = LogSection()
    settings: Defaults = PROFILES["default"]
    plugins: dict[str, PluginSection] = Field(default_factory=dict)
    tenants: dict[str, TenantSection] = Field(default_factory=dict)
    scram: dict[str, SecretStr] = Field(default_factory=dict)  # tenant/user -> line of a credential

    @property
    def scram_lines(self) -> dict[str, str]:
        """`[scram]` in the clear."""
        return {username: line.get_secret_value() for username, line in self.scram.items()}

    @property
    def binds(self) -> dict[KeyPath, Address]:
        """Every address that is listened on, by the section that names it."""
        binds: dict[KeyPath, Address] = {("mqtt",): self.mqtt.bind, ("api",): self.api.bind}
        return binds | {("listeners", name): section.bind for name, section in self.listeners.items()}

    @property
    def binds_that_ask_nobody(self) -> dict[KeyPath, tuple[Address, str]]:
        """The addresses where everybody is let in, by the section that names them, with the reason."""
        asking_nobody: dict[KeyPath, tuple[Address, str]] = {}
        if not self.api.require_key:
            asking_nobody["api",] = (self.api.bind, "the HTTP API asks nobody who he is (api.require_key)")
        reason = "the development authenticator admits everybody"
        chains: dict[KeyPath, tuple[str, ...]] = {("mqtt",): self.mqtt.authenticators}
        chains |= {("listeners", name): section.authenticators for name, section in self.listeners.items()}
        return {
            path: (self.binds[path], reason)
            for path, chain in chains.items()
            if "development" in (chain or self.authentication.chain)
        } | asking_nobody

    @property
    def listener_chains(self) -> dict[int, tuple[str, ...]]:
        """The authenticators of listeners that have their own, by listener_id."""
        sections: list[MqttSection | ListenerSection] = [self.mqtt, *self.listeners.values()]
        return {number: section.authenticators for number, section in enumerate(sections) if section.authenticators}

    def settings_of(self, tenant_id: str) -> TenantSettings:
        """What is in force for a tenant: its own settings on top of `[settings]`."""
        section = self.tenants.get(tenant_id)
        if section is None:
            return self.settings
        return TenantSettings.from_names(section.settings, base=self.settings)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "Config":
        problems: list[tuple[KeyPath, str]] = []
        for tenant_id in self.tenants:
            try:
                self.settings_of(tenant_id)
            except SettingError as error:
                path = ("tenants", tenant_id, "settings")
                problems.extend(((*path, problem.name), problem.message) for problem in error.problems)
        problems.extend(
            (("listeners", name), f"{name!r} is no name of a listener: a to z, 0 to 9, - and _, and not mqtt or api")
            for name in self.listeners
            if name in ("mqtt", "api") or not re.fullmatch("[a-z0-9_-]{1,64}", name)
        )
        for name, section in self.listeners.items():
            problems.extend((("listeners", name, key), problem) for key, problem in section.problems())
        for username, line in self.scram_lines.items():
            try:
                parse_username(username)
                ScramCredential.parse(line)
            except ValueError as error:
                problems.append((("scram", username), str(error)))
        problems.extend(self._chain_problems())
        if not self.insecure:
            problems.extend(
                (
                    (*path, "bind"),
                    f"{bind} is open to other machines and {reason}; "
                    "bind to 127.0.0.1, or allow it with --insecure (insecure = true)",
                )
                for path, (bind, reason) in self.binds_that_ask_nobody.items()
                if not bind.is_loopback
            )
        if 0 < len(self.api.admin_key.get_secret_value()) < API_KEY_LENGTH_MINIMUM:
            problems.append((("api", "admin_key"), f"is shorter than {API_KEY_LENGTH_MINIMUM} characters"))
        if not self.data.is_memory and Path(self.data.dir).exists() and not Path(self.data.dir).is_dir():
            problems.append((("data", "dir"), f"{self.data.dir} is not a directory"))
        if problems:
            raise Contradiction(problems)
        return self

    def _chain_problems(self) -> Iterator[tuple[KeyPath, str]]:
        if not self.authentication.chain:
            yield ("authentication", "chain"), "is empty, so nobody could connect"
        chains: dict[KeyPath, tuple[str, ...]] = {("authentication", "chain"): self.authentication.chain}
        chains[("mqtt", "authenticators")] = self.mqtt.authenticators
        for listener, listener_section in self.listeners.items():
            chains[("listeners", listener, "authenticators")] = listener_section.authenticators
        for path, each in chains.items():
            for mistake in self._problems_of_chain(each):
                yield path, mistake
        chain = {name for each in chains.values() for name in each}
        if "password-file" in chain and not self.authentication.password_file:
            yield ("authentication", "password_file"), "has to name the file that password-file of the chain reads"
        if "jwt" in chain:
            yield from self._jwt_problems()
        if "call-out" in chain and not self.call_out.url:
            yield ("call_out", "url"), "has to say whom call-out of the chain asks"
        for name, section in (("call_out", self.call_out), ("permission_call_out", self.permission_call_out)):
            problem = check_url(section.url) if section.url else None
            if problem is not None:
                yield (name, "url"), problem

    def _problems_of_chain(self, chain: tuple[str, ...]) -> Iterator[str]:
        for index, name in enumerate(chain):
            if name in chain[:index]:
                yield f"{name} stands there twice"
            elif name.startswith("plugin:"):
                if name.removeprefix("plugin:") not in self.plugins:
                    yield f"there is no section [plugins.{name.removeprefix('plugin:')}] for {name}"
            elif name not in AUTHENTICATORS:
                yield f"expected {', '.join(AUTHENTICATORS)} or plugin:NAME, got {name!r}"
        if "development" in chain[:-1]:
            yield "development admits everybody, so nobody after it would be asked"

    def _jwt_problems(self) -> Iterator[tuple[KeyPath, str]]:
        shared = [algorithm for algorithm in self.jwt.algorithms if algorithm.startswith("HS")]
        if not self.jwt.keys and not self.jwt.secret.get_secret_value():
            yield ("jwt", "keys"), "or jwt.secret has to be set for jwt of the chain"
        if self.jwt.secret.get_secret_value() and not shared:
            yield ("jwt", "secret"), "is for HS256, HS384 or HS512, and jwt.algorithms has none of them"
        problem = check_url(self.jwt.keys) if self.jwt.keys_are_remote else None
        if problem is not None:
            yield ("jwt", "keys"), problem

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: a broker that a test or another program opens must not depend on its surroundings."""
        return (init_settings,)
