"""What a plugin may be: ordinary classes with asynchronous methods, one Protocol per extension point.

A plugin is made by calling what the configuration names with its options; it is whatever of these it has the methods
of, several at once if it likes. It may be an asynchronous context manager: it is entered before the first call and
left after the last. docs/plugins.md is the guide.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rookery.core.permissions.rule import Rule
from rookery.core.quotas import ResourceState
from rookery.core.wire.spec import QoS
from rookery.server.auth.authenticator import Authenticator, EnhancedAuthenticator, UserProperties
from rookery.server.events import Event

SettingValues = Mapping[str, bool | int | str]  # by BifroMQ's names, as in the configuration

# Decides who a client is: an Authenticator like those that are built in.
AuthProvider = Authenticator


@dataclass(frozen=True, slots=True)
class Client:
    """A client that was authenticated and is about to be admitted."""

    tenant_id: str
    user_id: str
    client_id: str  # empty when the server will choose it
    protocol_version: int  # 3, 4 or 5
    peer: str  # "host:port"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a client is to go instead."""

    server_reference: str = ""  # told to 5.0 clients; empty = they have to know
    is_permanent: bool = False  # 0x9D Server moved, else 0x9C Use another server


@dataclass(frozen=True, slots=True)
class Interest:
    """Messages that a SubBroker wants."""

    tenant_id: str
    topic_filter: str  # with wildcards if it likes; also $share/{name}/{filter}
    qos: QoS = QoS.AT_MOST_ONCE  # 0, or 1: what it takes is acknowledged


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message for a SubBroker, as a client of 5.0 would get it."""

    tenant_id: str
    topic: str
    payload: bytes
    qos: QoS  # 0 or 1: the lower one of publication and interest
    retain: bool  # as it was published
    is_repeated: bool  # it may have come before
    message_expiry_interval: int | None  # seconds that are left; None = no end
    is_text: bool  # the publisher says that the payload is UTF-8
    content_type: str | None
    response_topic: str | None
    correlation_data: bytes | None
    user_properties: UserProperties


@runtime_checkable
class SubBroker(Protocol):
    """Takes messages to something that is no MQTT client: a queue, a database, a file."""

    async def interests(self) -> Collection[Interest]:
        """All messages that it wants. Asked at the start and every refresh_s; a call that fails changes nothing."""
        ...

    async def deliver(self, messages: Sequence[Delivered]) -> None:
        """1 to 256 messages of one tenant, in order. Calls for several tenants may be in work at once.

        When it returns, messages of QoS 1 are acknowledged. When it raises or takes longer than timeout_s, they are
        brought again after a pause, and those of QoS 0 are lost; nothing else of the tenant comes meanwhile.
        """
        ...


@runtime_checkable
class SettingProvider(Protocol):
    """Has settings for tenants, on top of those of the configuration."""

    async def provide_settings(self, tenant_id: str) -> SettingValues | None:
        """The settings of a tenant that differ, or None to leave all as they are.

        Asked when the first client of a tenant comes, and again every refresh_s of the plugin's section. An unknown
        name or a value out of range is logged and the old value stays, as it does when the call fails.
        """
        ...


@runtime_checkable
class PermissionProvider(Protocol):
    """Has permission rules for clients whose authenticator gave none."""

    async def provide_rules(self, client: Client) -> Sequence[Rule] | None:
        """The rules of a client, 1000 at most; None: the next provider may know, and at last file and database.

        Asked for each client that was admitted. When the call fails, the tenant's ByPassPermCheckError decides.
        """
        ...


@runtime_checkable
class EventCollector(Protocol):
    """Is told what happens."""

    @property
    def event_types(self) -> Sequence[type[Event]]:
        """What it wants to hear of; a base class stands for all that derive from it. Read once."""
        ...

    async def collect(self, event: Event) -> None:
        """One event, in order, one at a time. While it takes long events wait in a bounded queue and are then lost."""
        ...


@runtime_checkable
class ClientBalancer(Protocol):
    """Sends clients to other servers."""

    async def balance(self, client: Client) -> Redirect | None:
        """Where the client is to go instead; None: it is welcome here. A call that fails lets it stay."""
        ...


@runtime_checkable
class UserPropertiesCustomizer(Protocol):
    """Adds user properties to what clients publish."""

    async def customize_user_properties(self, client: Client) -> Iterable[tuple[str, str]]:
        """Names and values that every message of this connection gets, its will included, behind its own.

        Asked once for each client that was admitted, never for a message. They go to subscribers of 5.0, also when
        the publisher is a client of 3.x. 4096 bytes in all, with those of other plugins. A call that fails, or gives
        what cannot be sent, lets the client in without them.
        """
        ...


@runtime_checkable
class ResourceThrottler(Protocol):
    """Says which resources a tenant has no more of."""

    async def throttled_resources(self, tenant_id: str, resources: Sequence[ResourceState]) -> Collection[str]:
        """The names of the resources that are refused to the tenant until the next answer; empty = none.

        resources is what the tenant has of each now, with its limits and how often they were hit. Asked every
        refresh_s of the plugin's section about each tenant that has had clients, never while a client waits. A call
        that fails leaves the last answer in force; unknown names are logged.
        """
        ...


POINTS: tuple[type, ...] = (
    Authenticator,
    EnhancedAuthenticator,
    PermissionProvider,
    SettingProvider,
    EventCollector,
    ClientBalancer,
    UserPropertiesCustomizer,
    ResourceThrottler,
    SubBroker,
)
