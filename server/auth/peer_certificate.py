"""What the certificate of a client says of it. The TLS handshake has shown that it is genuine."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID, NameOID

_SHA256 = hashes.SHA256()
# Fields that may name a tenant or a user, as the configuration writes them.
_SUBJECT = {
    "subject.CN": NameOID.COMMON_NAME,
    "subject.O": NameOID.ORGANIZATION_NAME,
    "subject.OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "subject.UID": NameOID.USER_ID,
    "subject.serialNumber": NameOID.SERIAL_NUMBER,
    "subject.DC": NameOID.DOMAIN_COMPONENT,
    "subject.emailAddress": NameOID.EMAIL_ADDRESS,
}
_ALTERNATIVE: dict[str, type[x509.GeneralName]] = {
    "san.dns": x509.DNSName,
    "san.uri": x509.UniformResourceIdentifier,
    "san.email": x509.RFC822Name,
}


class InvalidCertificate(ValueError):
    """A certificate of which nothing can be told."""


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The fields of a certificate that name somebody, and when it ends."""

    values: dict[str, tuple[str, ...]]  # by field, as above; without those that it does not have
    serial_number: str  # in hexadecimal digits; empty = unknown
    expires_at_s: float | None  # seconds of the epoch; None = unknown
    fingerprint: str = field(repr=False)  # SHA-256, in hexadecimal digits; empty = unknown

    @classmethod
    def from_common_name(cls, name: str) -> "PeerCertificate":
        """All that a proxy tells of one that it has verified."""
        return cls({"subject.CN": (name,)}, "", None, "")

    @classmethod
    def from_der(cls, der: bytes) -> "PeerCertificate":
        """Raises InvalidCertificate. Some 50 us."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            values: dict[str, tuple[str, ...]] = {}
            subject = certificate.subject
            for name, oid in _SUBJECT.items():
                found = tuple(str(attribute.value) for attribute in subject.get_attributes_for_oid(oid))
                if found:
                    values[name] = found
            values.update(_alternative_names(certificate))
            return cls(
                values,
                f"{certificate.serial_number:x}",
                certificate.not_valid_after_utc.timestamp(),
                certificate.fingerprint(_SHA256).hex(),
            )
        except (ValueError, TypeError, OverflowError, x509.InvalidVersion, x509.DuplicateExtension) as error:
            raise InvalidCertificate(f"the certificate cannot be read: {error}") from None


def _alternative_names(certificate: x509.Certificate) -> dict[str, tuple[str, ...]]:
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return {}
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    found = {}
    for name, kind in _ALTERNATIVE.items():
        values = tuple(str(each.value) for each in extension.value if isinstance(each, kind))
        if values:
            found[name] = values
    return found
