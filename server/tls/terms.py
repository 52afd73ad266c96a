"""What a TLS listener asks for: files and rules, as the configuration gives them."""

from dataclasses import dataclass
from typing import Literal

ClientCertificates = Literal["none", "optional", "required"]
TlsVersion = Literal["1.2", "1.3"]


@dataclass(frozen=True, slots=True)
class TlsTerms:
    """Of one listener."""

    certificate_files: tuple[str, ...]  # PEM, each with its chain; the first is for whoever names no host
    key_files: tuple[str, ...]  # PEM, one per certificate; empty = each in the file of its certificate
    client_certificates: ClientCertificates = "none"
    client_ca_files: tuple[str, ...] = ()  # PEM: who may have signed certificates of clients
    client_crl_files: tuple[str, ...] = ()  # PEM: which of them were revoked
    version_minimum: TlsVersion = "1.2"
    ciphers: str = ""  # of TLS 1.2, in OpenSSL's words; empty = OpenSSL's choice
    ciphersuites: str = ""  # of TLS 1.3
    groups: str = ""  # for the agreement on keys
    session_lifetime_s: int = 7200  # for which a client may resume; 0 = never
    protocols: tuple[bytes, ...] = (b"mqtt",)  # that ALPN may choose from

    @property
    def files(self) -> tuple[str, ...]:
        """All that are read."""
        return (*self.certificate_files, *self.key_files, *self.client_ca_files, *self.client_crl_files)
