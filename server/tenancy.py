"""Of which tenant a client is, where the way on which it comes says so.

A listener may have one tenant, or tell it by the server name (SNI), the path of a WebSocket or the certificate of each
client. Authenticators then look for the client in this tenant, and nobody is admitted to another one.
"""

from dataclasses import dataclass
from urllib.parse import unquote

from .auth.peer_certificate import InvalidCertificate, PeerCertificate
from .config import Config
from .config_listeners import ListenerSection

UNKNOWN = ""  # instead of a tenant: the listener should know one, and does not


@dataclass(frozen=True, slots=True)
class Approach:
    """What is known of the way on which a client came in."""

    server_name: str = ""  # that it has named in TLS, in small letters
    path: str = ""  # of its WebSocket, without the query
    certificate: bytes | None = None  # DER, verified
    certificate_name: str | None = None  # the common name, where a proxy tells no more of it


class Tenancy:
    """The rules of all listeners."""

    def __init__(self, config: Config) -> None:
        self._fixed = (config.mqtt.tenant, *(section.tenant for section in config.listeners.values()))
        self._tenant_field = config.certificate.terms.tenant_field

    def tenant_of_listener(self, listener_id: int) -> str | None:
        """The tenant of all its clients; None = it has none."""
        return self._fixed[listener_id] or None

    def tenant_of(self, section: ListenerSection, approach: Approach) -> str | None:
        """That of a client that came in so; None = any, UNKNOWN = it should have one."""
        if section.tenant_from == "server_name":
            label, dot, _ = approach.server_name.partition(".")
            return label if dot else UNKNOWN
        if section.tenant_from == "path":
            return tenant_of_path(approach.path, section.path) or UNKNOWN
        if section.tenant_from == "certificate":
            return self._tenant_of_certificate(approach)
        return section.tenant or None

    def _tenant_of_certificate(self, approach: Approach) -> str:
        try:
            if approach.certificate is not None:
                certificate = PeerCertificate.from_der(approach.certificate)
            elif approach.certificate_name is not None:
                certificate = PeerCertificate.from_common_name(approach.certificate_name)
            else:
                return UNKNOWN
        except InvalidCertificate:
            return UNKNOWN
        values = certificate.values.get(self._tenant_field, ())
        return values[0] if len(values) == 1 and _may_be_tenant(values[0]) else UNKNOWN


def tenant_of_path(path: str, base: str) -> str | None:
    """`acme` of `/mqtt/acme`, where base is `/mqtt`; None when the path is no such one."""
    parent, _, last = path.rpartition("/")
    try:
        tenant_id = unquote(last, errors="strict")
    except UnicodeDecodeError:
        return None
    return tenant_id if parent == base.rstrip("/") and _may_be_tenant(tenant_id) else None


def _may_be_tenant(text: str) -> bool:
    return bool(text) and "/" not in text and "\0" not in text and len(text.encode()) <= 65535
