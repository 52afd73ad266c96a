"""The certificate of a TLS client as authenticator: its subject or an alternative name says tenant and user.

The handshake has verified it: who comes here holds its key, and an authority of the listener has signed it. A client
without a certificate is left to the next authenticator; one whose certificate does not name exactly one tenant and one
user is refused. The connection ends with the certificate.
"""

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode

from .authenticator import Admitted, Decision, Refused
from .certificate_terms import CertificateTerms
from .chain import NOT_MINE, NotMine
from .peer_certificate import InvalidCertificate, PeerCertificate

_UNREADABLE = Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "the certificate cannot be read")
_NAMELESS = Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "the certificate does not name one tenant and one user")
_OTHER_NAME = Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "the user name is not that of the certificate")


class CertificateAuthenticator:
    """Admits whoever has a certificate that names him."""

    leaves_lastingly = True

    def __init__(self, terms: CertificateTerms) -> None:
        self._terms = terms

    def decide(self, request: ConnectRequested) -> Decision | NotMine:
        """At once."""
        try:
            if request.certificate is not None:
                certificate = PeerCertificate.from_der(request.certificate)
            elif request.certificate_name is not None:
                certificate = PeerCertificate.from_common_name(request.certificate_name)
            else:
                return NOT_MINE
        except InvalidCertificate:
            return _UNREADABLE
        names = self._names_of(certificate)
        if names is None:
            return _NAMELESS
        tenant_id, user_id = names
        expected = {"user": user_id, "tenant/user": f"{tenant_id}/{user_id}"}.get(self._terms.username)
        if expected is not None and request.username != expected:
            return _OTHER_NAME
        attributes = {}
        if certificate.fingerprint:
            attributes = {
                "certificate_serial": certificate.serial_number,
                "certificate_sha256": certificate.fingerprint,
            }
        return Admitted(tenant_id, user_id, attributes, expires_at_s=certificate.expires_at_s)

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        """The same decision; the chain asks for decide, which costs no task."""
        return self.decide(request)

    def _names_of(self, certificate: PeerCertificate) -> tuple[str, str] | None:
        """Tenant and user."""
        terms = self._terms
        tenant_id: str | None = terms.tenant
        user_id = _only(certificate, terms.user_field)
        if user_id is not None and terms.user_pattern is not None:
            found = terms.user_pattern.fullmatch(user_id)
            if found is None:
                return None
            groups = found.groupdict()
            user_id = groups["user"]
            tenant_id = tenant_id or groups.get("tenant")
        tenant_id = tenant_id or _only(certificate, terms.tenant_field)
        if not tenant_id or not user_id or "\0" in tenant_id + user_id or "/" in tenant_id:
            return None
        return tenant_id, user_id


def _only(certificate: PeerCertificate, field: str) -> str | None:
    """The value of a field that has exactly one: which of several is meant nobody can say."""
    values = certificate.values.get(field, ())
    return values[0] if len(values) == 1 else None
