"""The configuration as a typed model: its sections, their keys, defaults and ranges.

Constructing Config reads nothing but its arguments, so that a broker that a test or another program opens does not
depend on its surroundings; config_sources.load_config reads the places where operators write.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
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
from .config_fields import Chain, Contradiction, KeyPath, Section, split_chain
from .config_listeners import ApiSection, ConnectionsSection, ListenerSection, MqttSection

MEMORY = "memory"
SHARD_COUNT_MAXIMUM = 64  # the core names the shards that want a topic filter by the bits of one word
AUTHENTICATORS = ("development", "password-file", "users", "jwt", "call-out", "certificate")  # that a chain may name

SettingValues = dict[str, bool | int | str]  # by BifroMQ's names


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


Defaults = Annotated[TenantSettings, PlainValidator(_parse_settings), PlainSerializer(TenantSettings.to_names)]


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
    log_qos0: bool = Field(
        default=False,
        description="messages of QoS 0 that wait for a persistent session are kept over a restart, too",
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

    algorithms: Annotated[tuple[JwtAlgorithm, ...], BeforeValidator(split_chain)] = Field(
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
        if not self.api.asks_who_calls:
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
        problems.extend((("api", *path), problem) for path, problem in self.api.problems())
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
